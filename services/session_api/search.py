"""Search in the logs of all sessions that the caller may see: where a text stands, newest first, with what surrounds it."""

import base64
import binascii
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
    """At most `limit` hits."""
    text = _ascii_lower(wanted.text)
    values: dict[str, Any] = {
        "text": text,
        "pattern": f"%{_escaped(text)}%",
        "org_id": wanted.org_id,
        "limit": limit + 1,
        "around": SURROUNDING_CHARACTERS,
        "characters": len(text),
    }
    entries, sessions = [], []
    for name, value in (("user_id", wanted.user_id), ("machine_id", wanted.machine_id)):
        if value is not None:
            sessions.append(f" AND {name} = {{{name}:String}}")
            values[name] = value
    if sessions:
        entries.append(f" AND session_id GLOBAL IN (SELECT session_id {_SESSIONS}{''.join(sessions)})")
    if wanted.type is not None:
        entries.append(" AND type = {type:String}")
        values["type"] = wanted.type.value
    for name, moment, comparison in (("since", wanted.since, ">="), ("until", wanted.until, "<")):
        if moment is not None:
            entries.append(f" AND at {comparison} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            values[name] = _microseconds(moment)
    if wanted.before is not None:
        entries.append(_BEFORE)
        values |= dict(zip(("before_at", "before_session", "before_seq"), wanted.before, strict=True))
    sql = f"{_HITS_BEGIN}{''.join(entries)}{_HITS_END}"
    rows = await history.rows(sql, values, {"max_execution_time": SEARCH_SECONDS_MAX})
    shown = rows[:limit]
    last: Place | None = (shown[-1][1], shown[-1][0], shown[-1][2]) if len(rows) > limit else None
    return SearchResult([_hit(row) for row in shown], encode_cursor(last) if last else None)


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


_SESSIONS: Final = "FROM sessions WHERE org_id = {org_id:String} AND claimed_at IS NOT NULL"

# The place is looked for only in the hits of the page: the inner query keeps the rest away from it. GLOBAL is for clusters,
# where the sessions' subquery runs once and not on every node.

_HITS_BEGIN: Final = f"""
SELECT hits.session_id, toUnixTimestamp64Micro(hits.at), hits.seq, hits.type,
    whose.user_id, whose.user_name, whose.machine_id, whose.machine_name,
    substringUTF8(content, greatest(place - {{around:Int64}}, 1), place - greatest(place - {{around:Int64}}, 1)) AS before,
    substringUTF8(content, place, {{characters:Int64}}) AS found,
    substringUTF8(content, place + {{characters:Int64}}, {{around:Int64}}) AS after
FROM (
    SELECT session_id, at, seq, type, content, toInt64(positionUTF8(lower(content), {{text:String}})) AS place FROM (
        SELECT session_id, at, seq, type, content FROM logs
        WHERE org_id = {{org_id:String}} AND lower(content) LIKE {{pattern:String}}
            AND session_id GLOBAL IN (SELECT session_id {_SESSIONS})"""

_BEFORE: Final = """
            AND (at, session_id, seq) <
                (fromUnixTimestamp64Micro({before_at:Int64}, 'UTC'), {before_session:String}, {before_seq:UInt64})"""

_HITS_END: Final = f"""
        ORDER BY at DESC, session_id DESC, seq DESC LIMIT {{limit:UInt32}}
    )
) AS hits
GLOBAL INNER JOIN (SELECT session_id, user_id, user_name, machine_id, machine_name {_SESSIONS}) AS whose
    ON whose.session_id = hits.session_id
ORDER BY hits.at DESC, hits.session_id DESC, hits.seq DESC"""


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
