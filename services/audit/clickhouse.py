"""The audit service's one door to ClickHouse: the schema's migrations, and inserts."""

import asyncio
import hashlib
import logging
import re
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, Final, Self

from msgspec import Struct

from contracts.anchors import AccessAnchor, Anchor
from contracts.wire import Recorded
from services.audit.layout import Layout
from services.runtime.access import AccessEntry
from services.runtime.access_evidence import AccessEvidence
from services.runtime.clickhouse import ANSWER_SECONDS, FAILURES, ClickHouse
from services.runtime.evidence import Evidence
from services.runtime.settings import ClickHouseSettings

log = logging.getLogger(__name__)

INSERT_SETTINGS: Final = {"max_partitions_per_insert_block": "0", "distributed_foreground_insert": "1"}
"""A batch may hold events of any months: one with odd times must not hold up the others. On a cluster, rows are on their
shards when an insert returns."""

REFUSED_FOR_WHAT_IT_IS: Final = frozenset(
    (
        *("6", "19", "26", "27", "33", "36", "38", "41", "43", "53", "69", "70", "72", "73", "117", "128", "131", "158"),
        *("190", "321", "349", "407", "469", "641"),
    )
)
"""ClickHouse's codes that are about the rows themselves, as CANNOT_PARSE_TEXT, BAD_ARGUMENTS, TOO_LARGE_STRING_SIZE or
VIOLATED_CONSTRAINT: trying again changes nothing. Everything else may pass."""

SCHEMA_SECONDS_MAX: Final = 3600
"""How long one statement of the schema may take: some copy a table."""

LOOK_SECONDS: Final = 0.1

KEPT_FOR: Final = ("events", "log_parts", "rebuilt_logs", "command_parts", "rebuilt_commands")
"""Tables whose rows go when the retention is over, where they are: those that have what was on the screen."""

_TTL: Final = re.compile(r" TTL (.+?)(?= SETTINGS |$)")
_ERROR_CODE: Final = re.compile(r"Code: (\d+)\.|error code (\d+)")
_FILE_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_MATERIALIZED_VIEW: Final = "CREATE MATERIALIZED VIEW "
_STATEMENT_END: Final = re.compile(r";[ \t]*(?:\n|$)")


class StoreUnavailableError(Exception):
    """ClickHouse does not answer, or refuses for now: try again."""


class RefusedError(StoreUnavailableError):
    """ClickHouse answers, and does not take these rows for what they are."""


class SchemaError(Exception):
    """The schema in ClickHouse is not what this version can go on with; a person must look."""


class Quarantined(Struct, frozen=True):
    """A message that could not be decoded. `published_at`: microseconds since the epoch, UTC."""

    stream_seq: int
    published_at: int
    subject: str
    reason: str
    payload: bytes


class Migration(Struct, frozen=True):
    """One file of `schema/`."""

    number: int
    name: str
    statements: tuple[str, ...]
    checksum: str


