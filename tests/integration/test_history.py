"""What the API reads from ClickHouse."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from contracts.api import EndCount, LogEntry, MachineUsage, SessionStats, UserUsage
from contracts.events import ConnectError, EndReason, TextShown
from contracts.live import LiveSession, LiveState
from contracts.wire import GENESIS, Recorded
from services.audit.clickhouse import Store
from services.runtime.settings import ClickHouseSettings
from services.session_api.history import PAGE_ROWS, History, HistoryUnavailableError
from services.session_api.statistics import stats
from tests.integration.servers import ClickHouse
from tests.integration.stories import DB, JANE, JOHN, NOON, ORG, WEB, Story, some_story


async def tell(store: Store, *stories: Story) -> None:
    await store.insert_events([event for story in stories for event in story.events])


async def ids(history: History, **filters: object) -> list[str]:
    return [session.session_id for session in await history.sessions(**({"org_id": ORG, "limit": 100} | filters))]  # type: ignore[arg-type]


async def test_a_session_says_all_of_itself(store: Store, history: History) -> None:
    story = Story("sess_1").claimed(JOHN, DB).later(seconds=1, microseconds=1).started()
    await tell(store, story)
    started = LiveSession(
        session_id="sess_1",
        org_id=ORG,
        user=JOHN,
        machine=DB,
        state=LiveState.STARTED,
        started_at=NOON + timedelta(seconds=1, microseconds=1),
        last_activity=NOON + timedelta(seconds=1, microseconds=1),
        ip_address="192.0.2.9",
        user_agent="curl/8",
        worker="worker-1",
    )
    assert await history.session(ORG, "sess_1") == started
    await tell(store, story.later(seconds=2).output().later(seconds=3).command("exit").later(seconds=4).ended(exit_status=7))
    ended = msgspec.structs.replace(
        started,
        state=LiveState.ENDED,
        last_activity=NOON + timedelta(seconds=6, microseconds=1),
        commands_count=1,
        ended_at=NOON + timedelta(seconds=10, microseconds=1),
        reason=EndReason.EXITED,
        exit_status=7,
    )
    assert await history.session(ORG, "sess_1") == ended
    assert await history.sessions(org_id=ORG, limit=10) == [ended]
    assert await history.session("org_other", "sess_1") is None
    assert await history.session(ORG, "sess_2") is None


async def test_before_and_without_a_shell_a_session_started_when_it_was_asked_for(store: Store, history: History) -> None:
    story = Story("sess_1").claimed()
    await tell(store, story)
    claimed = await history.session(ORG, "sess_1")
    assert claimed
    assert (claimed.state, claimed.started_at) == (LiveState.CLAIMED, NOON - timedelta(seconds=1))
    assert claimed.last_activity == claimed.started_at
    assert claimed.started_at.utcoffset() == timedelta(0)
    await tell(store, story.later(seconds=5).ended(EndReason.CONNECT_FAILED, code=ConnectError.HOST_KEY_MISMATCH))
    failed = await history.session(ORG, "sess_1")
    assert failed
    assert (failed.state, failed.reason, failed.code) == (LiveState.ENDED, EndReason.CONNECT_FAILED, ConnectError.HOST_KEY_MISMATCH)
    assert failed.started_at == claimed.started_at


async def test_a_session_whose_beginning_is_still_on_its_way_is_not_listed(store: Store, history: History) -> None:
    story = Story("sess_1").claimed().started()
    await store.insert_events(story.events[1:])
    assert await ids(history) == []
    await store.insert_events(story.events[:1])
    assert await ids(history) == ["sess_1"]


async def test_the_list_is_filtered_and_newest_first(store: Store, history: History) -> None:
    hours = [Story(f"sess_{n}", at=NOON + timedelta(hours=n)) for n in range(5)]
    for n, story in enumerate(hours):
        story.claimed(JANE if n % 2 else JOHN, DB if n > 2 else WEB).started()
        if n in (0, 3):
            story.later(minutes=1).ended()
    await tell(store, *hours, Story("sess_foreign", org_id="org_other").claimed().started())
    assert await ids(history) == ["sess_4", "sess_3", "sess_2", "sess_1", "sess_0"]
    assert await ids(history, user_id=JANE.id) == ["sess_3", "sess_1"]
    assert await ids(history, machine_id=DB.id) == ["sess_4", "sess_3"]
    assert await ids(history, ended=True) == ["sess_3", "sess_0"]
    assert await ids(history, ended=False, user_id=JOHN.id) == ["sess_4", "sess_2"]
    assert await ids(history, since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=3)) == ["sess_2", "sess_1"]
    assert await ids(history, since=NOON + timedelta(hours=4, microseconds=1)) == []
    assert await ids(history, limit=2) == ["sess_4", "sess_3"]
    assert await ids(history, user_id="usr_' OR 1 = 1 --") == []


async def test_pages_cover_the_list_also_where_times_are_equal(store: Store, history: History) -> None:
    await tell(store, *(Story(f"sess_{n:02}", at=NOON + timedelta(microseconds=n // 5)).claimed().started() for n in range(20)))
    expected = [f"sess_{n:02}" for n in reversed(range(20))]
    listed: list[str] = []
    before: tuple[datetime, str] | None = None
    while page := await history.sessions(org_id=ORG, limit=3, before=before):
        listed += [session.session_id for session in page]
        before = (page[-1].started_at, page[-1].session_id)
    assert listed == expected


async def test_logs_are_in_order_and_leave_out_empty_texts(store: Store, history: History) -> None:
    story = Story("sess_1").claimed().started().output()
    story.record(TextShown(0, "Welcome", 1, 3))
    story.command("ls -la", "total 42\n").command("true", "").command("grep ' \\t'\t\"é\" '\N{PILE OF POO}' | \x00", "x\\n").ended()
    await tell(store, story)
    await tell(store, Story("sess_2").claimed().command("secret"))
    await store.insert_events(story.events[3:6])  # delivered twice
    entries = [entry async for entry in history.logs("sess_1")]
    assert [(entry.type, entry.content) for entry in entries] == [
        ("output", "Welcome"),
        ("command", "ls -la"),
        ("output", "total 42\n"),
        ("command", "true"),
        ("command", "grep ' \\t'\t\"é\" '\N{PILE OF POO}' | \x00"),
        ("output", "x\\n"),
    ]
    assert entries[0] == LogEntry(NOON, "output", "Welcome", 4)
    assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
    assert [entry async for entry in history.logs("sess_1", after_seq=5, limit=2)] == entries[2:4]
    assert [entry async for entry in history.logs("sess_1", type_="command")] == [e for e in entries if e.type == "command"]
    assert [entry async for entry in history.logs("sess_1", type_="output", limit=1)] == entries[:1]
    assert [entry async for entry in history.logs("sess_unknown")] == []


async def test_logs_of_more_than_a_page(store: Store, history: History) -> None:
    story = Story("sess_1").claimed()
    for n in range(PAGE_ROWS):
        story.command(f"echo {n}", f"{n}\n")
    await tell(store, story)
    entries = [entry async for entry in history.logs("sess_1")]
    assert [entry.content for entry in entries] == [text for n in range(PAGE_ROWS) for text in (f"echo {n}", f"{n}\n")]


async def test_events_come_back_byte_for_byte_each_once(store: Store, history: History) -> None:
    randomness = random.Random(1)
    story = Story("sess_1").claimed()
    for _ in range(2 * PAGE_ROWS):
        story.later(microseconds=1).output(randomness.randbytes(randomness.randrange(50)))
    delivered = story.events + story.events[::3]
    randomness.shuffle(delivered)
    for start in range(0, len(delivered), 400):
        await store.insert_events(delivered[start : start + 400])
    assert [event async for event in history.events("sess_1", 0)] == story.events
    assert [event async for event in history.events("sess_1", 10, 500)] == story.events[10:500]
    assert [event async for event in history.events("sess_1", len(story.events))] == []
    chain = GENESIS
    async for event in history.events("sess_1", 0):
        assert event.follows(chain)
        chain = event.chain


async def test_events_go_on_after_numbers_that_are_missing(store: Store, history: History) -> None:
    story = Story("sess_1").claimed()
    for number in range(5 * PAGE_ROWS):
        story.output(b"%d" % number)
    there = [event for event in story.events if event.seq < 10 or event.seq == 700 or event.seq > 4 * PAGE_ROWS]
    await store.insert_events(there)
    assert [event async for event in history.events("sess_1", 0)] == there
    assert [event async for event in history.events("sess_1", 5, 700)] == there[5:10]


@pytest.mark.parametrize(
    "data", [bytes(range(256)), b"\x00", b"\xff" * 300_000, b"__exception__\r\n", b"\\N\t\n'"], ids=lambda data: repr(data[:20])
)
async def test_no_byte_is_changed(store: Store, history: History, data: bytes) -> None:
    event = Recorded(ORG, "sess_1", 1, 1, "output", b'{"x": "\xff"} ' + data, data, data[:16])
    await store.insert_events([event])
    assert [event async for event in history.events("sess_1", 0)] == [event]


async def test_recorded_seq_counts_what_is_there_without_a_gap(store: Store, history: History) -> None:
    story = Story("sess_1").claimed().started().output().output()
    assert await history.recorded_seq("sess_1") == 0
    await store.insert_events(story.events[:2])
    await store.insert_events(story.events[:2])
    assert await history.recorded_seq("sess_1") == 2
    await store.insert_events(story.events[3:])
    assert await history.recorded_seq("sess_1") < 4, "number 3 is on its way"
    await store.insert_events(story.events[2:3])
    assert await history.recorded_seq("sess_1") == 4


async def test_statistics(store: Store, history: History) -> None:
    until = NOON + timedelta(days=1)
    stories = [
        Story("sess_before", at=NOON - timedelta(hours=1)).claimed().started().later(hours=5).ended(),
        Story("sess_1").claimed().started().later(minutes=30).ended(),
        Story("sess_2", at=NOON + timedelta(hours=1)).claimed(JANE, DB).started().later(minutes=15).ended(),
        Story("sess_3", at=NOON + timedelta(hours=2)).claimed(JANE, DB).started().later(days=3).ended(),
        Story("sess_runs", at=until - timedelta(hours=2)).claimed().started(),
        Story("sess_after", at=until).claimed().started().later(hours=5).ended(),
        Story("sess_foreign", org_id="org_other").claimed().started().later(hours=5).ended(),
    ]
    await tell(store, *stories)
    await tell(store, *stories)
    figures = await stats(history, org_id=ORG, since=NOON, until=until, active=3)
    assert [(bucket.start, bucket.sessions_count, bucket.unique_users) for bucket in figures.series if bucket.sessions_count] == [
        (NOON, 1, 1),
        (NOON + timedelta(hours=1), 1, 1),
        (NOON + timedelta(hours=2), 1, 1),
        (until - timedelta(hours=2), 1, 1),
    ]
    assert [bucket.start for bucket in figures.series] == [NOON + timedelta(hours=n) for n in range(24)]
    assert sum(bucket.duration_hours for bucket in figures.series) == pytest.approx(figures.total_duration_hours)
    assert msgspec.structs.replace(figures, series=[]) == SessionStats(
        total_sessions=4,
        active_sessions=3,
        total_duration_hours=pytest.approx(0.5 + 0.25 + 22 + 2),  # type: ignore[arg-type]
        unique_users=2,
        top_machines=[MachineUsage(DB.id, DB.name, 2), MachineUsage(WEB.id, WEB.name, 2)],
        top_users=[UserUsage(JOHN.id, JOHN.name, 2), UserUsage(JANE.id, JANE.name, 2)],
        end_reasons=[EndCount("exited", 3)],
    )
    own = await stats(history, org_id=ORG, user_id=JOHN.id, since=NOON, until=until, active=1)
    assert (own.total_sessions, own.unique_users, own.total_duration_hours) == (2, 1, pytest.approx(2.5))
    empty = await stats(history, org_id="org_empty", since=NOON, until=until, active=0)
    assert msgspec.structs.replace(empty, series=[]) == SessionStats(0, 0, 0.0, 0, [])
    assert [(bucket.sessions_count, bucket.duration_hours) for bucket in empty.series] == [(0, 0.0)] * 24


async def test_a_longer_period_is_given_by_days_on_which_sessions_started(store: Store, history: History) -> None:
    midnight = NOON.replace(hour=0)
    stories = [
        Story("sess_waited", at=midnight - timedelta(seconds=5)).claimed().later(seconds=10).started().later(minutes=30).ended(),
        Story("sess_failed", at=midnight + timedelta(seconds=0.5)).claimed(JANE).ended(EndReason.CONNECT_FAILED),
        Story("sess_long", at=midnight - timedelta(days=2)).claimed().started().later(days=1.5).output().later(days=3).ended(),
        Story("sess_long_before", at=midnight - timedelta(days=9)).claimed().started().later(days=9).output(),
    ]
    await tell(store, *stories)
    figures = await stats(history, org_id=ORG, since=NOON - timedelta(days=7), until=NOON, active=0)
    assert figures.total_sessions == 3
    assert [(bucket.start, bucket.sessions_count) for bucket in figures.series] == [
        (midnight + timedelta(days=day), {-2: 1, -1: 1, 0: 1}.get(day, 0)) for day in range(-7, 1)
    ]
    assert figures.end_reasons == [EndCount("exited", 2), EndCount("connect_failed", 1)]
    assert figures.total_duration_hours == pytest.approx(0.5 + 1.5 / 3600 - 1 / 3600 + 60, abs=0.001)


async def test_statistics_agree_with_the_list_however_events_come(store: Store, history: History) -> None:
    randomness = random.Random(11)
    events = [event for n in range(40) for event in some_story(randomness, f"sess_{n}").events]
    delivered = events + randomness.choices(events, k=len(events))
    randomness.shuffle(delivered)
    for start in range(0, len(delivered), 300):
        await store.insert_events(delivered[start : start + 300])
    since, until = NOON - timedelta(days=30), NOON + timedelta(days=10)
    listed = await history.sessions(org_id=ORG, since=since, until=until, limit=500)
    figures = await stats(history, org_id=ORG, since=since, until=until, active=0)
    assert figures.total_sessions == len(listed)
    assert {usage.user_id: usage.sessions_count for usage in figures.top_users} == Counter(each.user.id for each in listed)
    assert {usage.machine_id: usage.sessions_count for usage in figures.top_machines} == Counter(each.machine.id for each in listed)
    assert {end.reason: end.sessions_count for end in figures.end_reasons} == Counter(each.reason for each in listed if each.reason)
    hours = sum(((min(each.ended_at or until, until) - each.started_at) for each in listed), timedelta()) / timedelta(hours=1)
    assert figures.total_duration_hours == pytest.approx(hours)


async def test_at_most_ten_machines_are_named_by_use_then_id(store: Store, history: History) -> None:
    stories = []
    for n in range(12):
        machine = msgspec.structs.replace(WEB, id=f"mch_{n:02}", name=f"M{n}")
        stories += [Story(f"sess_{n}_{k}").claimed(JOHN, machine).started() for k in range(2 if n == 11 else 1)]
    await tell(store, *stories)
    figures = await stats(history, org_id=ORG, since=NOON, until=NOON + timedelta(hours=1), active=0)
    assert [usage.machine_id for usage in figures.top_machines] == ["mch_11", *(f"mch_{n:02}" for n in range(9))]


async def test_without_clickhouse_everything_says_so_and_works_again_afterwards(
    store: Store, history: History, clickhouse: ClickHouse
) -> None:
    await tell(store, Story("sess_1").claimed().command("ls"))
    fresh = await History.connect(ClickHouseSettings(clickhouse_url=clickhouse.url))
    await history.ready()
    clickhouse.stop()
    for each in (history, fresh):
        with pytest.raises(HistoryUnavailableError):
            await each.ready()
        with pytest.raises(HistoryUnavailableError):
            await each.session(ORG, "sess_1")
        with pytest.raises(HistoryUnavailableError):
            await anext(each.logs("sess_1"))
        with pytest.raises(HistoryUnavailableError):
            await stats(each, org_id=ORG, since=NOON, until=datetime.now(UTC), active=0)
    clickhouse.start()
    for each in (history, fresh):
        await each.ready()
        assert [entry.content async for entry in each.logs("sess_1")] == ["ls"]
    await fresh.close()


async def test_without_the_schema_it_is_not_ready(clickhouse: ClickHouse) -> None:
    history = await History.connect(ClickHouseSettings(clickhouse_url=clickhouse.url))
    with pytest.raises(HistoryUnavailableError):
        await history.ready()
    await history.close()
