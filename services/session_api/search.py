"""Search in the logs of all sessions that the caller may see: where a text stands, newest first, with what surrounds it."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from contracts.api import LogType, MachineSummary, SearchHit, SearchResult, UserSummary
from services.session_api.errors import invalid
from services.session_api.history import EPOCH, History

QUERY_CHARACTERS_MAX: Final = 200
SURROUNDING_CHARACTERS: Final = 200
"""Before and after what was found; of a longer entry the rest is left out."""

NEWEST_SESSIONS: Final = (50, 1000)
"""In so many of the newest sessions, of those that are asked for, it is looked first: about so many granules are read for it, of
some megabytes each."""

AT_MAX: Final = (2**32 - 1) * 1_000_000
"""The last that ClickHouse's DateTime knows, in microseconds."""

SEARCH_SECONDS_MAX: Final = 25
"""How long ClickHouse may look; it answers 503 then, and a narrower search helps."""

type Place = tuple[int, str, int]
"""Of a hit: when it was recorded (microseconds), session, seq."""

_places: msgspec.json.Decoder[Place] = msgspec.json.Decoder(Place)


class Wanted(Struct, frozen=True):
    """What to look for, and where; `since` (inclusive) and `until` (exclusive) bound when it was recorded."""

    text: str
    org_id: str
    user_id: str | None = None
    machine_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    type: LogType | None = None
    before: Place | None = None
    """The last hit of the page before."""


async def page(history: History, wanted: Wanted, limit: int) -> SearchResult:
    """At most `limit` hits.

    First it looks only in the sessions in which something happened last, then in more, then in all: what stands in many
    places is found without reading the rest, and what stands in few the indexes find in all.
    """
    values, where = _conditions(wanted)
    found: list[Place] = []
    for sessions in (*NEWEST_SESSIONS, None):
        begin = await _begin(history, wanted, sessions) if sessions else None
        is_whole = begin is None or (wanted.since is not None and begin <= wanted.since)
        window = values | {"limit": limit + 1} | ({} if begin is None or is_whole else {"begin": _microseconds(begin)})
        sql = _PLACES.format(entries=_entries(wanted.type, where + ("" if is_whole else _WINDOW)))
        rows = await history.rows(sql, window, {"max_execution_time": SEARCH_SECONDS_MAX})
        found = [(at, session_id, seq) for at, session_id, seq in rows]
        if is_whole or len(found) > limit:
            break
    hits = await _hits(history, wanted.type, values, found[:limit])
    return SearchResult(hits, encode_cursor(found[limit - 1]) if len(found) > limit else None)


