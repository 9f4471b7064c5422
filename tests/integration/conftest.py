"""Each test that asks has a nats-server and a ClickHouse engine of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.audit.clickhouse import Store
from services.runtime.settings import ClickHouseSettings
from services.session_api.history import History
from tests.integration.containers import IN_CONTAINERS
from tests.integration.installation import installation
from tests.integration.openssh import OpenSsh
from tests.integration.reader import Reader
from tests.integration.servers import ClickHouse, NatsServer


def pytest_configure(config: pytest.Config) -> None:
    if IN_CONTAINERS:  # docker-py leaves the engine's Unix sockets to the garbage collector
        config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket\.socket fd=\d+, family=1,:ResourceWarning")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    return nats_server.url


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[ClickHouse]:
    with ClickHouse(tmp_path / "clickhouse") as server:
        yield server


@pytest.fixture
def clickhouse_url(clickhouse: ClickHouse) -> str:
    return clickhouse.url


@pytest.fixture
async def store(clickhouse: ClickHouse) -> AsyncIterator[Store]:
    """With the schema made."""
    store = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url))
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
async def history(store: Store, clickhouse: ClickHouse) -> AsyncIterator[History]:
    """What the API reads of `store`."""
    history = await History.connect(ClickHouseSettings(clickhouse_url=clickhouse.url))
    yield history
    await history.close()


@pytest.fixture
def openssh(tmp_path: Path) -> Iterator[OpenSsh]:
    with OpenSsh(tmp_path / "openssh") as server:
        yield server


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One installation for all tests of a module; each has sessions of its own."""
    with installation(tmp_path_factory.mktemp("records")) as parts:
        yield Reader(parts, asyncio.run(parts.declare()))


@pytest.fixture
def id_(request: pytest.FixtureRequest) -> str:
    """A session's id that no other test has."""
    return f"sess_{request.node.name.translate(str.maketrans('[]', '__'))}"[:60]
