"""Whatever is done in ClickHouse to the entries of who read records, verification names it; and what nobody touched is whole."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from contracts import access, subjects
from contracts.access import Access, Action, Reader
from contracts.access_check import EntryCode
from contracts.anchors import AccessAnchor
from contracts.proof import Code
from contracts.streams import ACCESS, ACCESS_ANCHORS, AUDIT_ACCESS
from services.audit.access_anchoring import AccessAnchorer
from services.audit.anchoring import Anchorer
from services.audit.clickhouse import Quarantined, Store
from services.audit.horizon import _anchored_access, purge_moved
from services.audit.settings import AuditSettings
from services.runtime import bus
from services.runtime.access_evidence import AccessEvidence
from services.runtime.access_verification import AccessVerifier, EntriesReport
from services.runtime.anchors import OF_ACCESS, newest_anchor
from services.runtime.clickhouse import ClickHouse as Connection
from services.runtime.signing import PublicKeys
from services.runtime.verification import AnchorsReport
from tests.integration.servers import ClickHouse
from tests.integration.stories import EPOCH, NOON, publish
from tests.integration.test_cli import vsay
from tests.integration.test_verification import (
    alter,
    found,
    jetstream,
    record_and_anchor,
    settings,
    settle,
    sinking,
    store,
    story,
)

__all__ = ("jetstream", "settings", "store")  # fixtures


def reading(number: int, org_id: str = "org_acme", at: datetime = NOON) -> Access:
    return Access(
        id=f"acc_{number}",
        at=(at + timedelta(seconds=number) - EPOCH) // timedelta(microseconds=1),
        org_id=org_id,
        user=Reader("usr_123" if number % 2 else "os:root", f"Jürgen {number}", "j@example.com"),
        role="auditor",
        action=Action.LOGS.value,
        session_id="" if number % 3 else "sess_1",
        detail='{"q": "ß"}',
        ip_address="192.0.2.1",
        user_agent="curl/8",
    )


async def read(jetstream: JetStreamContext, numbers: Iterable[int], at: datetime = NOON) -> None:
    """Entries of two organizations, in turn."""
    for number in numbers:
        entry = reading(number, "org_other" if number % 4 == 0 else "org_acme", at)
        await jetstream.publish(subjects.access(entry.org_id), access.encode(entry), stream=ACCESS.name)


async def anchored(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, *parts: Iterable[int]
) -> list[AccessAnchor | None]:
    """Each part in the stream, in ClickHouse, and under an anchor of its own."""
    made = []
    async with sinking(jetstream, store, settings):
        for part in parts:
            await read(jetstream, part)
            await settle(jetstream)
            made.append(await AccessAnchorer(jetstream, store, settings).anchor())
        await settle(jetstream)
    return made


async def checked(
    settings: AuditSettings, jetstream: JetStreamContext, since: datetime | None = None, until: datetime | None = None
) -> tuple[AnchorsReport, EntriesReport]:
    connection = Connection(settings)
    try:
        verifier = AccessVerifier(AccessEvidence(connection), jetstream, await PublicKeys.load(jetstream))
        return await verifier.anchors(since, until), await verifier.entries(since, until)
    finally:
        await connection.close()


def named(report: EntriesReport) -> set[tuple[EntryCode, int | None, str, int | None]]:
    """Code, place, id and anchor of everything that is wrong; every time said is that of the entry."""
    for each in report.findings:
        if not each.is_notice:
            assert (EPOCH + timedelta(microseconds=each.at)).isoformat() in each.message
    found = {(each.code, each.stream_seq, each.id, each.anchor) for each in report.findings if not each.is_notice}
    assert len(found) == report.errors
    return found


def whole(report: EntriesReport, entries: int, anchored: int, unanchored: int = 0, not_covered: int = 0) -> bool:
    wanted = (entries, anchored, unanchored, not_covered, 0)
    seen = (report.entries, report.anchored, report.unanchored, report.not_covered, report.errors)
    assert seen == wanted, report.findings
    return True


def replaced(clickhouse: ClickHouse, place: int, changes: str) -> None:
    """The row in this place as it would be with these columns changed, instead of it; for columns that no UPDATE may change."""
    clickhouse.query("CREATE TABLE vsay.kept AS vsay.access_entries ENGINE = Memory")
    clickhouse.query(f"INSERT INTO vsay.kept SELECT * REPLACE ({changes}) FROM ({_row(place)})")
    alter(clickhouse, "access_entries", f"DELETE WHERE stream_seq = {place}")
    clickhouse.query("INSERT INTO vsay.access_entries SELECT * FROM vsay.kept")
    clickhouse.query("DROP TABLE vsay.kept")


def added(clickhouse: ClickHouse, place: int, changes: str) -> None:
    """One more row, like the one in this place but for these columns."""
    clickhouse.query(f"INSERT INTO vsay.access_entries SELECT * REPLACE ({changes}) FROM ({_row(place)})")


def _row(place: int) -> str:
    return f"SELECT * FROM vsay.access_entries WHERE stream_seq = {place}"


COLUMNS = {
    "id": "'acc_forged'",
    "at": "at + toIntervalMicrosecond(1)",
    "org_id": "'org_else'",
    "user_id": "'usr_else'",
    "user_name": "concat(user_name, '\\xff')",
    "user_email": "''",
    "role": "'admin'",
    "action": "'search'",
    "session_id": "'sess_2'",
    "detail": "'{}'",
    "ip_address": "'192.0.2.2'",
    "user_agent": "'curl/9'",
    "stream_seq": "1000",
}


async def test_every_tampering_is_named(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    await anchored(settings, jetstream, store, range(1, 21), range(21, 31))
    anchors, before = await checked(settings, jetstream)
    assert (anchors.anchors, anchors.errors) == (2, 0)
    assert whole(before, entries=30, anchored=30)
    await jetstream.purge_stream(ACCESS.name)  # as after the resume horizon: anchors alone know what there was
    assert whole((await checked(settings, jetstream))[1], entries=30, anchored=30)

    columns = clickhouse.query("SELECT name FROM system.columns WHERE database = 'vsay' AND table = 'access_entries'").split()
    assert set(columns) == {*COLUMNS, "stored_at"}, "a new column is to be under the digest, and altered here"
    for place, (column, changed) in enumerate(COLUMNS.items(), start=1):
        await asyncio.to_thread(replaced, clickhouse, place, f"{changed} AS {column}")
    expected = {(EntryCode.ALTERED_ENTRY, place, f"acc_{place}", 1) for place in range(1, 13)}
    expected |= {(EntryCode.MISSING_ENTRY, 13, "acc_13", 1), (EntryCode.ADDED_ENTRY, 1000, "acc_13", None)}
    assert named((await checked(settings, jetstream))[1]) == expected

    await asyncio.to_thread(alter, clickhouse, "access_entries", "DELETE WHERE stream_seq IN (14, 29, 30)")
    expected |= {(EntryCode.MISSING_ENTRY, place, f"acc_{place}", anchor) for place, anchor in ((14, 1), (29, 2), (30, 2))}
    await asyncio.to_thread(replaced, clickhouse, 15, "100 AS stream_seq")
    await asyncio.to_thread(replaced, clickhouse, 16, "15 AS stream_seq")
    await asyncio.to_thread(replaced, clickhouse, 100, "16 AS stream_seq")
    expected |= {(EntryCode.ALTERED_ENTRY, place, f"acc_{place}", 1) for place in (15, 16)}
    await asyncio.to_thread(added, clickhouse, 17, "'acc_more' AS id")
    await asyncio.to_thread(added, clickhouse, 17, "'acc_late' AS id, 50 AS stream_seq")
    await asyncio.to_thread(added, clickhouse, 17, "'acc_old' AS id, 60 AS stream_seq, at - toIntervalDay(1) AS at")
    expected |= {(EntryCode.ADDED_ENTRY, 17, "acc_more", None), (EntryCode.ADDED_ENTRY, 50, "acc_late", None)}
    _, report = await checked(settings, jetstream)
    assert named(report) == expected
    assert report.not_covered == 1, "what would be from before there were anchors nobody can tell from what was"

    since, until = NOON + timedelta(seconds=14), NOON + timedelta(seconds=17)
    _, report = await checked(settings, jetstream, since, until)
    assert named(report) == {each for each in expected if each[1] in (14, 15, 16)}, "of a time, what is there is named, too"


async def test_text_is_not_taken_for_the_bytes_that_would_be_shown_like_it(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    entry = reading(1)
    entry = Access(**{name: getattr(entry, name) for name in entry.__struct_fields__} | {"detail": "ff", "user_agent": "a\ufffd"})
    async with sinking(jetstream, store, settings):
        await jetstream.publish(subjects.access(entry.org_id), access.encode(entry), stream=ACCESS.name)
        await settle(jetstream)
        await AccessAnchorer(jetstream, store, settings).anchor()
        await settle(jetstream)
    assert whole((await checked(settings, jetstream))[1], entries=1, anchored=1)
    for change in ("detail = unhex('ff')", "detail = 'ff', user_agent = concat('a', unhex('ff'))"):
        await asyncio.to_thread(alter, clickhouse, "access_entries", f"UPDATE {change} WHERE 1")
        assert named((await checked(settings, jetstream))[1]) == {(EntryCode.ALTERED_ENTRY, 1, "acc_1", 1)}


async def test_before_there_is_an_anchor_the_stream_knows(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    async with sinking(jetstream, store, settings):
        await read(jetstream, range(1, 6))
        await settle(jetstream)
    await read(jetstream, range(6, 9))
    assert whole((await checked(settings, jetstream))[1], entries=5, anchored=0, unanchored=5), "three are on their way"
    await asyncio.to_thread(alter, clickhouse, "access_entries", "DELETE WHERE stream_seq = 2")
    await asyncio.to_thread(alter, clickhouse, "access_entries", "UPDATE role = 'admin' WHERE stream_seq = 4")
    wrong = {(EntryCode.MISSING_ENTRY, 2, "acc_2"), (EntryCode.ALTERED_ENTRY, 4, "acc_4")}
    assert named((await checked(settings, jetstream))[1]) == {(*each, None) for each in wrong}
    await anchored(settings, jetstream, store, ())
    assert named((await checked(settings, jetstream))[1]) == {(*each, 1) for each in wrong}, "the anchor is made from the stream"


async def test_entries_from_before_the_upgrade_are_said_not_to_be_covered(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    await record_and_anchor(settings, jetstream, store, "sess_1")
    async with sinking(jetstream, store, settings):
        await read(jetstream, range(1, 8))
        await settle(jetstream)
    await jetstream.purge_stream(ACCESS.name, seq=5)
    anchors, report = await checked(settings, jetstream)
    assert (anchors.anchors, anchors.errors) == (0, 0)
    assert whole(report, entries=7, anchored=0, unanchored=3, not_covered=4)

    await anchored(settings, jetstream, store, (8,))
    assert await found(settings, jetstream) == set(), "the anchors over sessions are as they were"
    _, report = await checked(settings, jetstream)
    assert whole(report, entries=8, anchored=4, not_covered=4)
    assert [(each.code, each.is_notice) for each in report.findings] == [(EntryCode.NOT_COVERED, True)]
    await asyncio.to_thread(added, clickhouse, 2, "'acc_new' AS id, now64(6) + toIntervalHour(1) AS at")
    assert named((await checked(settings, jetstream))[1]) == {(EntryCode.ADDED_ENTRY, 2, "acc_new", None)}


async def test_a_time_without_anchors_is_a_gap_and_no_finding(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store
) -> None:
    await anchored(settings, jetstream, store, range(1, 4))
    async with sinking(jetstream, store, settings):
        await read(jetstream, range(4, 7))
        await settle(jetstream)
    await jetstream.purge_stream(ACCESS.name, seq=6)
    await anchored(settings, jetstream, store, range(7, 9))
    assert whole((await checked(settings, jetstream))[1], entries=8, anchored=6, not_covered=2)


async def test_a_stream_that_was_made_anew_is_anchored_from_its_beginning(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    await anchored(settings, jetstream, store, range(1, 4))
    await jetstream.delete_stream(ACCESS.name)
    await bus.declare(jetstream, settings)
    [second] = await anchored(settings, jetstream, store, range(11, 16))
    assert second
    assert (second.number, second.first_stream_seq, second.last_stream_seq, len(second.leaves)) == (2, 1, 5, 5)
    anchors, report = await checked(settings, jetstream)
    assert (anchors.anchors, anchors.errors) == (2, 0)
    assert whole(report, entries=8, anchored=8)
    await asyncio.to_thread(alter, clickhouse, "access_entries", "DELETE WHERE id = 'acc_2'")
    await asyncio.to_thread(alter, clickhouse, "access_entries", "UPDATE role = 'admin' WHERE id = 'acc_13'")
    assert named((await checked(settings, jetstream))[1]) == {
        (EntryCode.MISSING_ENTRY, 2, "acc_2", 1),
        (EntryCode.ALTERED_ENTRY, 3, "acc_13", 2),
    }


async def test_what_was_set_aside_is_neither_missing_nor_hidden(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    await jetstream.publish(subjects.access("org_acme"), b"nothing", stream=ACCESS.name)
    [made] = await anchored(settings, jetstream, store, (2, 3))
    assert made
    assert (made.first_stream_seq, [leaf.stream_seq for leaf in made.leaves]) == (1, [2, 3])
    assert whole((await checked(settings, jetstream))[1], entries=2, anchored=2)

    await asyncio.to_thread(alter, clickhouse, "access_entries", "DELETE WHERE stream_seq = 2")
    await store.insert_quarantined([Quarantined(2, 0, "access.org_acme", "refused", access.encode(reading(2)))])
    _, report = await checked(settings, jetstream)
    assert (report.errors, [each.code for each in report.findings]) == (0, [EntryCode.SET_ASIDE])
    await asyncio.to_thread(alter, clickhouse, "quarantine", "UPDATE payload = concat(payload, 'x') WHERE stream_seq = 2")
    assert named((await checked(settings, jetstream))[1]) == {(EntryCode.MISSING_ENTRY, 2, "acc_2", 1)}


async def test_tampering_with_the_anchors_is_named(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    await anchored(settings, jetstream, store, *((number,) for number in range(1, 6)))
    changes = (
        "UPDATE digests = arrayMap(each -> unhex('00'), digests) WHERE number = 1",
        "UPDATE ids = arrayConcat(ids, ['acc_more']) WHERE number = 2",
        "DELETE WHERE number IN (3, 5)",
    )
    for change in changes:
        await asyncio.to_thread(alter, clickhouse, "access_anchors", change)
    anchors, report = await checked(settings, jetstream)
    assert {(each.code, each.anchor) for each in anchors.findings} == {
        (Code.ALTERED_ANCHOR, 1),
        (Code.ALTERED_ANCHOR, 2),
        (Code.BAD_SIGNATURE, 2),
        (Code.MISSING_ANCHOR, 3),
        (Code.MISSING_ANCHOR, 5),
    }
    assert (EntryCode.ALTERED_ENTRY, 1, "acc_1", 1) in named(report)


async def test_replicas_make_one_chain(settings: AuditSettings, jetstream: JetStreamContext, store: Store) -> None:
    other = await bus.connect(settings, "other")
    replicas = [AccessAnchorer(each, store, settings, leaves_max=2) for each in (jetstream, other.jetstream())]
    async with sinking(jetstream, store, settings):
        for round_ in range(3):
            await read(jetstream, range(round_ * 3, round_ * 3 + 3))
            await settle(jetstream)
            made = [await asyncio.gather(*(replica.anchor() for replica in replicas)) for _ in range(4)]
            assert all(len([each for each in pair if each]) <= 1 for pair in made), "one wins"
            assert sum(len(each.leaves) for pair in made for each in pair if each) == 3, "each entry is anchored once"
        await settle(jetstream)
    await other.close()
    newest = await newest_anchor(jetstream, OF_ACCESS)
    assert newest
    assert newest.number == (await jetstream.stream_info(ACCESS_ANCHORS.name)).state.messages == 6
    anchors, report = await checked(settings, jetstream)
    assert (anchors.anchors, anchors.errors) == (6, 0)
    assert whole(report, entries=9, anchored=9)


async def test_only_what_is_anchored_leaves_the_stream(settings: AuditSettings, jetstream: JetStreamContext, store: Store) -> None:
    later = datetime.now(UTC) + timedelta(days=1)

    async def left() -> int:
        await purge_moved(jetstream, AUDIT_ACCESS, before=later, up_to=await _anchored_access(jetstream))
        return (await jetstream.stream_info(ACCESS.name)).state.messages

    async with sinking(jetstream, store, settings):
        await read(jetstream, range(1, 4))
        await settle(jetstream)
        assert await left() == 3
        assert await AccessAnchorer(jetstream, store, settings).anchor()
        await read(jetstream, range(4, 6))
        await settle(jetstream)
        assert await left() == 2
        assert await AccessAnchorer(jetstream, store, settings).anchor()
        assert await left() == 1
        await settle(jetstream)
    assert whole((await checked(settings, jetstream))[1], entries=5, anchored=5)


@pytest.mark.timeout(300)
async def test_the_command_names_the_entry(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    await anchored(settings, jetstream, store, range(1, 4), (4,))
    async with sinking(jetstream, store, settings):
        await publish(jetstream, *story("sess_1", settings).events)
        await settle(jetstream)
        await Anchorer(jetstream, store, settings).anchor()
        await settle(jetstream)

    async def verify(*arguments: str) -> tuple[int, list[str], str]:
        where = {"nats_url": settings.nats_url, "clickhouse_url": clickhouse.url}
        status, out, err = await vsay("audit", "verify", *arguments, home=tmp_path, **where)
        return status, out.splitlines(), err

    status, out, _ = await verify()
    assert (status, out[-1]) == (0, "1 sessions with 8 events and 4 access entries: nothing wrong"), "its own is on its way"
    status, out, _ = await verify("--access")
    assert (status, out[1:]) == (0, ["4 access entries: nothing wrong"])
    assert out[0].startswith("2 access anchors; the newest is 2:")
    noted = out[0].rpartition(" ")[2]
    assert (await verify("--access", "--access-anchor", noted))[0] == 0
    status, out, _ = await verify("--access", "--access-anchor", f"1:{'0' * 64}")
    assert (status, out[1]) == (3, "access anchor 1: altered_anchor: anchor 1 is not the one whose hash was kept")
    assert (await verify("--access", "sess_1"))[::2] == (
        2,
        "vsay: --access: an access entry is of no session's record; name none\n",
    )

    await asyncio.to_thread(alter, clickhouse, "access_entries", "DELETE WHERE stream_seq = 4")
    await asyncio.to_thread(alter, clickhouse, "access_entries", "UPDATE user_id = 'usr_else' WHERE stream_seq = 2")
    await jetstream.purge_stream(ACCESS.name)
    status, out, _ = await verify("--access")
    assert (status, out[1:]) == (
        3,
        [
            "access entry 2: altered_entry: the entry acc_2 of 2024-01-01T12:00:02+00:00 is not as anchor 1 has it",
            "access entry 4: missing_entry: the entry acc_4 of 2024-01-01T12:00:04+00:00 is missing: anchor 2 has it",
            "3 access entries: 2 wrong",
        ],
    )
    assert (await verify("sess_1"))[:2] == (0, ["1 sessions with 8 events: nothing wrong"])