def _conditions(wanted: Wanted) -> tuple[dict[str, Any], str]:
    """Values and conditions of the entries that are wanted, in the terms of `_entries`."""
    text = _ascii_lower(wanted.text)
    values: dict[str, Any] = {
        "text": text,
        "pattern": f"%{_escaped(text)}%",
        "org_id": wanted.org_id,
        "around": SURROUNDING_CHARACTERS,
        "characters": len(text),
        "last_at": _last_at(wanted),
    }
    conditions = []
    whose, of = _whose(wanted)
    if whose:
        conditions.append(
            f" AND session_id GLOBAL IN (SELECT session_id FROM session_parts WHERE org_id = {{org_id:String}}{whose})"
        )
        values |= of
    if wanted.type is not None:
        conditions.append(" AND type = {type:String}")
        values["type"] = wanted.type.value
    for name, moment, comparison in (("since", wanted.since, ">="), ("until", wanted.until, "<")):
        if moment is not None:
            conditions.append(f" AND at {comparison} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            values[name] = _microseconds(moment)
    if wanted.before is not None:
        conditions.append(_BEFORE)
        values |= dict(zip(("before_at", "before_session", "before_seq"), wanted.before, strict=True))
    return values, "".join(conditions)


def _entries(type_: LogType | None, where: str) -> str:
    """Columns session_id, at, seq, type and content of the entries in which the text stands and for which `where` holds."""
    return _ENTRIES.format(where=where, **(_OF_COMMANDS if type_ is LogType.COMMAND else _OF_LOGS))


def _whose(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """Condition and values of the sessions of a user, on a machine. Of the parts of a session its claim alone says whose it is."""
    values = {"user_id": wanted.user_id, "machine_id": wanted.machine_id}
    given = {name: value for name, value in values.items() if value is not None}
    return "".join(f" AND {name} = {{{name}:String}}" for name in given), given


async def _begin(history: History, wanted: Wanted, sessions: int) -> datetime | None:
    """Since when about so many of the wanted sessions began, up to where the search begins; None: fewer did altogether."""
    whose, of = _whose(wanted)
    sql = _BEGIN_OF_CLAIMED.format(whose=whose) if whose else _BEGIN
    rows = await history.rows(sql, of | {"org_id": wanted.org_id, "last_at": _last_at(wanted), "sessions": sessions})
    return EPOCH + timedelta(microseconds=rows[0][0]) if rows else None


def _last_at(wanted: Wanted) -> int:
    """Nothing later is wanted, as far as it is known; microseconds."""
    until = _microseconds(wanted.until) if wanted.until else AT_MAX
    return max(min(until, wanted.before[0] if wanted.before else AT_MAX, AT_MAX), 0)


async def _hits(history: History, type_: LogType | None, values: dict[str, Any], places: Sequence[Place]) -> list[SearchHit]:
    """What stands there. A session whose beginning is still on its way is left out."""
    if not places:
        return []
    keys = {"session_ids": [place[1] for place in places], "seqs": [place[2] for place in places]}
    rows = await history.rows(_HITS.format(entries=_entries(type_, _KEYS)), values | keys)
    found = {(row[1], row[0], row[2]): _hit(row) for row in rows}
    return [found[place] for place in places if place in found]


def encode_cursor(place: Place) -> str:
    """Opaque text that a client hands back."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode_cursor(text: str | None) -> Place | None:
    """The cursor in `text`. Raises `RefusedError`."""
    if text is None:
        return None
    try:
        place = _places.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise invalid("cursor", "not a cursor of this API") from error
    if not (_in_range(place[0]) and _in_range(place[2])):
        raise invalid("cursor", "not a cursor of this API")
    return place


# Tables are read without FINAL, which would merge all of them first, and be ten times as slow: an entry may be there twice,
# both the same. GLOBAL is for clusters, where a subquery runs once and not on every node.

_ENTRIES: Final = """
SELECT session_id, {columns} FROM {recorded}
WHERE org_id = {{org_id:String}} AND {kind} AND lower(content) LIKE {{pattern:String}}
    AND session_id GLOBAL NOT IN (SELECT session_id FROM log_versions){where}
UNION ALL
SELECT session_id, {columns} FROM {rebuilt}
WHERE org_id = {{org_id:String}} AND {kind} AND lower(content) LIKE {{pattern:String}}
    AND (session_id, version) GLOBAL IN (SELECT session_id, max(version) FROM log_versions GROUP BY session_id){where}"""

_OF_LOGS: Final = {
    "columns": "at, seq, type, content",
    "recorded": "log_parts",
    "rebuilt": "rebuilt_logs",
    "kind": "type IN ('command', 'output')",
}
_OF_COMMANDS: Final = {
    "columns": "assumeNotNull(entered_at) AS at, seq, 'command' AS type, text AS content",
    "recorded": "command_parts",
    "rebuilt": "rebuilt_commands",
    "kind": "seq > 0",
}
"""Commands have tables of their own as well, in which there is no output to pass over."""

_WINDOW: Final = """
    AND at >= fromUnixTimestamp64Micro({begin:Int64}, 'UTC')
    AND session_id GLOBAL IN (
        SELECT session_id FROM session_hour_parts
        WHERE org_id = {org_id:String} AND hour >= toStartOfHour(fromUnixTimestamp64Micro({begin:Int64}, 'UTC'))
            AND hour <= fromUnixTimestamp64Micro({last_at:Int64}, 'UTC')
            AND last_at >= fromUnixTimestamp64Micro({begin:Int64}, 'UTC')
            AND first_at <= fromUnixTimestamp64Micro({last_at:Int64}, 'UTC')
    )"""

_BEFORE: Final = """
    AND at <= fromUnixTimestamp64Micro({before_at:Int64}, 'UTC')
    AND (at, session_id, seq) <
        (fromUnixTimestamp64Micro({before_at:Int64}, 'UTC'), {before_session:String}, {before_seq:UInt64})"""

_BEGIN: Final = """
SELECT toUnixTimestamp64Micro(first_at) FROM session_hour_parts
WHERE org_id = {org_id:String} AND hour <= fromUnixTimestamp64Micro({last_at:Int64}, 'UTC')
    AND first_at <= fromUnixTimestamp64Micro({last_at:Int64}, 'UTC')
ORDER BY hour DESC, first_at DESC LIMIT 1 OFFSET {sessions:UInt32}"""

_BEGIN_OF_CLAIMED: Final = """
SELECT toUnixTimestamp64Micro(assumeNotNull(claimed_at)) FROM session_parts
WHERE org_id = {{org_id:String}} AND claimed_at <= fromUnixTimestamp64Micro({{last_at:Int64}}, 'UTC'){whose}
ORDER BY claimed_at DESC LIMIT 1 OFFSET {{sessions:UInt32}}"""

_PLACES: Final = """
SELECT toUnixTimestamp64Micro(at), session_id, seq FROM ({entries})
ORDER BY at DESC, session_id DESC, seq DESC LIMIT 1 BY at, session_id, seq LIMIT {{limit:UInt32}}"""

_KEYS: Final = " AND (session_id, seq) IN arrayZip({session_ids:Array(String)}, {seqs:Array(UInt64)})"

_HITS: Final = """
SELECT hits.session_id, toUnixTimestamp64Micro(hits.at), hits.seq, hits.type,
    whose.user_id, whose.user_name, whose.machine_id, whose.machine_name,
    substringUTF8(content, greatest(place - {{around:Int64}}, 1), place - greatest(place - {{around:Int64}}, 1)) AS before,
    substringUTF8(content, place, {{characters:Int64}}) AS found,
    substringUTF8(content, place + {{characters:Int64}}, {{around:Int64}}) AS after
FROM (
    SELECT session_id, at, seq, type, content, toInt64(positionUTF8(lower(content), {{text:String}})) AS place
    FROM ({entries})
) AS hits
GLOBAL INNER JOIN (
    SELECT session_id, user_id, user_name, machine_id, machine_name FROM sessions
    WHERE org_id = {{org_id:String}} AND claimed_at IS NOT NULL AND session_id IN {{session_ids:Array(String)}}
) AS whose ON whose.session_id = hits.session_id"""


def _hit(row: Any) -> SearchHit:
    session_id, at, seq, type_, user_id, user_name, machine_id, machine_name, before, found, after = row
    return SearchHit(
        session_id=session_id,
        timestamp=EPOCH + timedelta(microseconds=at),
        seq=seq,
        type=LogType(type_),
        user=UserSummary(user_id, user_name),
        machine=MachineSummary(machine_id, machine_name),
        before=before,
        match=found,
        after=after,
    )


def _ascii_lower(text: str) -> str:
    """As ClickHouse's `lower`, which leaves all other letters as they are."""
    return "".join(char.lower() if char.isascii() else char for char in text)


def _escaped(text: str) -> str:
    """So that LIKE takes every character for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _in_range(number: int) -> bool:
    return 0 <= number < 2**62
