"""From the stream into ClickHouse: nothing lost, nothing twice, nothing changed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts import subjects, wire
from contracts.commands import OpenSession
from contracts.directory import Machine
from contracts.streams import AUDIT, COMMANDS, SESSIONS
from contracts.wire import Recorded
from services.audit.clickhouse import Store
from services.audit.horizon import purge
from services.audit.settings import AuditSettings
from services.audit.sink import Sink
from services.runtime import bus
from services.session_api.gateway import Gateway
from services.session_api.history import History
from services.session_api.logs import CATCH_UP_SECONDS_MAX, caught_up
from services.session_api.settings import ApiSettings
from tests.integration.processes import Service
from tests.integration.projections import projections
from tests.integration.servers import ClickHouse, NatsServer, free_port
from tests.integration.stories import JOHN, NOON, Story, publish, some_story
from tests.integration.test_health import ask

WAIT_SECONDS_MAX = 60.0
BATCH_SECONDS_MAX = 0.1
"""Tests wait for the sink by looking into ClickHouse themselves, so it is not to wait as long as it does by default."""

LOOK_SECONDS = 0.02


@pytest.fixture
def settings(nats_server: NatsServer, clickhouse: ClickHouse) -> AuditSettings:
    return AuditSettings(
        nats_url=nats_server.url, clickhouse_url=clickhouse.url, stream_bytes_max=1_000_000_000, batch_seconds_max=BATCH_SECONDS_MAX
    )


@pytest.fixture
async def jetstream(settings: AuditSettings) -> AsyncIterator[JetStreamContext]:
    nats = await bus.connect(settings, "test")
    jetstream = nats.jetstream()
    await bus.declare(jetstream, settings)
    yield jetstream
    await nats.close()


@asynccontextmanager
async def stored(settings: AuditSettings) -> AsyncIterator[Store]:
    store = Store.open(settings)
    try:
        await store.migrate()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def sinking(jetstream: JetStreamContext, settings: AuditSettings) -> AsyncIterator[None]:
    """A sink runs meanwhile."""
    async with stored(settings) as store:
        sink = Sink(jetstream, store, settings)
        task = asyncio.create_task(sink.run())
        try:
            yield
        finally:
            sink.stop()
            await task


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it holds."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not await condition():
        assert time.monotonic() < deadline, "it has not come about in time"
        await asyncio.sleep(LOOK_SECONDS)


async def all_acknowledged(jetstream: JetStreamContext) -> bool:
    info = await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)
    return info.num_pending == 0 and info.num_ack_pending == 0


async def fill(settings: AuditSettings, batches: Iterable[Sequence[Recorded]]) -> None:
    async with stored(settings) as store:
        for batch in batches:
            await store.insert_events(batch)


async def test_projections_say_what_happened(settings: AuditSettings, clickhouse: ClickHouse) -> None:
    story = Story("sess_1").claimed().later(seconds=2).started().output(b"$ ls\r\n").later(seconds=3).command("ls", "a\nb")
    story.later(minutes=1).ended(exit_status=3)
    await fill(settings, [story.events])
    columns = "session_id, user_id, machine_name, state, started_at, last_activity, duration_seconds, reason, exit_status"
    assert clickhouse.query(f"SELECT {columns}, commands_count, output_bytes, last_seq FROM vsay.sessions").split("\t") == [
        *("sess_1", "usr_123", "Web", "ended", "2024-01-01 12:00:02.000000", "2024-01-01 12:00:05.000000", "63"),
        *("exited", "3", "1", "6", "6\n"),
    ]
    assert clickhouse.query("SELECT seq, type, content, exit_status FROM vsay.logs ORDER BY seq") == (
        "4\tcommand\tls\t\\N\n5\toutput\ta\\nb\t0\n"
    )
    assert clickhouse.query("SELECT user_name, machine_id, text FROM vsay.commands") == "John Doe\tmch_web\tls\n"


async def test_the_sink_moves_events_and_acknowledges_them(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse
) -> None:
    story = Story("sess_1").claimed().started().output(bytes(range(256)) * 100).output(b"").ended()
    async with sinking(jetstream, settings):
        await publish(jetstream, *story.events)
        await until(lambda: all_acknowledged(jetstream))
    history = await History.connect(settings)
    assert [event async for event in history.events("sess_1", 0)] == story.events
    await history.close()


async def test_what_was_stored_and_not_acknowledged_is_stored_again_without_a_trace(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse
) -> None:
    story = some_story(random.Random(7), "sess_1")
    await fill(settings, [story.events])
    expected = projections(clickhouse, settings.clickhouse_database)
    async with sinking(jetstream, settings):
        await publish(jetstream, *story.events)
        await until(lambda: all_acknowledged(jetstream))
    assert projections(clickhouse, settings.clickhouse_database) == expected


async def test_two_replicas_share_the_work(settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse) -> None:
    small = msgspec.structs.replace(settings, batch_events_max=50, batch_seconds_max=0.05)
    story = Story("sess_1").claimed().started()
    for number in range(1000):
        story.output(b"%d\r\n" % number)
    async with sinking(jetstream, small), sinking(jetstream, small):
        await publish(jetstream, *story.events)
        await until(lambda: all_acknowledged(jetstream))
    history = await History.connect(settings)
    assert [event async for event in history.events("sess_1", 0)] == story.events
    await history.close()


async def test_a_reader_does_not_wait_for_batches_to_fill(
    settings: AuditSettings, jetstream: JetStreamContext, tmp_path: Path
) -> None:
    slow = 4 * CATCH_UP_SECONDS_MAX
    await fill(settings, [Story("sess_0").claimed().events])  # the engine's first insert takes seconds
    gateway = await Gateway.connect(ApiSettings(nats_url=settings.nats_url, stream_bytes_max=settings.stream_bytes_max))
    history = await History.connect(settings)
    with service(settings, tmp_path, VSAY_BATCH_SECONDS_MAX=str(slow)):
        await publish(jetstream, *Story("sess_1").claimed().started().command("ls", "a").events)
        assert await caught_up(gateway, history, "sess_1")
    await history.close()
    await gateway.close()


GOOD = Story("sess_1").claimed().events[0]
BAD = {
    "no envelope": (subjects.event("sess_1", "output"), b"\xc1\xff nothing"),
    "empty": (subjects.event("sess_1", "output"), b""),
    "of another session": (subjects.event("sess_2", "claimed"), wire.encode(GOOD)),
    "of another type": (subjects.event("sess_1", "ended"), wire.encode(GOOD)),
    "number 0": (subjects.event("sess_1", "claimed"), wire.encode(msgspec.structs.replace(GOOD, seq=0))),
    "number too large": (subjects.event("sess_1", "claimed"), wire.encode(msgspec.structs.replace(GOOD, seq=2**63))),
    "after all time": (subjects.event("sess_1", "claimed"), wire.encode(msgspec.structs.replace(GOOD, at=2**62))),
    "before all time": (subjects.event("sess_1", "claimed"), wire.encode(msgspec.structs.replace(GOOD, at=-1))),
}


async def test_what_is_no_event_is_set_aside_and_blocks_nothing(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse
) -> None:
    story = Story("sess_1").claimed().started().ended()
    async with sinking(jetstream, settings):
        for subject, payload in BAD.values():
            await jetstream.publish(subject, payload)
        await publish(jetstream, *story.events)
        await until(lambda: all_acknowledged(jetstream))
    rows = clickhouse.query("SELECT subject, hex(payload), reason FROM vsay.quarantine FINAL ORDER BY stream_seq").splitlines()
    assert [tuple(row.split("\t")[:2]) for row in rows] == [(subject, payload.hex().upper()) for subject, payload in BAD.values()]
    assert all(row.split("\t")[2] for row in rows)
    assert clickhouse.query("SELECT count() FROM vsay.events FINAL") == "3\n"


async def test_events_of_many_months_and_of_unknown_types_are_kept(settings: AuditSettings, clickhouse: ClickHouse) -> None:
    base = Story("sess_1").claimed().events[0]
    month_us = 31 * 24 * 3600 * 1_000_000
    strange = [
        msgspec.structs.replace(base, seq=n, at=n * month_us, type="of_tomorrow", attrs=b"{no json \xff", chain=b"short")
        for n in range(1, 300)
    ]
    await fill(settings, [strange])
    history = await History.connect(settings)
    assert [event async for event in history.events("sess_1", 0)] == strange
    await history.close()


def service(settings: AuditSettings, directory: Path, **more: str) -> Service:
    """The audit process."""
    return Service(
        directory / "audit",
        "audit",
        {
            "VSAY_NATS_URL": settings.nats_url,
            "VSAY_CLICKHOUSE_URL": settings.clickhouse_url,
            "VSAY_STREAM_BYTES_MAX": str(settings.stream_bytes_max),
            "VSAY_BATCH_SECONDS_MAX": str(BATCH_SECONDS_MAX),
        }
        | more,
    )


async def test_while_clickhouse_is_down_nothing_is_lost(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    with service(settings, tmp_path) as audit:
        await publish(jetstream, *Story("sess_1").claimed().started().events)
        await until(lambda: all_acknowledged(jetstream))
        await asyncio.to_thread(clickhouse.stop, kill=True)
        await publish(jetstream, *Story("sess_2").claimed().started().events)

        async def noticed() -> bool:
            return "ClickHouse did not take" in audit.log

        await until(noticed)
        assert not await all_acknowledged(jetstream)
        await asyncio.to_thread(clickhouse.start)
        await until(lambda: all_acknowledged(jetstream))
        counts = "SELECT session_id, count() FROM vsay.events FINAL GROUP BY 1 ORDER BY 1"
        assert clickhouse.query(counts) == "sess_1\t2\nsess_2\t2\n"


async def test_audit_and_clickhouse_may_stop_and_start_in_any_order(
    settings: AuditSettings, jetstream: JetStreamContext, nats_server: NatsServer, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    await asyncio.to_thread(clickhouse.stop)
    with service(settings, tmp_path) as audit:
        await publish(jetstream, *Story("sess_1").claimed().events)

        async def noticed() -> bool:
            return "ClickHouse is not ready" in audit.log

        await until(noticed)
        await asyncio.to_thread(clickhouse.start)
        await until(lambda: all_acknowledged(jetstream))
        await asyncio.to_thread(clickhouse.stop)
        await publish(jetstream, *Story("sess_2").claimed().events)
        await asyncio.to_thread(audit.restart)
        await asyncio.to_thread(clickhouse.start)
        await until(lambda: all_acknowledged(jetstream))
        await asyncio.to_thread(nats_server.restart)
        await publish(jetstream, *Story("sess_3").claimed().events)
        await until(lambda: all_acknowledged(jetstream))
        assert clickhouse.query("SELECT uniqExact(session_id) FROM vsay.events") == "3\n"


async def test_a_batch_that_clickhouse_does_not_take_is_given_back_at_a_stop(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse
) -> None:
    story = Story("sess_1").claimed().started()
    async with stored(settings) as store:
        sink = Sink(jetstream, store, settings)
        running = asyncio.create_task(sink.run())
        await until(lambda: waiting_pulls(jetstream))
        await asyncio.to_thread(clickhouse.stop)
        await publish(jetstream, *story.events)

        async def has_them() -> bool:
            return (await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)).num_ack_pending == len(story.events)

        await until(has_them)
        sink.stop()
        await running
    await asyncio.to_thread(clickhouse.start)
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    assert clickhouse.query("SELECT count() FROM vsay.events FINAL") == "2\n"


async def waiting_pulls(jetstream: JetStreamContext) -> bool:
    """Whether a sink waits for events."""
    return bool((await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)).num_waiting)


async def stream_has(jetstream: JetStreamContext) -> list[int]:
    info = await jetstream.stream_info(SESSIONS.name)
    found = []
    for seq in range(info.state.first_seq, info.state.last_seq + 1):
        try:
            message = await jetstream.get_msg(SESSIONS.name, seq=seq)
        except NotFoundError:
            continue
        assert message.seq
        found.append(message.seq)
    return found


async def test_only_what_is_stored_and_old_leaves_the_stream(settings: AuditSettings, jetstream: JetStreamContext) -> None:
    story = Story("sess_1").claimed().started().output()
    await publish(jetstream, *story.events)
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert await purge(jetstream, before=soon) == 0, "nothing is acknowledged"
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    assert await purge(jetstream, before=soon - timedelta(hours=2)) == 0, "nothing is old"
    await publish(jetstream, *Story("sess_2").claimed().events)
    message = await jetstream.get_msg(SESSIONS.name, seq=3)
    assert message.time
    assert await purge(jetstream, before=message.time) == 2
    assert await stream_has(jetstream) == [3, 4]
    assert await purge(jetstream, before=soon) == 1, "the last is not acknowledged"
    assert await stream_has(jetstream) == [4]


async def test_the_newest_event_of_a_session_that_goes_on_stays_in_the_stream(
    settings: AuditSettings, jetstream: JetStreamContext
) -> None:
    machine = Machine("mch_web", "Web", "org_acme", "192.0.2.1", "deploy", "deploy-key")
    command = OpenSession("sess_1", "org_acme", JOHN, machine, 80, 24, "192.0.2.9", "curl/8", NOON)
    await jetstream.publish(subjects.OPEN_SESSION, msgspec.msgpack.encode(command), stream=COMMANDS.name)
    await jetstream.publish(subjects.OPEN_SESSION, b"no command", stream=COMMANDS.name)
    await publish(jetstream, *Story("sess_1").claimed().started().output().events)
    await publish(jetstream, *Story("sess_2").claimed().started().ended().events)
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    assert await purge(jetstream, before=datetime.now(UTC) + timedelta(hours=1)) == 5
    assert await stream_has(jetstream) == [3]


async def test_what_clickhouse_refuses_for_what_it_is_is_set_aside_and_blocks_nothing(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse
) -> None:
    async with stored(settings):
        pass
    clickhouse.query("ALTER TABLE vsay.events ADD CONSTRAINT odd CHECK session_id NOT LIKE 'sess_bad%'")
    stories = [Story(name).claimed().started().output() for name in ("sess_1", "sess_bad1", "sess_2", "sess_bad2")]
    await publish(jetstream, *(event for events in zip(*(story.events for story in stories), strict=True) for event in events))
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    assert clickhouse.query("SELECT session_id, count() FROM vsay.events FINAL GROUP BY 1 ORDER BY 1") == "sess_1\t3\nsess_2\t3\n"
    refused = [event for story in stories if "bad" in story.session_id for event in story.events]
    rows = clickhouse.query("SELECT hex(payload), reason FROM vsay.quarantine FINAL").splitlines()
    assert {row.split("\t")[0] for row in rows} == {wire.encode(event).hex().upper() for event in refused}
    assert all("odd" in row.split("\t")[1] for row in rows)


async def test_old_events_go_as_the_retention_says(settings: AuditSettings, clickhouse: ClickHouse) -> None:
    old = Story("sess_old").claimed().command("ls", "a").ended()
    new = Story("sess_new", at=datetime.now(UTC)).claimed().command("ls", "a").ended()
    async with stored(settings) as store:
        await store.insert_events(old.events + new.events)
    for days, kept in ((0, ["sess_new", "sess_old"]), (30, ["sess_new"]), (0, ["sess_new"])):
        store = Store.open(settings, retention_days=days)
        await store.migrate()
        await store.close()
        for table in ("events", "log_parts", "command_parts"):
            clickhouse.query(f"OPTIMIZE TABLE vsay.{table} FINAL")
            assert clickhouse.query(f"SELECT DISTINCT session_id FROM vsay.{table} ORDER BY 1").split() == kept, (days, table)
    assert clickhouse.query("SELECT session_id FROM vsay.sessions ORDER BY 1") == "sess_new\nsess_old\n", (
        "that it was is still known"
    )


async def test_how_far_it_is_behind_is_seen(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    port = free_port()
    await publish(jetstream, *Story("sess_1").claimed().started().events)
    await jetstream.publish(subjects.event("sess_1", "output"), b"no event")
    await asyncio.to_thread(clickhouse.stop)
    with service(settings, tmp_path, VSAY_HEALTH_PORT=str(port)):

        async def tells(path: str, text: str) -> bool:
            return text in (await ask(port, f"GET {path} HTTP/1.1\r\n\r\n".encode()))[1].decode()

        await until(lambda: tells("/readyz", "3 events behind"))
        await until(lambda: tells("/metrics", 'vsay_audit_lag_messages{stream="SESSIONS"} 3.0'))
        await asyncio.to_thread(clickhouse.start)
        await until(lambda: tells("/readyz", "0 events behind"))
        await until(lambda: tells("/metrics", 'vsay_audit_lag_messages{stream="SESSIONS"} 0.0'))
        await until(lambda: tells("/metrics", 'vsay_audit_stored_total{stream="SESSIONS"} 2.0'))
        await until(lambda: tells("/metrics", 'vsay_audit_quarantined_total{stream="SESSIONS"} 1.0'))
