"""What verification reads of access entries: rows and anchors over them as they lie in ClickHouse.

Rows come raw, each as often as it is there, in pages by their place in stream ACCESS. Methods let
`services.runtime.clickhouse.FAILURES` through.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final

from contracts import access
from contracts.access_check import Coverage, EntryRow, Gap, KnownEntry
from contracts.anchors import AccessAnchor, AccessLeaf
from services.runtime.clickhouse import ClickHouse
from services.runtime.evidence import BETWEEN, PAGE_ANCHORS, all_pages, microseconds

PAGE_ENTRIES: Final = 5000


class AccessEvidence:
    """Access entries and their anchors in one ClickHouse database."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def anchor_numbers(self, since: datetime, until: datetime) -> tuple[int, int] | None:
        """The lowest and the highest number of the anchors made in this time; None when there are none."""
        [(count, first, last)] = await self._rows(_NUMBERS, {"since": microseconds(since), "until": microseconds(until)})
        return (first, last) if count else None

    async def anchors(self, first: int, last: int) -> AsyncIterator[AccessAnchor]:
        """All rows of anchors with these numbers, by their numbers."""

        async def page(first: int, limit: int) -> Sequence[Sequence[Any]]:
            return await self._rows(_ANCHORS, {"first": first, "last": last, "limit": limit})

        async for row in all_pages(page, first, PAGE_ANCHORS, number_column=0):
            yield _anchor(row)

    async def anchor(self, number: int) -> AccessAnchor | None:
        """One anchor; None when it is not there."""
        rows = await self._rows(_ANCHORS, {"first": number, "last": number, "limit": 1})
        return _anchor(rows[0]) if rows else None

    async def newest_anchor(self) -> AccessAnchor | None:
        """The anchor with the highest number; None when there is none."""
        rows = await self._rows(_NEWEST_ANCHOR, {})
        return _anchor(rows[0]) if rows else None

    async def coverage(self) -> Coverage:
        """What all anchors together are over."""
        began = await self._rows(_BEGAN, {})
        gaps = await self._rows(_GAPS, {})
        return Coverage(began[0][0] if began else None, tuple(Gap(*gap) for gap in gaps))

    async def places(self, since: datetime, until: datetime) -> tuple[int, int] | None:
        """The lowest and the highest place of the entries of this time, as they are or as anchors have them."""
        [(count, first, last)] = await self._rows(_PLACES, {"since": microseconds(since), "until": microseconds(until)})
        return (first, last) if count else None

    async def known(self, first: int, last: int, last_anchor: int) -> AsyncIterator[KnownEntry]:
        """What anchors up to number `last_anchor` have from one place to another, by place."""

        async def page(first: int, limit: int) -> Sequence[Sequence[Any]]:
            return await self._rows(_KNOWN, {"first": first, "last": last, "last_anchor": last_anchor, "limit": limit})

        async for place, id_, at, digest, number in all_pages(page, first, PAGE_ENTRIES, number_column=0):
            yield KnownEntry(place, id_, at, bytes.fromhex(digest), number)

    async def entries(self, first: int, last: int) -> AsyncIterator[EntryRow]:
        """All rows from one place to another, by place."""

        async def page(first: int, limit: int) -> Sequence[Sequence[Any]]:
            return await self._rows(_ENTRIES, {"first": first, "last": last, "limit": limit})

        async for place, at, *texts in all_pages(page, first, PAGE_ENTRIES, number_column=0):
            yield EntryRow(place, texts[0].decode(errors="replace"), at, access.digest(place, at, texts))

    async def set_aside(self, stream_seq: int) -> list[tuple[str, bytes]]:
        """Subject and payload of what was set aside from this place of stream ACCESS."""
        return [(row[0], row[1]) for row in await self._rows(_SET_ASIDE, {"stream_seq": stream_seq})]

    async def _rows(self, sql: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        client = await self._clickhouse.client()
        return (await client.query(sql, values, column_formats=_AS_BYTES)).result_rows


_TEXTS: Final = ("id", "org_id", "user_id", "user_name", "user_email", "role", "action", "session_id", "detail", "ip_address")
_COLUMNS: Final = (*_TEXTS, "user_agent")
"""In the order of `contracts.access.digest`."""

_AS_BYTES: Final[dict[str, str | dict[str, str]]] = {f"{column}_bytes": "bytes" for column in (*_COLUMNS, "payload")}

_NUMBERS: Final = f"SELECT count(), min(number), max(number) FROM access_anchors WHERE {BETWEEN}"

_ANCHOR: Final = """
SELECT number, toUnixTimestamp64Micro(at), first_stream_seq, last_stream_seq, org_ids, ids, stream_seqs,
    arrayMap(each -> toUnixTimestamp64Micro(each), times), arrayMap(each -> hex(each), digests),
    hex(root), hex(previous), key_id, hex(signature)
FROM access_anchors"""

_ANCHORS: Final = (
    _ANCHOR
    + """
WHERE number >= {first:UInt64} AND number <= {last:UInt64} ORDER BY number LIMIT {limit:UInt32}"""
)
_NEWEST_ANCHOR: Final = _ANCHOR + " ORDER BY number DESC LIMIT 1"

_BEGAN: Final = "SELECT toUnixTimestamp64Micro(times[1]) FROM access_anchors WHERE notEmpty(times) ORDER BY number LIMIT 1"

_GAPS: Final = """
SELECT previous + 1, first_stream_seq - 1, toUnixTimestamp64Micro(at) FROM
(
    SELECT number, at, first_stream_seq,
        lagInFrame(last_stream_seq) OVER (ORDER BY number ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous
    FROM access_anchors
)
WHERE first_stream_seq > previous + 1 ORDER BY number"""

_LEAVES: Final = "arrayMap(i -> (stream_seqs[i], ids[i], times[i], digests[i]), arrayEnumerate(stream_seqs)) AS leaf"
"""Not arrayZip, which fails altogether where somebody made the arrays of different lengths."""

_PLACES: Final = f"""
SELECT count(), min(place), max(place) FROM
(
    SELECT stream_seq AS place, at FROM access_entries
    UNION ALL
    SELECT leaf.1 AS place, leaf.3 AS at FROM access_anchors ARRAY JOIN {_LEAVES}
)
WHERE {BETWEEN}"""

# A page is found by its places alone, and only then read as a whole: a place has few rows, and an index of its own.

_ENTRIES: Final = f"""
SELECT stream_seq, toUnixTimestamp64Micro(at), {", ".join(f"toString({column}) AS {column}_bytes" for column in _COLUMNS)}
FROM access_entries
WHERE stream_seq >= {{first:UInt64}} AND stream_seq <= {{last:UInt64}} AND stream_seq <=
(
    SELECT max(place) FROM
    (
        SELECT stream_seq AS place FROM access_entries WHERE stream_seq >= {{first:UInt64}} AND stream_seq <= {{last:UInt64}}
        ORDER BY place LIMIT {{limit:UInt32}}
    )
)
ORDER BY stream_seq LIMIT {{limit:UInt32}}"""

_IN_RANGE: Final = "number <= {last_anchor:UInt64} AND last_stream_seq >= {first:UInt64} AND first_stream_seq <= {last:UInt64}"
_KNOWN: Final = f"""
WITH
(
    SELECT max(place) FROM
    (
        SELECT place FROM access_anchors ARRAY JOIN stream_seqs AS place
        WHERE {_IN_RANGE} AND place >= {{first:UInt64}} AND place <= {{last:UInt64}} ORDER BY place LIMIT {{limit:UInt32}}
    )
) AS bound
SELECT leaf.1, leaf.2, toUnixTimestamp64Micro(leaf.3), hex(leaf.4), number FROM access_anchors ARRAY JOIN {_LEAVES}
WHERE {_IN_RANGE} AND first_stream_seq <= bound AND leaf.1 >= {{first:UInt64}} AND leaf.1 <= bound
ORDER BY leaf.1 LIMIT {{limit:UInt32}}"""

_SET_ASIDE: Final = """
SELECT DISTINCT subject, payload AS payload_bytes FROM quarantine
WHERE stream_seq = {stream_seq:UInt64} AND startsWith(subject, 'access.')"""


def _anchor(row: Sequence[Any]) -> AccessAnchor:
    number, at, first, last, org_ids, ids, stream_seqs, times, digests, root, previous, key_id, signature = row
    columns = (org_ids, ids, stream_seqs, times, digests)
    is_whole = len({len(column) for column in columns}) == 1
    leaves = tuple(AccessLeaf(*leaf[:-1], bytes.fromhex(leaf[-1])) for leaf in zip(*columns, strict=True)) if is_whole else ()
    return AccessAnchor(
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
