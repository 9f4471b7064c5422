"""The schema on a cluster: as far as the embedded engine, which has no Keeper, can show it.

Every statement as a cluster gets it is parsed by the engine. Run is the layout of a cluster of one node, with local and
Distributed tables, without what needs Keeper: `ON CLUSTER` and the word Replicated.
"""

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.audit.clickhouse import Store, migrations
from services.audit.layout import Layout, NotForClustersError
from services.audit.rebuild import PROJECTIONS, rebuild
from services.runtime.clickhouse import ClickHouse as Connection
from services.runtime.settings import ClickHouseSettings
from tests.integration.projections import projections
from tests.integration.servers import ClickHouse
from tests.integration.stories import some_story

ONE_NODE = """
<clickhouse>
    <tcp_port>9000</tcp_port>
    <remote_servers><one><shard><replica><host>localhost</host><port>9000</port></replica></shard></one></remote_servers>
</clickhouse>
"""
"""The engine serves no port: a replica at its own port is itself."""


class WithoutKeeper(Layout, frozen=True):
    """The layout of a cluster on a node of which nobody keeps the Keeper."""

    @property
    def on_cluster(self) -> str:
        return ""

    @property
    def processes(self) -> str:
        return "system.processes"

    def statements(self, statement: str) -> Iterator[str]:
        for each in super().statements(statement):
            yield each.replace("ENGINE = Replicated", "ENGINE = ")

    def synced(self, table: str) -> Iterator[str]:
        yield from ()


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[ClickHouse]:
    with ClickHouse(tmp_path / "one-node", ONE_NODE) as clickhouse:
        yield clickhouse


@pytest.fixture
async def store(one_node: ClickHouse) -> AsyncIterator[Store]:
    connection = Connection(ClickHouseSettings(clickhouse_url=one_node.url, clickhouse_cluster="one"))
    store = Store(connection, WithoutKeeper("vsay", "one"))
    await store.migrate()
    yield store
    await store.close()


def test_every_statement_is_sql_for_one_server_and_for_a_cluster(clickhouse: ClickHouse) -> None:
    tables, local, distributed = 0, 0, 0
    for migration in migrations():
        for statement in migration.statements:
            assert list(Layout("vsay").statements(statement)) == [statement]
            for rendered in Layout("vsay", "three").statements(statement):
                assert " ON CLUSTER 'three'" in rendered or (rendered == statement and "\nINSERT INTO " in f"\n{statement}")
                assert clickhouse.query(f"EXPLAIN AST {rendered}")
                tables += "CREATE TABLE" in statement
                local += "ENGINE = Replicated" in rendered
                distributed += "ENGINE = Distributed('three', 'vsay', " in rendered
    assert local == distributed == tables / 2
    assert local


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(NotForClustersError):
        list(Layout("vsay", "three").statements("RENAME TABLE events TO others"))
    assert list(Layout("vsay", "three").statements("INSERT INTO t (a) SELECT b FROM u WHERE b > 1")) == [
        "SYSTEM SYNC REPLICA ON CLUSTER 'three' u_local",
        "INSERT INTO t (a) SELECT b FROM u WHERE b > 1",
    ]
    assert list(Layout("vsay", "three").statements("ALTER TABLE t ADD INDEX i a TYPE minmax")) == [
        "ALTER TABLE t_local ON CLUSTER 'three' ADD INDEX i a TYPE minmax"
    ]
    assert list(Layout("vsay", "three").statements("ALTER TABLE t ADD COLUMN a UInt8")) == [
        "ALTER TABLE t_local ON CLUSTER 'three' ADD COLUMN a UInt8",
        "ALTER TABLE t ON CLUSTER 'three' ADD COLUMN a UInt8",
    ]


async def test_a_cluster_tells_the_same_as_one_server(store: Store, one_node: ClickHouse) -> None:
    randomness = random.Random(21)
    events = [event for n in range(15) for event in some_story(randomness, f"sess_{n}").events]
    alone = Store.open(ClickHouseSettings(clickhouse_url=one_node.url, clickhouse_database="alone"))
    await alone.migrate()
    await alone.insert_events(events)
    await alone.close()
    expected = projections(one_node, "alone")
    for _ in range(2):
        await store.insert_events(events)
    assert projections(one_node) == expected
    assert one_node.query("SELECT engine FROM system.tables WHERE database = 'vsay' AND name = 'events'") == "Distributed\n"
    for table in PROJECTIONS.values():
        one_node.query(f"TRUNCATE TABLE vsay.{table}_local")
    for name in PROJECTIONS:
        async for _ in rebuild(store, name, piece_events=100):
            pass
    assert projections(one_node) == expected
    assert one_node.query("SELECT name FROM system.tables WHERE database = 'vsay' AND name LIKE '%rebuild%'") == ""


async def test_every_table_and_column_of_a_cluster_explains_itself(store: Store, one_node: ClickHouse) -> None:
    assert one_node.query("SELECT name FROM system.tables WHERE database = 'vsay' AND comment = ''") == ""
    assert one_node.query("SELECT table, name FROM system.columns WHERE database = 'vsay' AND comment = ''") == ""
