"""Whatever is done to the record in ClickHouse, verification names it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from nats.js import JetStreamContext

from contracts.anchors import Anchor
from contracts.proof import Code, Finding
from contracts.streams import SESSIONS
from contracts.wire import Recorded
from services.audit.anchoring import Anchorer
from services.audit.clickhouse import Store
from services.audit.settings import AuditSettings
from services.audit.sink import KINDS, Sink
from services.runtime import bus, signing
from services.runtime.clickhouse import ClickHouse as Connection
from services.runtime.evidence import Evidence
from services.runtime.signing import PublicKeys
from services.runtime.verification import Verifier
from tests.integration.installation import installation
from tests.integration.servers import ClickHouse, NatsServer
from tests.integration.stories import NOON, Story, publish
from tests.integration.test_audit import BATCH_SECONDS_MAX
from tests.integration.test_cli import vsay

WAIT_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02
NOW_AND_HERE = "SETTINGS mutations_sync = 2"


@pytest.fixture
def settings(nats_server: NatsServer, clickhouse: ClickHouse, tmp_path: Path) -> AuditSettings:
    return AuditSettings(
        nats_url=nats_server.url,
        clickhouse_url=clickhouse.url,
        stream_bytes_max=1_000_000_000,
        batch_seconds_max=BATCH_SECONDS_MAX,
        secrets_dir=str(tmp_path / "secrets"),
        signing_key="signing",
    )


@pytest.fixture
async def jetstream(settings: AuditSettings) -> AsyncIterator[JetStreamContext]:
    nats = await bus.connect(settings, "test")
    jetstream = nats.jetstream()
    await bus.declare(jetstream, settings)
    await signing.create(jetstream, Path(settings.secrets_dir), settings.signing_key)
    yield jetstream
    await nats.close()


@pytest.fixture
async def store(settings: AuditSettings) -> AsyncIterator[Store]:
    store = Store.open(settings)
    await store.migrate()
    yield store
    await store.close()


@asynccontextmanager
async def sinking(jetstream: JetStreamContext, store: Store, settings: AuditSettings) -> AsyncIterator[None]:
    sinks = [Sink(jetstream, store, settings, kind) for kind in KINDS]
    tasks = [asyncio.create_task(sink.run()) for sink in sinks]
    try:
        yield
    finally:
        for sink in sinks:
            sink.stop()
        await asyncio.gather(*tasks)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not await condition():
        assert time.monotonic() < deadline, "it has not come about in time"
        await asyncio.sleep(LOOK_SECONDS)


async def settle(jetstream: JetStreamContext) -> None:
    """Returns once ClickHouse has all that the streams have."""

    async def is_settled() -> bool:
        for consumer in (kind.consumer for kind in KINDS):
            info = await jetstream.consumer_info(consumer.stream, consumer.durable)
            if info.num_pending or info.num_ack_pending:
                return False
        return True

    await until(is_settled)


def story(session_id: str, settings: AuditSettings, *, outputs: int = 5, ended: bool = True) -> Story:
    """A session, signed if it has ended: 2 events, the outputs, and the end."""
    told = Story(session_id, at=NOON).claimed().started()
    for number in range(outputs):
        told.later(seconds=1).output(f"{session_id} {number}\n".encode())
    if ended:
        signer = signing.read(Path(settings.secrets_dir), settings.signing_key)
        told.ended(key_id=signer.key_id)
        last, before = told.events[-1], told.events[-2]
        signed = replace(last, data=signer.sign(last.statement(before.chain)))
        told.events[-1] = replace(signed, chain=signed.link(before.chain))
    return told


def named(findings: list[Finding]) -> set[tuple[str | None, Code, int | None]]:
    return {
        (each.session_id, each.code, each.seq if each.anchor is None else each.anchor) for each in findings if not each.is_notice
    }


async def found(settings: AuditSettings, jetstream: JetStreamContext) -> set[tuple[str | None, Code, int | None]]:
    """What verifying everything names: session, code, and event or anchor."""
    connection = Connection(settings)
    try:
        verifier = Verifier(Evidence(connection), jetstream, await PublicKeys.load(jetstream))
        findings = list((await verifier.anchors()).findings)
        async for report in verifier.sessions():
            findings += report.findings
        return named(findings)
    finally:
        await connection.close()


async def record_and_anchor(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, *ended: str, running: str | None = None
) -> dict[str, list[Recorded]]:
    """Sessions in the stream, in ClickHouse and in anchor 1 (their beginning) and 2 (all of them)."""
    stories = {session_id: story(session_id, settings) for session_id in ended}
    if running:
        stories[running] = story(running, settings, ended=False)
    async with sinking(jetstream, store, settings):
        for part in (slice(0, 3), slice(3, None)):
            for told in stories.values():
                await publish(jetstream, *told.events[part])
            await settle(jetstream)
            assert await Anchorer(jetstream, store, settings).anchor()
        await settle(jetstream)
    return {session_id: told.events for session_id, told in stories.items()}


def alter(clickhouse: ClickHouse, table: str, change: str) -> None:
    clickhouse.query(f"ALTER TABLE vsay.{table} {change} {NOW_AND_HERE}")


async def test_a_record_that_nobody_touched_is_whole(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    rows = await record_and_anchor(settings, jetstream, store, "sess_1", "sess_2", running="sess_3")
    assert await found(settings, jetstream) == set()
    await store.insert_events(rows["sess_1"])
    assert await found(settings, jetstream) == set(), "rows may be there twice"
    connection = Connection(settings)
    report = await Verifier(Evidence(connection), jetstream, await PublicKeys.load(jetstream)).session("sess_1")
    await connection.close()
    assert (report.events, report.head_seq, report.is_ended, report.anchored_seq) == (8, 8, True, 8)
    assert (report.chain, report.errors) == (rows["sess_1"][-1].chain, 0)
    assert report.key_id == signing.read(Path(settings.secrets_dir), settings.signing_key).key_id


async def test_every_tampering_is_named(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    ids = ("altered", "removed", "swapped", "beheaded", "cut", "dropped", "rewritten", "forged", "whole")
    rows = await record_and_anchor(settings, jetstream, store, *(f"sess_{id_}" for id_ in ids), running="sess_running")

    alter(clickhouse, "events", "UPDATE data = 'something else' WHERE session_id = 'sess_altered' AND seq = 4")
    alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_removed' AND seq IN (4, 5)")
    alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_swapped' AND seq IN (4, 6)")
    fourth, sixth = rows["sess_swapped"][3], rows["sess_swapped"][5]
    await store.insert_events([replace(fourth, seq=6), replace(sixth, seq=4)])
    alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_beheaded' AND seq = 1")
    alter(clickhouse, "events", "DELETE WHERE session_id IN ('sess_cut', 'sess_running') AND seq > 5")
    for table in ("events", "session_parts"):
        alter(clickhouse, table, "DELETE WHERE session_id = 'sess_dropped'")

    rewritten = list(rows["sess_rewritten"])
    rewritten[3] = replace(rewritten[3], data=b"made up")
    for index in range(3, len(rewritten)):
        rewritten[index] = replace(rewritten[index], chain=rewritten[index].link(rewritten[index - 1].chain))
    alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_rewritten'")
    await store.insert_events(rewritten)
    clickhouse.query("SYSTEM STOP MERGES vsay.events")
    await store.insert_events([replace(rows["sess_forged"][4], data=b"made up")])

    tampered = {
        ("sess_altered", Code.ALTERED_EVENT, 4),
        ("sess_removed", Code.MISSING_EVENT, 4),
        ("sess_swapped", Code.REORDERED_EVENT, 4),
        ("sess_swapped", Code.REORDERED_EVENT, 6),
        ("sess_beheaded", Code.MISSING_EVENT, 1),
        ("sess_cut", Code.MISSING_TAIL, 2),
        ("sess_running", Code.MISSING_TAIL, 2),
        ("sess_dropped", Code.MISSING_SESSION, None),
        ("sess_rewritten", Code.BAD_SIGNATURE, 8),
        ("sess_rewritten", Code.ANCHOR_MISMATCH, 2),
    }
    assert await found(settings, jetstream) == tampered | {("sess_forged", Code.CONFLICTING_EVENT, 5)}
    clickhouse.query("SYSTEM START MERGES vsay.events")
    clickhouse.query("OPTIMIZE TABLE vsay.events FINAL")
    assert await found(settings, jetstream) == tampered | {("sess_forged", Code.ALTERED_EVENT, 5)}, "the later row has won"


async def test_what_is_tampered_with_before_an_anchor_is_named_too(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    async with sinking(jetstream, store, settings):
        for session_id in ("sess_cut", "sess_dropped", "sess_ended"):
            await publish(jetstream, *story(session_id, settings, ended=session_id != "sess_cut").events)
        await settle(jetstream)
        alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_cut' AND seq > 3")
        alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_ended' AND seq > 3")
        alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_dropped'")
        assert await found(settings, jetstream) == {
            ("sess_cut", Code.MISSING_TAIL, 4),
            ("sess_ended", Code.MISSING_TAIL, 4),
        }, "the stream still knows"
        assert await Anchorer(jetstream, store, settings).anchor(), "it is made from the stream"
        await settle(jetstream)
        assert ("sess_dropped", Code.MISSING_SESSION, None) in await found(settings, jetstream)
        await jetstream.purge_stream(SESSIONS.name)
        alter(clickhouse, "anchors", "DELETE WHERE 1")
        assert await found(settings, jetstream) == {
            ("sess_cut", Code.MISSING_END, 4),
            ("sess_ended", Code.MISSING_END, 4),
            (None, Code.MISSING_ANCHOR, 1),
        }


async def test_tampering_with_anchors_is_named(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    anchored: list[Anchor] = []
    async with sinking(jetstream, store, settings):
        for number in range(1, 6):
            await publish(jetstream, *story(f"sess_{number}", settings, outputs=1).events)
            await settle(jetstream)
            made = await Anchorer(jetstream, store, settings).anchor()
            assert made
            anchored.append(made)
        await settle(jetstream)
    assert [made.number for made in anchored] == [1, 2, 3, 4, 5]
    assert await found(settings, jetstream) == set()

    alter(clickhouse, "anchors", "UPDATE seqs = arrayMap(x -> x - 1, seqs) WHERE number = 2")
    alter(clickhouse, "anchors", "DELETE WHERE number IN (3, 5)")
    named_now = await found(settings, jetstream)
    assert {each for each in named_now if each[0] is None} == {
        (None, Code.ALTERED_ANCHOR, 2),
        (None, Code.MISSING_ANCHOR, 3),
        (None, Code.MISSING_ANCHOR, 5),
    }
    assert ("sess_2", Code.ANCHOR_MISMATCH, 2) in named_now


async def test_the_command_says_what_is_wrong_and_where(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    await record_and_anchor(settings, jetstream, store, "sess_1", "sess_2")

    async def verify(*arguments: str) -> tuple[int, list[str], str]:
        where = {"nats_url": settings.nats_url, "clickhouse_url": clickhouse.url}
        status, out, err = await vsay("audit", "verify", *arguments, home=tmp_path, **where)
        return status, out.splitlines(), err

    status, out, err = await verify()
    assert (status, err, out[-1]) == (0, "", "2 sessions with 16 events and 0 access entries: nothing wrong")
    assert out[0].startswith("2 anchors; the newest is 2:")
    assert (await verify("--from", "2024-01-02", "--to", "2024-01-03"))[:2] == (
        0,
        ["no anchors", "no access anchors", "0 sessions with 0 events and 0 access entries: nothing wrong"],
    )

    noted = out[0].rpartition(" ")[2]
    assert (await verify("--anchor", noted))[0] == 0
    status, out, _ = await verify("--anchor", noted[:-1] + ("0" if noted[-1] != "0" else "1"), "--anchor", f"7:{'0' * 64}")
    assert (status, [line.partition(" is ")[0] for line in out if line.startswith("anchor ")]) == (
        3,
        ["anchor 2: altered_anchor: anchor 2", "anchor 7: missing_anchor: anchor 7"],
    )
    assert (await verify("--anchor", "two"))[0] == 2

    exported = tmp_path / "keys.json"
    exported.write_text((await vsay("keys", "export", nats_url=settings.nats_url, home=tmp_path))[1])
    assert (await verify("--keys", str(exported)))[0] == 0
    exported.write_text("[]")
    status, out, _ = await verify("--keys", str(exported), "sess_1")
    assert status == 3
    assert "sess_1 event 8: unknown_key: " in "\n".join(out)

    alter(clickhouse, "events", "DELETE WHERE session_id = 'sess_1' AND seq = 4")
    status, out, err = await verify("sess_1")
    assert (status, out, err) == (
        3,
        ["sess_1 event 4: missing_event: event 4 is missing", "1 sessions with 7 events: 1 wrong"],
        "",
    )
    assert (await verify("sess_2"))[0] == 0
    assert (await verify("sess_nobody"))[::2] == (1, "vsay: there is no session sess_nobody\n")
    assert (await verify("--from", "yesterday"))[0] == 2
    status, _, err = await verify("--keys", str(tmp_path / "none.json"))
    assert (status, err.startswith("vsay: ")) == (1, True)


async def test_the_api_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    with installation(tmp_path, VSAY_SIGNING_KEY="signing", VSAY_ANCHOR_SECONDS="0.2") as parts:
        clickhouse = parts.clickhouse()
        tokens = await parts.declare()
        async with parts.jetstream() as jetstream:
            await signing.create(jetstream, parts.secrets, "signing")
        parts.start("audit")
        api = parts.start("session_api")
        parts.start("ssh_worker")
        client, auditor = (parts.client(api, tokens[user]) for user in ("usr_123", "usr_auditor"))
        ticket = await client.open("mch_456")
        path = f"/v1/sessions/{ticket['session_id']}/verification"
        async with client.terminal(ticket) as terminal:
            await terminal.type("echo mar''ker\n")
            await terminal.shows("marker")
            running = await client.data("GET", path)
            assert (running["verified"], running["ended"], running["key_id"]) == (True, False, None)
            await terminal.type("exit\n")
            await terminal.until("disconnect")

        async def is_anchored() -> bool:
            answer = await client.data("GET", path)
            return bool(answer["ended"] and answer["anchored_seq"] == answer["head_seq"])

        await until(is_anchored)
        whole = await client.data("GET", path)
        assert (whole["verified"], whole["findings"], whole["findings_count"]) == (True, [], 0)
        assert whole["events"] == whole["head_seq"] == len(await parts.record(ticket["session_id"]))
        assert whole["key_id"].startswith("key_")
        assert (await parts.client(api, tokens["usr_other"]).call("GET", path))[0] == 404

        where = f"WHERE session_id = '{ticket['session_id']}'"
        await asyncio.to_thread(alter, clickhouse, "events", f"UPDATE attrs = '{{}}' {where} AND seq = 2")
        altered = await auditor.data("GET", path)
        assert (altered["verified"], altered["findings_count"]) == (False, 1)
        assert [(each["code"], each["seq"]) for each in altered["findings"]] == [("altered_event", 2)]

        for table in ("events", "session_parts"):
            await asyncio.to_thread(alter, clickhouse, table, f"DELETE {where}")
        async with parts.jetstream() as jetstream:
            live = await jetstream.key_value("live")
            await live.purge(ticket["session_id"])
        dropped = await auditor.data("GET", path)
        assert [each["code"] for each in dropped["findings"]] == ["missing_session"], json.dumps(dropped)
        assert (await client.call("GET", path))[0] == 404
        assert (await parts.client(api, tokens["usr_foreign"]).call("GET", path))[0] == 404

        async def is_listed() -> bool:
            entries = (await auditor.data("GET", "/v1/access?user_id=usr_auditor"))["access"]
            return [each["action"] for each in entries].count("verification") == 2

        await until(is_listed)
