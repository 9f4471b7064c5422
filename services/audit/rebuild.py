"""Makes a projection anew from `events` while ingestion goes on, and swaps it in at once.

A projection is a table `T` and the materialized views that fill it. As their aggregates are idempotent, an event may
reach a table any number of times, and the order of the steps is such that it reaches the new table at least once:

1. `T_rebuild`, empty, with views of its own: what is inserted from here on reaches both tables.
2. Wait for inserts that were under way before: their rows are in `events` now.
3. Project what `events` has into `T_rebuild`, piece by piece.
4. `EXCHANGE TABLES`: at one moment readers see the new table. Views find their table by its name when an insert begins,
   so from now on those of `T` fill the new one; but an insert that began at this very moment may have found the old
   table under both names.
5. Wait for inserts that were under way before, and project once more what was stored since shortly before the swap.
6. Drop the views of `T_rebuild`, wait for inserts that still use them, drop what is the old table now.

Cut off at any step, it leaves `T` whole, old or new, and leftovers that `restart` drops.
"""

import logging
import re
from collections.abc import AsyncIterator, Iterator
from typing import Final

from msgspec import Struct

from services.audit.clickhouse import Store

log = logging.getLogger(__name__)

PROJECTIONS: Final = {
    "sessions": "session_parts",
    "logs": "log_parts",
    "commands": "command_parts",
    "attendance": "attendance_parts",
    "stats": "session_hour_parts",
}
"""What a person calls it, and its table. The view `stats_hourly` reads `stats`."""

PIECE_EVENTS: Final = 1_000_000
OVERLAP_SECONDS: Final = 60
"""How far the clocks of two servers may be apart."""

SUFFIX: Final = "_rebuild"


class LeftoversError(Exception):
    """Another rebuild of this projection runs, or one was cut off."""


class Progress(Struct, frozen=True):
    """`done` of `total` events that there were at the beginning; at the end they are equal."""

    projection: str
    done: int
    total: int


class _View(Struct, frozen=True):
    name: str
    select: str


class _Piece(Struct, frozen=True):
    month: int
    first_session: str
    last_session: str
    events: int


async def rebuild(
    store: Store, projection: str, *, restart: bool = False, piece_events: int = PIECE_EVENTS
) -> AsyncIterator[Progress]:
    """Rebuild one of `PROJECTIONS`. Raises `LeftoversError`, unless it is to `restart`, and what `Store` raises."""
    table = PROJECTIONS[projection]
    shadow = table + SUFFIX
    views = await _views(store, table)
    if restart:
        await _drop(store, table, views)
    elif await store.query(
        f"SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = '{store.layout.local(shadow)}'"
    ):
        raise LeftoversError(f"{shadow} is there: another rebuild of {projection} runs, or one was cut off and is to be restarted")
    layout = store.layout
    await _run(store, layout.create_like(shadow, table))
    for view in views:
        created = f"CREATE MATERIALIZED VIEW {view.name}{SUFFIX}{layout.on_cluster} TO {layout.local(shadow)}"
        await store.command(f"{created} AS {view.select}")
    await store.inserts_ended()
    await _run(store, layout.synced("events"))

    pieces = await _pieces(store, piece_events)
    total = sum(piece.events for piece in pieces)
    done = 0
    yield Progress(projection, done, total)
    for piece in pieces:
        for view in views:
            await _project(store, view, shadow, _of(piece))
        done += piece.events
        yield Progress(projection, done, total)
    await _carry_over(store, table, shadow)

    await _run(store, layout.synced(shadow))
    [(swap_began,)] = await store.query(_BEFORE_ANY_INSERT.format(processes=layout.processes))
    await store.command(f"EXCHANGE TABLES {layout.local(table)} AND {layout.local(shadow)}{layout.on_cluster}")
    await store.inserts_ended()
    for view in views:
        await _project(store, view, table, f"stored_at >= fromUnixTimestamp64Milli({swap_began})")
    await _drop(store, table, views)
    log.info("projection %s was rebuilt from %d events", projection, total)


