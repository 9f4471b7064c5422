"""The audit service's one door to ClickHouse: migrations and inserts."""

import logging
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final, Self
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError
from msgspec import Struct

from contracts.wire import Recorded
from services.runtime.settings import ClickHouseSettings

log = logging.getLogger(__name__)

EVENT_COLUMNS: Final = ("org_id", "session_id", "seq", "at", "type", "attrs", "data", "chain")
QUARANTINE_COLUMNS: Final = ("subject", "stream_seq", "reason", "payload")

_EVENT_TYPES: Final = (
    "LowCardinality(String)",
    "String",
    "UInt64",
    "DateTime64(6, 'UTC')",
    "LowCardinality(String)",
    "String",
    "String",
    "FixedString(16)",
)


class StoreUnavailableError(Exception):
    """ClickHouse does not answer, or refuses; the message says how."""


class Migration(Struct, frozen=True):
    """One numbered file of `schema/`."""

    version: int
    name: str
    statements: tuple[str, ...]


class Quarantined(Struct, frozen=True):
    """A message that is no event."""

    subject: str
    stream_seq: int
    reason: str
    payload: bytes


class Store:
    """Methods raise `StoreUnavailableError`."""

    def __init__(self, client: AsyncClient, database: str) -> None:
        self._client = client
        self._database = database

    @classmethod
    async def connect(cls, settings: ClickHouseSettings) -> Self:
        """Connected; the database exists."""
        address = urlsplit(settings.clickhouse_url)
        try:
            client = await clickhouse_connect.get_async_client(
                host=address.hostname,
                port=address.port,
                secure=address.scheme == "https",
                username=settings.clickhouse_user,
                password=settings.clickhouse_password,
                autogenerate_session_id=False,
            )
            await client.command(f"CREATE DATABASE IF NOT EXISTS {settings.clickhouse_database}")
        except (ClickHouseError, OSError) as error:
            raise StoreUnavailableError(str(error)[:500]) from error
        return cls(client, settings.clickhouse_database)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def migrate(self) -> list[str]:
        """Apply what was not applied yet, in order; returns the names. Harmless twice, or in two replicas at once."""
        await self._command(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (version UInt32 COMMENT 'number of the file', name String COMMENT 'its name',"
            " applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when') ENGINE = ReplacingMergeTree ORDER BY version"
            " COMMENT 'Schema files that were applied'"
        )
        rows = (
            await self._client.query("SELECT version FROM schema_migrations FINAL", settings={"database": self._database})
        ).result_rows
        applied = {row[0] for row in rows}
        done = []
        for migration in migrations():
            if migration.version in applied:
                continue
            for statement in migration.statements:
                await self._command(statement)
            await self._insert(
                "schema_migrations", [(migration.version, migration.name)], ("version", "name"), ("UInt32", "String")
            )
            log.info("schema: applied %s", migration.name)
            done.append(migration.name)
        return done

    async def insert(self, events: Sequence[Recorded]) -> None:
        """Append `events`; those that are there already are as good as not inserted again."""
        rows = [(e.org_id, e.session_id, e.seq, e.at, e.type, e.attrs, e.data, e.chain) for e in events]
        await self._insert("events", rows, EVENT_COLUMNS, _EVENT_TYPES)

    async def set_aside(self, messages: Sequence[Quarantined]) -> None:
        """Keep what is no event, with its bytes and the reason."""
        rows = [(m.subject, m.stream_seq, m.reason, m.payload) for m in messages]
        await self._insert("quarantine", rows, QUARANTINE_COLUMNS, ("String", "UInt64", "String", "String"))

    async def _insert(self, table: str, rows: Sequence[Sequence[object]], columns: Sequence[str], types: Sequence[str]) -> None:
        try:
            await self._client.insert(
                table, rows, column_names=list(columns), column_type_names=list(types), database=self._database
            )
        except (ClickHouseError, OSError) as error:
            raise StoreUnavailableError(str(error)[:500]) from error

    async def _command(self, statement: str) -> None:
        try:
            await self._client.command(statement, settings={"database": self._database})
        except (ClickHouseError, OSError) as error:
            raise StoreUnavailableError(str(error)[:500]) from error


def migrations() -> Iterator[Migration]:
    """The files of `schema/`, in order. Statements end with `;` at the end of a line."""
    paths = sorted((path for path in files("services.audit").joinpath("schema").iterdir()), key=lambda path: path.name)
    for path in paths:
        text = path.read_text(encoding="utf-8")
        statements = tuple(statement.strip() for statement in text.split(";\n") if statement.strip())
        yield Migration(int(path.name.partition("_")[0]), path.name, statements)
