"""What verification reads: events and anchors as they lie in ClickHouse, and what the streams say that must be there.

Rows come raw, each as often as it is there: two that contradict each other are to be seen. Everything is read in pages.
Methods let `services.runtime.clickhouse.FAILURES` and `nats.errors.Error` through.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from contracts.anchors import Anchor, Leaf
from contracts.proof import AnchoredHead
from contracts.wire import Recorded
from services.runtime.clickhouse import ClickHouse

PAGE_EVENTS: Final = 500
PAGE_SESSIONS: Final = 500
PAGE_ANCHORS: Final = 20

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ALWAYS: Final = (EPOCH, datetime(2299, 12, 31, tzinfo=UTC))
"""All the time that ClickHouse knows of."""


class Evidence:
    """Events and anchors in one ClickHouse database."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def session_ids(self, since: datetime, until: datetime) -> AsyncIterator[list[str]]:
        """Every session of which there are events, or anchors made, in this time; in order, a page at a time."""
        after = ""
        while True:
            values = {"after": after, "since": microseconds(since), "until": microseconds(until), "limit": PAGE_SESSIONS}
            page = [str(row[0]) for row in await self._rows(_SESSIONS, values)]
            if page:
                yield page
            if len(page) < PAGE_SESSIONS:
                return
            after = page[-1]

    async def heads(self, session_id: str) -> list[AnchoredHead]:
        """What anchors say of this session."""
        found = await self._heads(_WITH_SESSION, {"first": session_id, "last": session_id})
        return found.get(session_id, [])

    async def heads_between(self, first: str, last: str) -> dict[str, list[AnchoredHead]]:
        """What anchors say of the sessions from one id to another."""
        return await self._heads("", {"first": first, "last": last})

    async def anchored_org(self, session_id: str) -> str | None:
        """Which organization anchors say that a session is of; None when none has it."""
        rows = await self._rows(_ORG, {"session_id": session_id})
        return str(rows[0][0]) if rows else None

    async def org_ids(self, session_id: str = "") -> list[str]:
        """Of which organizations there are events, or anchors; of one session, if it is given."""
        rows = await self._rows(_ORGS_OF if session_id else _ORGS, {"session_id": session_id})
        return [str(row[0]) for row in rows]

    async def events(self, session_id: str) -> AsyncIterator[Recorded]:
        """All rows of a session, by their numbers."""

        async def page(first: int, limit: int) -> Sequence[Sequence[Any]]:
            return await self._rows(_EVENTS, {"session_id": session_id, "first": first, "limit": limit})

        async for row in all_pages(page, 0, PAGE_EVENTS, number_column=2):
            yield Recorded(*row)

    async def anchor_numbers(self, since: datetime, until: datetime) -> tuple[int, int] | None:
        """The lowest and the highest number of the anchors made in this time; None when there are none."""
        [(count, first, last)] = await self._rows(_NUMBERS, {"since": microseconds(since), "until": microseconds(until)})
        return (first, last) if count else None

    async def anchors(self, first: int, last: int) -> AsyncIterator[Anchor]:
        """All rows of anchors with these numbers, by their numbers."""

        async def page(first: int, limit: int) -> Sequence[Sequence[Any]]:
            return await self._rows(_ANCHORS, {"first": first, "last": last, "limit": limit})

        async for row in all_pages(page, first, PAGE_ANCHORS, number_column=0):
            yield _anchor(row)

    async def anchor(self, number: int) -> Anchor | None:
        """One anchor; None when it is not there."""
        rows = await self._rows(_ANCHORS, {"first": number, "last": number, "limit": 1})
        return _anchor(rows[0]) if rows else None

    async def newest_anchor(self) -> Anchor | None:
        """The anchor with the highest number; None when there is none."""
        rows = await self._rows(_NEWEST_ANCHOR, {})
        return _anchor(rows[0]) if rows else None

    async def _heads(self, condition: str, values: dict[str, Any]) -> dict[str, list[AnchoredHead]]:
        found: dict[str, list[AnchoredHead]] = {}
        for session_id, number, seq, chain, at in await self._rows(_HEADS + condition, values):
            found.setdefault(session_id, []).append(AnchoredHead(number, seq, bytes.fromhex(chain), at))
        return found

    async def _rows(self, sql: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        client = await self._clickhouse.client()
        return (await client.query(sql, values, column_formats=_AS_BYTES)).result_rows


_AS_BYTES: Final[dict[str, str | dict[str, str]]] = {"attrs": "bytes", "data": "bytes", "chain": "bytes"}

# Times go to and fro as microseconds since the epoch: exact, and of no zone.

_SINCE: Final = "fromUnixTimestamp64Micro({since:Int64}, 'UTC')"
_UNTIL: Final = "fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
BETWEEN: Final = f"at >= {_SINCE} AND at < {_UNTIL}"

_SESSIONS: Final = f"""
SELECT session_id FROM
(
    SELECT DISTINCT session_id FROM events WHERE session_id > {{after:String}} AND {BETWEEN}
    ORDER BY session_id LIMIT {{limit:UInt32}}
    UNION DISTINCT
    SELECT DISTINCT session_id FROM anchors ARRAY JOIN session_ids AS session_id
    WHERE session_id > {{after:String}} AND {BETWEEN} ORDER BY session_id LIMIT {{limit:UInt32}}
)
ORDER BY session_id LIMIT {{limit:UInt32}}"""

_HEADS: Final = """
SELECT leaf.1, number, leaf.2, hex(leaf.3), toUnixTimestamp64Micro(at) FROM anchors
ARRAY JOIN arrayZip(session_ids, seqs, chains) AS leaf
WHERE leaf.1 >= {first:String} AND leaf.1 <= {last:String}"""
_WITH_SESSION: Final = " AND has(session_ids, {first:String})"

_ORG: Final = """
SELECT org_ids[indexOf(session_ids, {session_id:String})] FROM anchors
WHERE has(session_ids, {session_id:String}) ORDER BY number LIMIT 1"""

_ORGS: Final = """
SELECT org_id FROM events GROUP BY org_id
UNION DISTINCT SELECT org_id FROM anchors ARRAY JOIN org_ids AS org_id GROUP BY org_id"""
_ORGS_OF: Final = """
SELECT org_id FROM events WHERE session_id = {session_id:String} GROUP BY org_id
UNION DISTINCT SELECT org_ids[indexOf(session_ids, {session_id:String})] FROM anchors WHERE has(session_ids, {session_id:String})"""

_EVENTS: Final = """
SELECT org_id, session_id, seq, toUnixTimestamp64Micro(at), type, attrs, data, chain FROM events
WHERE session_id = {session_id:String} AND seq >= {first:UInt64}
ORDER BY session_id, seq LIMIT {limit:UInt32}"""

_NUMBERS: Final = f"SELECT count(), min(number), max(number) FROM anchors WHERE {BETWEEN}"

_ANCHOR: Final = """
SELECT number, toUnixTimestamp64Micro(at), first_stream_seq, last_stream_seq, org_ids, session_ids, seqs,
    arrayMap(each -> hex(each), chains), hex(root), hex(previous), key_id, hex(signature)
FROM anchors"""

_ANCHORS: Final = (
    _ANCHOR
    + """
WHERE number >= {first:UInt64} AND number <= {last:UInt64} ORDER BY number LIMIT {limit:UInt32}"""
)
_NEWEST_ANCHOR: Final = _ANCHOR + " ORDER BY number DESC LIMIT 1"


async def all_pages(
    page: Callable[[int, int], Awaitable[Sequence[Sequence[Any]]]], first: int, page_rows: int, *, number_column: int
) -> AsyncIterator[Sequence[Any]]:
    """Rows by number, a page at a time; `page` gives at most so many from a number on.

    A page may end among rows of one number: these are left to the next page, and when they fill one, it is taken for all.
    """
    while True:
        rows = await page(first, page_rows)
        is_last = len(rows) < page_rows
        cut = rows[-1][number_column] if rows and not is_last else None
        whole = [row for row in rows if row[number_column] != cut] or rows
        for row in whole:
            yield row
        if is_last:
            return
        first = whole[-1][number_column] + 1


def _anchor(row: Sequence[Any]) -> Anchor:
    number, at, first, last, org_ids, session_ids, seqs, chains, root, previous, key_id, signature = row
    leaves = tuple(
        Leaf(org_id, session_id, seq, bytes.fromhex(chain))
        for org_id, session_id, seq, chain in zip(org_ids, session_ids, seqs, chains, strict=True)
    )
    return Anchor(
        number=number,
        at=at,
        first_stream_seq=first,
        last_stream_seq=last,
        leaves=leaves,
        root=bytes.fromhex(root),
        previous=bytes.fromhex(previous),
        key_id=key_id,
        signature=bytes.fromhex(signature),
    )


def microseconds(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)