async def _views(store: Store, table: str) -> list[_View]:
    rows = await store.query(_VIEWS.format(target=store.layout.local(table)))
    return [_View(name, select) for name, select in rows if not name.endswith(SUFFIX)]


async def _pieces(store: Store, piece_events: int) -> list[_Piece]:
    """All events, by month and by ranges of sessions. Ranges touch where a session goes over two; that makes no difference."""
    pieces = []
    for (month,) in await store.query("SELECT DISTINCT toYYYYMM(at) AS month FROM events ORDER BY month"):
        rows = await store.query(_RANGES.format(month=month, piece_events=piece_events))
        pieces += [_Piece(month, first, last, events) for first, last, events in rows]
    return pieces


def _of(piece: _Piece) -> str:
    first, last = (_quoted(session) for session in (piece.first_session, piece.last_session))
    return f"toYYYYMM(at) = {piece.month} AND session_id BETWEEN {first} AND {last}"


async def _project(store: Store, view: _View, table: str, condition: str) -> None:
    """What `view` makes of the events for which this holds, into `table`."""
    select, count = _FROM_EVENTS.subn(
        lambda found: f"FROM (SELECT * FROM {found[1] or found[2]} WHERE {condition}) AS events", view.select
    )
    assert count == 1, f"{view.name} reads events once"
    names = ", ".join(name for (name,) in await store.query(_COLUMNS.format(view=view.name)))
    await store.command(f"INSERT INTO {table} ({names}) SELECT {names} FROM ({select})")


async def _carry_over(store: Store, table: str, shadow: str) -> None:
    """Rows of sessions whose beginning the retention has removed from `events`, which alone can no longer tell of them."""
    [(kept_for_ever,)] = await store.query(
        "SELECT engine_full NOT LIKE '% TTL %' FROM system.tables"
        f" WHERE database = currentDatabase() AND name = '{store.layout.local('events')}'"
    )
    if not kept_for_ever:
        with_beginning = "SELECT session_id FROM events WHERE seq = 1"
        await store.command(f"INSERT INTO {shadow} SELECT * FROM {table} WHERE session_id GLOBAL NOT IN ({with_beginning})")


async def _drop(store: Store, table: str, views: list[_View]) -> None:
    for view in views:
        await store.command(f"DROP VIEW IF EXISTS {view.name}{SUFFIX}{store.layout.on_cluster}")
    await store.inserts_ended()
    await _run(store, store.layout.drop(table + SUFFIX))


async def _run(store: Store, statements: Iterator[str]) -> None:
    for statement in statements:
        await store.command(statement)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_FROM_EVENTS: Final = re.compile(r"\bFROM (\w+\.events)(?:_local AS events)?\b")

_VIEWS: Final = """
SELECT name, as_select FROM system.tables
WHERE database = currentDatabase() AND engine = 'MaterializedView'
    AND create_table_query LIKE concat('CREATE MATERIALIZED VIEW %.% TO ', currentDatabase(), '.{target} (%')
ORDER BY name"""

_EXISTS: Final = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = '{table}'"

_COLUMNS: Final = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '{view}' ORDER BY position"

_BEFORE_ANY_INSERT: Final = (
    f"SELECT toUnixTimestamp64Milli(now64(3)) - toInt64((ifNull(max(elapsed), 0) + {OVERLAP_SECONDS}) * 1000)"
    " FROM {processes} WHERE query_kind = 'Insert'"
)

_RANGES: Final = """
SELECT min(session_id), max(session_id), count()
FROM
(
    SELECT session_id, intDiv(rowNumberInAllBlocks(), {piece_events}) AS piece
    FROM (SELECT session_id FROM events WHERE toYYYYMM(at) = {month} ORDER BY session_id)
)
GROUP BY piece
ORDER BY piece"""
