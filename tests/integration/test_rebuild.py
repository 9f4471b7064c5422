"""Projections made anew from the events, while more events come."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from contracts.wire import Recorded
from services.audit import rebuild as rebuilding
from services.audit.clickhouse import Store
from services.audit.rebuild import PROJECTIONS, LeftoversError, rebuild
from services.runtime.settings import ClickHouseSettings
from tests.integration.projections import projections
from tests.integration.servers import ClickHouse
from tests.integration.stories import some_story
from tests.integration.test_cli import vsay


@pytest.fixture
def settings(clickhouse: ClickHouse) -> ClickHouseSettings:
    return ClickHouseSettings(clickhouse_url=clickhouse.url)


@pytest.fixture
async def store(settings: ClickHouseSettings) -> AsyncIterator[Store]:
    store = Store.open(settings)
    await store.migrate()
    yield store
    await store.close()


async def rebuild_all(store: Store, **options: int) -> None:
    for name in PROJECTIONS:
        steps = [(step.done, step.total) async for step in rebuild(store, name, **options)]  # type: ignore[arg-type]
        assert steps == sorted(steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]


def some_events(seed: int, sessions: int) -> list[Recorded]:
    randomness = random.Random(seed)
    return [event for number in range(sessions) for event in some_story(randomness, f"sess_{seed}_{number}").events]


@pytest.mark.parametrize("piece_events", [7, 1_000_000])
async def test_what_was_broken_is_whole_again(store: Store, clickhouse: ClickHouse, piece_events: int) -> None:
    await store.insert_events(some_events(1, 12))
    expected = projections(clickhouse)
    for table in PROJECTIONS.values():
        clickhouse.query(f"TRUNCATE TABLE vsay.{table}")
    assert projections(clickhouse) != expected
    await rebuild_all(store, piece_events=piece_events)
    assert projections(clickhouse) == expected
    tables = clickhouse.query("SELECT name FROM system.tables WHERE database = 'vsay' AND name LIKE '%rebuild%'")
    assert tables == "", "nothing is left behind"
    await store.insert_events(some_events(2, 3))
    assert projections(clickhouse)["sessions"].count("\n") == 15, "it goes on being filled"


async def test_events_that_come_meanwhile_are_in_it(store: Store, settings: ClickHouseSettings, clickhouse: ClickHouse) -> None:
    events = some_events(3, 60)
    await store.insert_events(events[:300])
    waiting = iter([events[start : start + 7] for start in range(300, len(events), 7)])
    other = Store.open(settings)

    async def ingest() -> None:
        for batch in waiting:
            await other.insert_events(batch)

    ingesting = [asyncio.create_task(ingest()) for _ in range(4)]
    for name in PROJECTIONS:
        async for _ in rebuild(store, name, piece_events=400):
            pass
    await asyncio.gather(*ingesting)
    await other.close()
    found = projections(clickhouse)
    assert found["events"].count("\n") == len(events)
    await once(settings, events)
    assert found == projections(clickhouse, "once")


async def once(settings: ClickHouseSettings, events: Sequence[Recorded]) -> None:
    """These events delivered once, in a database of their own."""
    store = Store.open(ClickHouseSettings(clickhouse_url=settings.clickhouse_url, clickhouse_database="once"))
    await store.migrate()
    await store.insert_events(events)
    await store.close()


async def test_one_that_was_cut_off_changes_nothing_and_can_be_begun_anew(store: Store, clickhouse: ClickHouse) -> None:
    await store.insert_events(some_events(4, 5))
    expected = projections(clickhouse)
    steps = rebuild(store, "sessions", piece_events=10)
    await anext(steps)
    await steps.aclose()
    assert projections(clickhouse) == expected
    await store.insert_events(some_events(4, 5))
    with pytest.raises(LeftoversError):
        await anext(rebuild(store, "sessions"))
    async for _ in rebuild(store, "sessions", restart=True):
        pass
    assert projections(clickhouse) == expected


async def test_rows_of_which_retention_has_removed_the_beginning_stay(store: Store, clickhouse: ClickHouse) -> None:
    events = some_events(5, 6)
    await store.insert_events(events)
    expected = projections(clickhouse)
    clickhouse.query("ALTER TABLE vsay.events MODIFY TTL toDateTime(at) + INTERVAL 100 YEAR")
    clickhouse.query("ALTER TABLE vsay.events DELETE WHERE session_id = 'sess_5_0' AND seq < 3 SETTINGS mutations_sync = 1")
    for name in ("sessions", "attendance", "stats"):
        async for _ in rebuild(store, name):
            pass
    found = projections(clickhouse)
    assert {name: found[name] for name in ("sessions", "attendance", "stats_hourly")} == {
        name: expected[name] for name in ("sessions", "attendance", "stats_hourly")
    }


async def test_the_command_rebuilds_and_shows_how_far_it_is(store: Store, clickhouse: ClickHouse) -> None:
    events = some_events(6, 4)
    await store.insert_events(events)
    expected = projections(clickhouse)
    clickhouse.query("TRUNCATE TABLE vsay.session_parts")
    status, out, err = await vsay("audit", "rebuild", clickhouse_url=clickhouse.url)
    assert (status, err) == (0, "")
    assert f"sessions: {len(events)} of {len(events)} events" in out.splitlines()
    assert [line for line in out.splitlines() if line.endswith("rebuilt")] == [f"{name}: rebuilt" for name in PROJECTIONS]
    assert projections(clickhouse) == expected
    status, out, err = await vsay("audit", "rebuild", "nothing", clickhouse_url=clickhouse.url)
    assert status == 1
    assert "there is no projection nothing" in err
    clickhouse.query(f"CREATE TABLE vsay.session_parts{rebuilding.SUFFIX} AS vsay.session_parts")
    status, out, err = await vsay("audit", "rebuild", "sessions", clickhouse_url=clickhouse.url)
    assert status == 1
    assert "--restart sessions" in err
    status, out, err = await vsay("audit", "rebuild", "sessions", "--restart", clickhouse_url=clickhouse.url)
    assert (status, err) == (0, "")
