"""`vsay logs rebuild`: the present detection, run over the events that ClickHouse has, gives sessions a new version of their logs.

Rows of a version are written first and the version itself last, so readers see the old one until the new one is whole.
"""

import argparse
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from contracts.events import InputEchoed, SessionClaimed, TerminalResized
from contracts.wire import Recorded
from services.cli.connection import FailedError, settings_of
from services.runtime import masking
from services.runtime.clickhouse import FAILURES, ClickHouse
from services.runtime.settings import ClickHouseSettings, MaskRulesFile
from terminal.masking import Masking
from terminal.observations import CommandEntered, CommandFinished, Observation, TextShown
from terminal.observer import DETECTION, Observer

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ANSWER_SECONDS: Final = 600
PAGE_EVENTS: Final = 500
BATCH_ROWS: Final = 500
SETTLE_US: Final = 300_000
"""Silence after which the worker lets its observer decide what is open, in microseconds."""


class RebuildSettings(ClickHouseSettings, frozen=True, kw_only=True):
    """`vsay logs rebuild`."""

    mask_rules_file: MaskRulesFile = ""


class LogRow(Struct, frozen=True):
    """A row of table `rebuilt_logs`; `at` as ClickHouse reads it, in UTC."""

    org_id: str
    session_id: str
    version: int
    seq: int
    at: str
    type: str
    n: int
    content: str = ""
    confidence: str = ""
    context: str = ""
    cwd: str = ""
    from_seq: int = 0
    to_seq: int = 0
    omitted_chars: int = 0
    exit_status: int | None = None


class Replay:
    """One session's observer, given its events anew. Pure: `take` them in order, keys where they were typed; then `finish`."""

    def __init__(self, session_id: str, version: int, mask: Masking) -> None:
        self._session_id = session_id
        self._version = version
        self._mask = mask
        self._org_id = ""
        self._observer = Observer(80, 24, mask)
        self._at = 0
        self._seq = 0
        self._row_seq = 0

    def take(self, event: Recorded) -> list[LogRow]:
        """A `claimed`, `resized` or `output` event."""
        rows: list[LogRow] = []
        if self._at and event.at - self._at > SETTLE_US:
            rows += self._rows(self._observer.settle())
        self._at = event.at
        match event.type:
            case "claimed" if isinstance(claimed := event.event(), SessionClaimed):
                self._org_id = event.org_id
                self._observer = Observer(claimed.cols, claimed.rows, self._mask)
            case "resized" if isinstance(resized := event.event(), TerminalResized):
                rows += self._rows(self._observer.resized(resized.cols, resized.rows))
            case "output":
                self._seq = event.seq
                rows += self._rows(self._observer.shown(event.data, event.seq))
        return rows

    def quiet(self, until: int) -> list[LogRow]:
        """Nothing was shown up to this time."""
        if self._at and until - self._at > SETTLE_US:
            self._at = until
            return self._rows(self._observer.settle())
        return []

    def typed(self, keys: bytes) -> list[LogRow]:
        """Keys that were typed now; none: a line that was not shown."""
        if keys:
            return self._rows(self._observer.typed(keys))
        self._observer.typed_unseen()
        return []

    def finish(self) -> list[LogRow]:
        """The session is over."""
        return self._rows(self._observer.finish())

    def _rows(self, observations: Sequence[Observation]) -> list[LogRow]:
        return [row for each in observations if (row := self._row(each))]

    def _row(self, observation: Observation) -> LogRow | None:
        """With a number of its own, as near to the event in which it was seen as the numbers before it leave room for."""
        match observation:
            case CommandEntered() as entered:
                told: dict[str, Any] = {
                    "type": "command",
                    "n": entered.n,
                    "content": entered.text,
                    "confidence": entered.confidence,
                    "context": entered.context,
                    "cwd": entered.cwd or "",
                    "from_seq": entered.started_seq,
                    "to_seq": entered.output_from_seq,
                }
            case TextShown() as shown:
                told = {
                    "type": "output",
                    "n": shown.n,
                    "content": shown.text,
                    "from_seq": shown.from_seq,
                    "to_seq": shown.to_seq,
                    "omitted_chars": shown.omitted_chars,
                    "exit_status": shown.exit_status,
                }
            case CommandFinished(n, output_to_seq, exit_status):
                told = {"type": "finished", "n": n, "to_seq": output_to_seq, "exit_status": exit_status}
            case _:
                return None
        self._row_seq = max(self._row_seq, self._seq) + 1
        at = f"{EPOCH + timedelta(microseconds=self._at):%Y-%m-%d %H:%M:%S.%f}"
        return LogRow(self._org_id, self._session_id, self._version, self._row_seq, at, **told)


