"""The connection to ClickHouse: made when it is first needed, so that a process starts while ClickHouse is down."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from clickhouse_connect import get_async_client
from clickhouse_connect.driver import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from services.runtime.settings import ClickHouseSettings

CONNECT_SECONDS: Final = 3
ANSWER_SECONDS: Final = 30
"""How long ClickHouse may be silent while it works on a query."""

CONNECTIONS_MAX: Final = 32

AT_MAX: Final = 10_413_791_999_999_999
"""End of the year 2299, with which ClickHouse's DateTime64 ends; in microseconds since the epoch."""

FAILURES: Final = (ClickHouseError, OSError, TimeoutError)
"""What a client raises when ClickHouse does not answer, or refuses."""


class ClickHouse:
    """One pool of connections to the database of `settings`."""

    def __init__(self, settings: ClickHouseSettings, *, answer_seconds: int = ANSWER_SECONDS) -> None:
        self._settings = settings
        self._answer_seconds = answer_seconds
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    @property
    def database(self) -> str:
        """The database's name, which needs no quotes."""
        return self._settings.clickhouse_database

    def patient(self, answer_seconds: int) -> "ClickHouse":
        """Connections of their own, which wait so long for an answer."""
        return ClickHouse(self._settings, answer_seconds=answer_seconds)

    async def client(self) -> AsyncClient:
        """The client. Raises one of `FAILURES` when it is not connected yet and ClickHouse does not answer."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connect(self) -> AsyncClient:
        url = urlsplit(self._settings.clickhouse_url)
        client = await get_async_client(
            interface=url.scheme,
            host=url.hostname or "",
            port=url.port or 0,
            proxy_path=url.path,
            username=self._settings.clickhouse_user,
            password=self._settings.clickhouse_password,
            compress=False,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=self._answer_seconds,
            connector_limit=CONNECTIONS_MAX,
            connector_limit_per_host=CONNECTIONS_MAX,
            autogenerate_session_id=False,  # ClickHouse runs the queries of one session one after the other
            query_retries=0,
            tz_mode="aware",
        )
        client.database = self.database  # only now: connecting to a database that is not there yet would fail
        return client
