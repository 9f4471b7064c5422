"""Property: however a history is delivered, the projections are those of delivering it once, and those of a rebuild."""

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.wire import Recorded
from services.audit.clickhouse import Store
from services.audit.rebuild import PROJECTIONS, rebuild
from services.runtime.settings import ClickHouseSettings
from tests.integration.projections import projections
from tests.integration.servers import ClickHouse
from tests.integration.stories import some_story

TABLES = ("events", *PROJECTIONS.values())
BATCHES_MAX = 12


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """One engine with two databases of our schema."""
    with ClickHouse(tmp_path_factory.mktemp("clickhouse")) as server:
        for database in ("once", "vsay"):
            asyncio.run(deliver(server, database, []))
        yield server


async def deliver(clickhouse: ClickHouse, database: str, batches: Sequence[Sequence[Recorded]]) -> None:
    store = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url, clickhouse_database=database))
    await store.migrate()
    for batch in batches:
        await store.insert_events(batch)
    await store.close()


async def rebuild_all(clickhouse: ClickHouse, piece_events: int) -> None:
    store = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url))
    for name in PROJECTIONS:
        async for _ in rebuild(store, name, piece_events=piece_events):
            pass
    await store.close()


@pytest.mark.timeout(600)
@settings(
    max_examples=6, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    seed=st.integers(0, 2**32),
    sessions=st.integers(1, 8),
    repeated=st.floats(0, 2),
    cuts=st.lists(st.floats(0, 1), max_size=BATCHES_MAX),
    piece_events=st.sampled_from((5, 60, 100_000)),
)
def test_order_repetition_batching_and_rebuilding_make_no_difference(
    clickhouse: ClickHouse, seed: int, sessions: int, repeated: float, cuts: list[float], piece_events: int
) -> None:
    randomness = random.Random(seed)
    events = [event for number in range(sessions) for event in some_story(randomness, f"sess_{number}").events]
    delivered = events + randomness.choices(events, k=int(len(events) * repeated))
    randomness.shuffle(delivered)
    at = sorted(int(cut * len(delivered)) for cut in cuts)
    batches = [delivered[start:end] for start, end in zip([0, *at], [*at, len(delivered)], strict=True)]
    for database in ("once", "vsay"):
        for table in TABLES:
            clickhouse.query(f"TRUNCATE TABLE {database}.{table}")
    asyncio.run(deliver(clickhouse, "once", [events]))
    asyncio.run(deliver(clickhouse, "vsay", batches))
    expected = projections(clickhouse, "once")
    assert expected["events"].count("\n") == len(events)
    assert projections(clickhouse) == expected
    asyncio.run(rebuild_all(clickhouse, piece_events))
    assert projections(clickhouse) == expected