class Store:
    """Methods raise `StoreUnavailableError` when ClickHouse does not answer."""

    def __init__(self, clickhouse: ClickHouse, layout: Layout, retention_days: int = 0) -> None:
        self._clickhouse = clickhouse
        self.layout = layout
        self._retention_days = retention_days
        self._migrating = asyncio.Lock()

    @classmethod
    def open(cls, settings: ClickHouseSettings, *, retention_days: int = 0, answer_seconds: int = ANSWER_SECONDS) -> Self:
        """Connects when it is first used. `retention_days`: 0 keeps for ever."""
        layout = Layout(settings.clickhouse_database, settings.clickhouse_cluster)
        return cls(ClickHouse(settings, answer_seconds=answer_seconds), layout, retention_days)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._clickhouse.close()

    async def ready(self) -> None:
        """Raises when ClickHouse does not answer or has not our schema."""
        await self.query("SELECT 1 FROM events LIMIT 0")

    async def migrate(self) -> list[str]:
        """Apply what has not been applied yet, and the retention; gives the names of files that were applied.

        Raises `SchemaError` when an applied file has changed.

        Several replicas may do this at once: every statement is harmless when it runs twice.
        """
        async with self._migrating:
            done = await self._migrate()
            await self._keep()
            return done

    async def insert_events(self, events: Iterable[Recorded]) -> None:
        """Everything is readable when this returns."""
        await self._insert("events (org_id, session_id, seq, at, type, attrs, data, chain)", map(_event_row, events))

    async def insert_access(self, entries: Iterable[AccessEntry]) -> None:
        """Everything is readable when this returns."""
        columns = (
            "id, at, org_id, user_id, user_name, user_email, role, action, session_id, detail, ip_address, user_agent, stream_seq"
        )
        await self._insert(f"access_entries ({columns})", map(_access_row, entries))

    async def insert_anchors(self, anchors: Iterable[Anchor]) -> None:
        """Everything is readable when this returns."""
        columns = (
            "number, at, first_stream_seq, last_stream_seq, org_ids, session_ids, seqs, chains, root, previous, key_id, signature"
        )
        await self._insert(f"anchors ({columns})", map(_anchor_row, anchors))

    async def insert_access_anchors(self, anchors: Iterable[AccessAnchor]) -> None:
        """Everything is readable when this returns."""
        leaves = "org_ids, ids, stream_seqs, times, digests"
        columns = f"number, at, first_stream_seq, last_stream_seq, {leaves}, root, previous, key_id, signature"
        await self._insert(f"access_anchors ({columns})", map(_access_anchor_row, anchors))

    async def newest_anchor(self) -> Anchor | None:
        """The anchor over sessions with the highest number; None when there is none."""
        try:
            return await Evidence(self._clickhouse).newest_anchor()
        except FAILURES as error:
            raise StoreUnavailableError(str(error)) from error

    async def newest_access_anchor(self) -> AccessAnchor | None:
        """The anchor over access entries with the highest number; None when there is none."""
        try:
            return await AccessEvidence(self._clickhouse).newest_anchor()
        except FAILURES as error:
            raise StoreUnavailableError(str(error)) from error

    async def insert_quarantined(self, messages: Iterable[Quarantined]) -> None:
        """Set these aside."""
        await self._insert("quarantine (stream_seq, published_at, subject, reason, payload)", map(_quarantined_row, messages))

    async def _migrate(self) -> list[str]:
        database = f"CREATE DATABASE IF NOT EXISTS {self.layout.database}{self.layout.on_cluster}"
        await self.command(database, use_database=False)
        for each in self.layout.statements(_MIGRATIONS_TABLE):
            await self.command(each)
        applied: dict[int, str] = dict(await self.query(_APPLIED))
        done = []
        for migration in migrations():
            if migration.number not in applied:
                await self._apply(migration)
                await self._insert("schema_migrations (number, name, checksum)", [_migration_row(migration)])
                done.append(migration.name)
                log.info("schema: applied %04d_%s", migration.number, migration.name)
            elif applied[migration.number] != migration.checksum:
                raise SchemaError(f"schema/{migration.number:04d}_{migration.name}.sql was changed after it had been applied")
        return done

    async def _apply(self, migration: Migration) -> None:
        """Run its statements. What comes after a view that fills a table was made goes through it: the next may copy the rest."""
        patient = self._clickhouse.patient(SCHEMA_SECONDS_MAX)
        try:
            for statement in migration.statements:
                for each in self.layout.statements(statement):
                    await _command(patient, each)
                if _MATERIALIZED_VIEW in statement:
                    await self.inserts_ended()
        finally:
            await patient.close()

    async def _keep(self) -> None:
        """Make rows go as the retention says, if they do not already."""
        wanted = f"at + toIntervalDay({self._retention_days})" if self._retention_days else ""
        locals_ = ", ".join(f"'{self.layout.local(table)}'" for table in KEPT_FOR)
        engines = f"SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND name IN ({locals_})"
        for local, engine in await self.query(engines):
            found = _TTL.search(engine)
            if (found[1] if found else "") != wanted:
                change = f"MODIFY TTL {wanted}" if wanted else "REMOVE TTL"
                await self.command(f"ALTER TABLE {local}{self.layout.on_cluster} {change}")
                log.info("retention of table %s: %s", local, f"{self._retention_days} days" if wanted else "for ever")

    async def command(self, statement: str, *, use_database: bool = True) -> None:
        """Run a statement of DDL, or an `INSERT … SELECT`."""
        await _command(self._clickhouse, statement, use_database=use_database)

    async def inserts_ended(self) -> None:
        """Returns once every insert that is under way now has ended."""
        inserts = _INSERTS.format(processes=self.layout.processes)
        waiting = {query_id for (query_id,) in await self.query(inserts)}
        while waiting:
            await asyncio.sleep(LOOK_SECONDS)
            waiting &= {query_id for (query_id,) in await self.query(inserts)}

    async def query(self, sql: str, values: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a small result; `{name:Type}` in `sql` are `values`."""
        try:
            return [tuple(row) for row in (await (await self._clickhouse.client()).query(sql, values)).result_rows]
        except FAILURES as error:
            raise StoreUnavailableError(str(error)) from error

    async def stream(self, sql: str, format_: str, values: dict[str, str] | None = None) -> AsyncIterator[bytes]:
        """The result in one of ClickHouse's formats, as it comes."""
        try:
            client = await self._clickhouse.client()
            async with await client.raw_stream(sql, values, fmt=format_) as pieces:
                async for piece in pieces:
                    yield piece
        except FAILURES as error:
            raise StoreUnavailableError(str(error)) from error

    async def _insert(self, into: str, rows: Iterable[bytes]) -> None:
        # Not the client's `insert`: it needs two seconds of imports and keeps a process's loop from running meanwhile.
        block = b"".join(rows)
        if not block:
            return
        statement = f"INSERT INTO {into} FORMAT RowBinary\n".encode()
        try:
            client = await self._clickhouse.client()
            await client.raw_insert(insert_block=statement + block, settings=INSERT_SETTINGS)
        except FAILURES as error:
            code = _ERROR_CODE.search(str(error))
            if code and (code[1] or code[2]) in REFUSED_FOR_WHAT_IT_IS:
                raise RefusedError(str(error)) from error
            raise StoreUnavailableError(str(error)) from error


async def _command(clickhouse: ClickHouse, statement: str, *, use_database: bool = True) -> None:
    try:
        await (await clickhouse.client()).command(statement, use_database=use_database)
    except FAILURES as error:
        raise StoreUnavailableError(str(error)) from error


def migrations() -> Iterator[Migration]:
    """The files of `schema/`, in the order of their numbers."""
    files = resources.files("services.audit").joinpath("schema")
    for file in sorted(files.iterdir(), key=lambda file: file.name):
        if match := _FILE_NAME.fullmatch(file.name):
            text = file.read_text(encoding="utf-8")
            statements = tuple(statement for statement in _STATEMENT_END.split(text) if statement.strip())
            yield Migration(int(match[1]), match[2], statements, hashlib.sha256(text.encode()).hexdigest())


_MIGRATIONS_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32 COMMENT 'Number of the file in services/audit/schema',
    name String COMMENT 'Its name',
    checksum String COMMENT 'SHA-256 of its text, in hex',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was applied'
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'Which files of the schema have been applied'
"""
_APPLIED: Final = "SELECT number, checksum FROM schema_migrations FINAL"

_INSERTS: Final = "SELECT query_id FROM {processes} WHERE query_kind = 'Insert' AND query_id != queryID()"


# Rows in ClickHouse's format RowBinary: fixed-width numbers little-endian, text and bytes after their length as LEB128.

_UINT32: Final = struct.Struct("<I")
_UINT64: Final = struct.Struct("<Q")
_INT64: Final = struct.Struct("<q")
_SEQ_AT: Final = struct.Struct("<Qq")


def _event_row(event: Recorded) -> bytes:
    return b"".join(
        (
            _bytes(event.org_id.encode()),
            _bytes(event.session_id.encode()),
            _SEQ_AT.pack(event.seq, event.at),
            _bytes(event.type.encode()),
            _bytes(event.attrs),
            _bytes(event.data),
            _bytes(event.chain),
        )
    )


def _access_row(entry: AccessEntry) -> bytes:
    id_, *texts = entry.access.texts()
    at = _INT64.pack(entry.access.at)
    return b"".join((_bytes(id_), at, *(_bytes(text) for text in texts), _UINT64.pack(entry.stream_seq)))


def _anchor_row(anchor: Anchor) -> bytes:
    leaves = anchor.leaves
    return _sealed_row(
        anchor,
        _array([_bytes(leaf.org_id.encode()) for leaf in leaves]),
        _array([_bytes(leaf.session_id.encode()) for leaf in leaves]),
        _array([_UINT64.pack(leaf.seq) for leaf in leaves]),
        _array([_bytes(leaf.chain) for leaf in leaves]),
    )


def _access_anchor_row(anchor: AccessAnchor) -> bytes:
    leaves = anchor.leaves
    return _sealed_row(
        anchor,
        _array([_bytes(leaf.org_id.encode()) for leaf in leaves]),
        _array([_bytes(leaf.id.encode()) for leaf in leaves]),
        _array([_UINT64.pack(leaf.stream_seq) for leaf in leaves]),
        _array([_INT64.pack(leaf.at) for leaf in leaves]),
        _array([_bytes(leaf.digest) for leaf in leaves]),
    )


def _sealed_row(anchor: Anchor | AccessAnchor, *leaves: bytes) -> bytes:
    return b"".join(
        (
            _SEQ_AT.pack(anchor.number, anchor.at),
            _UINT64.pack(anchor.first_stream_seq),
            _UINT64.pack(anchor.last_stream_seq),
            *leaves,
            _bytes(anchor.root),
            _bytes(anchor.previous),
            _bytes(anchor.key_id.encode()),
            _bytes(anchor.signature),
        )
    )


def _quarantined_row(message: Quarantined) -> bytes:
    return b"".join(
        (
            _SEQ_AT.pack(message.stream_seq, message.published_at),
            _bytes(message.subject.encode()),
            _bytes(message.reason.encode()),
            _bytes(message.payload),
        )
    )


def _migration_row(migration: Migration) -> bytes:
    return _UINT32.pack(migration.number) + _bytes(migration.name.encode()) + _bytes(migration.checksum.encode())


def _array(items: Sequence[bytes]) -> bytes:
    return _length(len(items)) + b"".join(items)


def _bytes(data: bytes) -> bytes:
    return _length(len(data)) + data


def _length(length: int) -> bytes:
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