async def rebuild(arguments: argparse.Namespace) -> None:
    """`vsay logs rebuild`"""
    settings = settings_of(RebuildSettings)
    store = _Store(ClickHouse(settings, answer_seconds=ANSWER_SECONDS))
    mask = masking.load(settings.mask_rules_file)
    try:
        wanted = arguments.sessions or [row[0] for row in await store.rows(_ENDED, {})]
        for session_id in wanted:
            version, commands = await _rebuild(store, session_id, mask)
            print(f"{session_id}: version {version}, {commands} commands", flush=True)
    except FAILURES as error:
        raise FailedError(f"ClickHouse does not answer as it should (VSAY_CLICKHOUSE_URL): {error}") from error
    finally:
        await store.close()


async def _rebuild(store: "_Store", session_id: str, mask: Masking) -> tuple[int, int]:
    [(ended,)] = await store.rows(_HAS_ENDED, {"session_id": session_id})
    if not ended:
        raise FailedError(f"session {session_id} has not ended, or ClickHouse does not have its end yet")
    [(version,)] = await store.rows(_NEXT_VERSION, {"session_id": session_id})
    replay = Replay(session_id, version, mask)
    waiting: list[LogRow] = []
    commands = 0
    async for rows in _replayed(store, session_id, replay):
        waiting += rows
        commands += sum(row.type == "command" for row in rows)
        if len(waiting) >= BATCH_ROWS:
            await store.insert(waiting)
            waiting = []
    await store.insert(waiting)
    await store.publish(session_id, version)
    return version, commands


async def _replayed(store: "_Store", session_id: str, replay: Replay) -> AsyncIterator[list[LogRow]]:
    """Keys are recorded when they have been shown; here they go where they were typed, of which their events tell."""
    keys = _keys(store, session_id)
    next_keys = await anext(keys, None)
    async for event in store.events(session_id, ("claimed", "output", "resized")):
        while next_keys and next_keys[0] < event.seq and event.type != "claimed":  # keys before all output are typed after 0
            yield replay.quiet(event.at)
            yield replay.typed(next_keys[1])
            next_keys = await anext(keys, None)
        yield replay.take(event)
    while next_keys:
        yield replay.typed(next_keys[1])
        next_keys = await anext(keys, None)
    yield replay.finish()


async def _keys(store: "_Store", session_id: str) -> AsyncIterator[tuple[int, bytes]]:
    """Keys in the order in which they were typed, each with the output event after which that was; empty: a masked line."""
    async for recorded in store.events(session_id, ("input",)):
        event = recorded.event()
        if not isinstance(event, InputEchoed):
            continue
        position = 0
        for after_seq, count in event.typed_after:
            yield after_seq, recorded.data[position : position + count]
            position += count


class _Store:
    """What a rebuild reads and writes. Raises one of `FAILURES`."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def close(self) -> None:
        await self._clickhouse.close()

    async def rows(self, sql: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        client = await self._clickhouse.client()
        return (await client.query(sql, values, column_formats=_AS_BYTES)).result_rows

    async def events(self, session_id: str, types: Sequence[str]) -> AsyncIterator[Recorded]:
        """In order, a page at a time."""
        after_seq = 0
        while True:
            values = {"session_id": session_id, "types": list(types), "after_seq": after_seq, "limit": PAGE_EVENTS}
            rows = await self.rows(_EVENTS, values)
            for row in rows:
                yield Recorded(*row)
            if len(rows) < PAGE_EVENTS:
                return
            after_seq = rows[-1][2]

    async def insert(self, rows: Sequence[LogRow]) -> None:
        if rows:
            await self._insert("rebuilt_logs", b"\n".join(map(_encode, rows)))

    async def publish(self, session_id: str, version: int) -> None:
        """From here on readers see this version."""
        await self._insert("log_versions", _encode({"session_id": session_id, "version": version, "detection": DETECTION}))

    async def _insert(self, table: str, lines: bytes) -> None:
        client = await self._clickhouse.client()
        await client.raw_insert(insert_block=f"INSERT INTO {table} FORMAT JSONEachRow\n".encode() + lines)


_encode: Final = msgspec.json.Encoder().encode
_AS_BYTES: Final[dict[str, str | dict[str, str]]] = {"attrs": "bytes", "data": "bytes", "chain": "bytes"}

_ENDED: Final = "SELECT DISTINCT session_id FROM events WHERE type = 'ended' ORDER BY session_id"
_HAS_ENDED: Final = "SELECT count() FROM events WHERE session_id = {session_id:String} AND type = 'ended'"
_NEXT_VERSION: Final = "SELECT max(version) + 1 FROM log_versions WHERE session_id = {session_id:String}"
_EVENTS: Final = """
SELECT org_id, session_id, seq, toUnixTimestamp64Micro(at), type, attrs, data, chain FROM events
WHERE session_id = {session_id:String} AND seq > {after_seq:UInt64} AND type IN {types:Array(String)}
ORDER BY session_id, seq LIMIT 1 BY seq LIMIT {limit:UInt32}"""
