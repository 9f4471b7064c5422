"""The API's one door to ClickHouse: sessions, logs and events of what `audit` has stored there.

Lists read the view `sessions`, logs the view `logs`. A session's events come from the table `events` itself, in order,
and an event that is there twice is given once.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

import msgspec
from nats.js import JetStreamContext

from contracts.api import AccessRecord, LogEntry, LogType, ReaderDetail
from contracts.events import ConnectError, EndReason, Person, Target
from contracts.live import LiveSession, LiveState
from contracts.proof import Keys
from contracts.wire import Recorded
from services.runtime.clickhouse import FAILURES, ClickHouse
from services.runtime.evidence import Evidence
from services.runtime.settings import ClickHouseSettings
from services.runtime.verification import SessionReport, Verifier

PAGE_ROWS: Final = 500
"""Rows that are asked for at first; of full output frames, 16 MiB."""

PAGE_ROWS_MIN: Final = 50
PAGE_ROWS_MAX: Final = 2000
PAGE_BYTES: Final = 8 * 1024 * 1024
"""Of a page; the next one has as many rows as would fit if they were like those of the last."""

SEQ_MAX: Final = 2**63 - 1
AT_MAX: Final = 2**62

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryUnavailableError(Exception):
    """ClickHouse does not answer, or has not our schema yet: try again later."""


class History:
    """Every method raises `HistoryUnavailableError` when ClickHouse does not answer."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    @classmethod
    async def connect(cls, settings: ClickHouseSettings) -> Self:
        """Ready to ask; ClickHouse may still be down."""
        return cls(ClickHouse(settings))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._clickhouse.close()

    async def ready(self) -> None:
        """Raises when ClickHouse does not answer, or `audit` has not made the schema yet."""
        await self.rows("SELECT 1 FROM sessions LIMIT 0", {})

    async def sessions(
        self,
        *,
        org_id: str,
        user_id: str | None = None,
        machine_id: str | None = None,
        ended: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int,
    ) -> list[LiveSession]:
        """Sessions of an organization, newest first by (`started_at`, id), at most `limit`.

        `since` (inclusive) and `until` (exclusive) bound `started_at`; `before` is where the page before ended.
        """
        equal = {"org_id": org_id, "user_id": user_id, "machine_id": machine_id}
        conditions, values = _listed("started_at", "session_id", equal, since, until, before)
        if ended is not None:
            conditions += " AND state = 'ended'" if ended else " AND state != 'ended'"
        sql = f"{_SESSIONS} AND {conditions} ORDER BY started_at DESC, session_id DESC LIMIT {{limit:UInt32}}"
        return [_session(row) for row in await self.rows(sql, values | {"limit": limit})]

    async def session(self, org_id: str, session_id: str) -> LiveSession | None:
        """One session of this organization; None when ClickHouse has none of this id (yet)."""
        sql = f"{_SESSIONS} AND org_id = {{org_id:String}} AND session_id = {{session_id:String}}"
        rows = await self.rows(sql, {"org_id": org_id, "session_id": session_id})
        return _session(rows[0]) if rows else None

    async def recorded_seq(self, session_id: str) -> int:
        """How many of the session's events ClickHouse has: its highest number, unless one before it is still on its way."""
        rows = await self.rows(_RECORDED_SEQ, {"session_id": session_id})
        return int(rows[0][0])

    async def logs_are_filled(self, session_id: str) -> bool:
        """Whether the view `logs` has what `events` has of the session: of one insert, the tables show it one after the other."""
        [(logged, told)] = await self.rows(_LOGGED, {"session_id": session_id})
        return bool(logged >= told)

    async def last_seq(self, session_id: str) -> int:
        """The highest number of the session's events that ClickHouse has; 0 when it has none."""
        return int((await self.rows(_LAST_SEQ, {"session_id": session_id}))[0][0])

    async def keyframe(self, session_id: str, *, up_to_seq: int, up_to_at: int | None) -> Recorded | None:
        """The session's last keyframe up to and with these; `up_to_at` in microseconds."""
        values = {"session_id": session_id, "up_to_seq": up_to_seq, "up_to_at": AT_MAX if up_to_at is None else up_to_at}
        rows = await self.rows(_KEYFRAME, values)
        return Recorded(*rows[0]) if rows else None

    async def logs(
        self, session_id: str, *, after_seq: int = 0, limit: int | None = None, type_: LogType | None = None
    ) -> AsyncIterator[LogEntry]:
        """Command lines and the readable output that followed, in order, as they are read; empty texts are left out."""
        types = list(LogType) if type_ is None else [type_]
        left = limit
        async for seq, at, its_type, content in self._log_rows({"session_id": session_id, "types": types}, after_seq):
            if left is not None and (left := left - 1) < 0:
                return
            yield LogEntry(_moment(at), its_type, content.decode("utf-8", "replace"), seq)

    async def access(
        self,
        *,
        org_id: str,
        user_id: str | None,
        session_id: str | None,
        since: datetime | None,
        until: datetime | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[AccessRecord]:
        """Who read records of an organization, newest first by (`at`, id), at most `limit`; bounds as those of `sessions`."""
        equal = {"org_id": org_id, "user_id": user_id, "session_id": session_id}
        conditions, values = _listed("at", "id", equal, since, until, before)
        sql = f"{_ACCESS} WHERE {conditions} {_NEWEST_ACCESS}"
        return [_access_record(row) for row in await self.rows(sql, values | {"limit": limit})]

    async def events(self, session_id: str, after_seq: int, up_to_seq: int = SEQ_MAX) -> AsyncIterator[Recorded]:
        """The session's events after number `after_seq`, up to and with `up_to_seq`, in order, exactly as recorded."""
        wanted, dense = PAGE_ROWS, True
        while after_seq < up_to_seq:
            # Between close bounds ClickHouse reads little; only where numbers are missing it has to look further.
            last_seq = min(after_seq + wanted, up_to_seq) if dense else up_to_seq
            values = {"session_id": session_id, "after_seq": after_seq, "up_to_seq": last_seq, "limit": wanted}
            rows = await self.rows(_EVENTS, values)
            for row in rows:
                yield Recorded(*row)
            if len(rows) < wanted and last_seq == up_to_seq:
                return
            after_seq = last_seq if dense else rows[-1][2]
            dense = len(rows) == wanted
            wanted = _next_page(wanted, rows)

    async def verified(self, session_id: str, jetstream: JetStreamContext, keys: Keys, *, retention_days: int) -> SessionReport:
        """What verification says of the session."""
        try:
            verifier = Verifier(Evidence(self._clickhouse), jetstream, keys, retention_days=retention_days)
            return await verifier.session(session_id)
        except FAILURES as error:
            raise HistoryUnavailableError(str(error)) from error

    async def anchored_org(self, session_id: str) -> str | None:
        """Which organization anchors say that a session is of; None when none has it."""
        try:
            return await Evidence(self._clickhouse).anchored_org(session_id)
        except FAILURES as error:
            raise HistoryUnavailableError(str(error)) from error

    async def _log_rows(self, values: dict[str, Any], after_seq: int) -> AsyncIterator[Sequence[Any]]:
        """Rows a page at a time, so that a slow reader holds no query open."""
        wanted = PAGE_ROWS
        while True:
            rows = await self.rows(_LOGS, values | {"after_seq": after_seq, "limit": wanted})
            for row in rows:
                yield row
            if len(rows) < wanted:
                return
            after_seq = rows[-1][0]
            wanted = _next_page(wanted, rows)

    async def rows(self, sql: str, values: dict[str, Any], settings: dict[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        """All rows of `sql`, whose `{name:Type}` are `values`; attrs, data, chain and content come as bytes."""
        try:
            client = await self._clickhouse.client()
            return (await client.query(sql, values, settings=settings, column_formats=_AS_BYTES)).result_rows
        except FAILURES as error:
            raise HistoryUnavailableError(str(error)) from error


def _listed(
    time: str,
    id_: str,
    equal: Mapping[str, str | None],
    since: datetime | None,
    until: datetime | None,
    before: tuple[datetime, str] | None,
) -> tuple[str, dict[str, Any]]:
    """The condition of a list by (`time`, `id_`), newest first, and its values: columns that are `equal` to what is not None."""
    conditions = [f"{name} = {{{name}:String}}" for name, value in equal.items() if value is not None]
    values: dict[str, Any] = {name: value for name, value in equal.items() if value is not None}
    for name, moment, comparison in (("since", since, ">="), ("until", until, "<")):
        if moment is not None:
            conditions.append(f"{time} {comparison} {_MOMENT.format(name)}")
            values[name] = _microseconds(moment)
    if before is not None:
        conditions.append(f"({time}, {id_}) < ({_MOMENT.format('before')}, {{before_id:String}})")
        values |= {"before": _microseconds(before[0]), "before_id": before[1]}
    return " AND ".join(conditions), values


def _next_page(wanted: int, rows: Sequence[Sequence[Any]]) -> int:
    """How many rows like these make a page of `PAGE_BYTES`."""
    page_bytes = sum(len(value) for row in rows for value in row if isinstance(value, bytes))
    return min(max(len(rows) * PAGE_BYTES // max(page_bytes, 1), PAGE_ROWS_MIN), 2 * wanted, PAGE_ROWS_MAX)


# Times go to and fro as microseconds since the epoch: exact, and of no zone.

_MOMENT: Final = "fromUnixTimestamp64Micro({{{}:Int64}}, 'UTC')"
_AS_BYTES: Final[dict[str, str | dict[str, str]]] = {
    "attrs": "bytes",
    "data": "bytes",
    "chain": "bytes",
    "content": "bytes",
}

_SESSIONS: Final = """
SELECT session_id, org_id, user_id, user_name, user_email, machine_id, machine_name, machine_host, state,
    toUnixTimestamp64Micro(started_at), toUnixTimestamp64Micro(last_activity), ip_address, user_agent, worker, commands_count,
    toUnixTimestamp64Micro(ended_at), reason, code, exit_status
FROM sessions
WHERE claimed_at IS NOT NULL"""

_ACCESS: Final = """
SELECT id, toUnixTimestamp64Micro(at), user_id, user_name, user_email, role, action, session_id, detail, ip_address, user_agent
FROM access_entries"""
_NEWEST_ACCESS: Final = "ORDER BY at DESC, id DESC LIMIT 1 BY at, id LIMIT {limit:UInt32}"

_RECORDED_SEQ: Final = "SELECT uniqExact(seq) FROM events WHERE session_id = {session_id:String}"

_LOGGED: Final = """
SELECT
    (SELECT uniqExact(seq) FROM log_parts WHERE session_id = {session_id:String} AND type IN ('command', 'output')) AS logged,
    (SELECT uniqExact(seq) FROM events WHERE session_id = {session_id:String} AND type IN ('command', 'text')) AS told"""

_LAST_SEQ: Final = "SELECT max(seq) FROM events WHERE session_id = {session_id:String}"

_LOGS: Final = """
SELECT seq, toUnixTimestamp64Micro(at), type, content FROM logs
WHERE session_id = {session_id:String} AND seq > {after_seq:UInt64} AND type IN {types:Array(String)} AND content != ''
ORDER BY session_id, seq LIMIT {limit:UInt32}"""

_KEYFRAME: Final = """
SELECT org_id, session_id, seq, toUnixTimestamp64Micro(at), type, attrs, data, chain FROM events
WHERE (session_id, seq) = (
    SELECT session_id, max(seq) FROM events
    WHERE session_id = {session_id:String} AND type = 'keyframe'
        AND seq <= {up_to_seq:UInt64} AND toUnixTimestamp64Micro(at) <= {up_to_at:Int64}
    GROUP BY session_id
)
LIMIT 1"""

_EVENTS: Final = """
SELECT org_id, session_id, seq, toUnixTimestamp64Micro(at), type, attrs, data, chain FROM events
WHERE session_id = {session_id:String} AND seq > {after_seq:UInt64} AND seq <= {up_to_seq:UInt64}
ORDER BY session_id, seq LIMIT 1 BY seq LIMIT {limit:UInt32}"""


def _session(row: Sequence[Any]) -> LiveSession:
    (session_id, org_id, user_id, user_name, user_email, machine_id, machine_name, machine_host, state, *rest) = row
    (started_at, last_activity, ip_address, user_agent, worker, commands_count, ended_at, reason, code, exit_status) = rest
    return LiveSession(
        session_id=session_id,
        org_id=org_id,
        user=Person(user_id, user_name, user_email),
        machine=Target(machine_id, machine_name, machine_host),
        state=LiveState(state),
        started_at=_moment(started_at),
        last_activity=_moment(last_activity),
        ip_address=ip_address,
        user_agent=user_agent,
        worker=worker,
        commands_count=commands_count,
        ended_at=None if ended_at is None else _moment(ended_at),
        reason=_known(EndReason, reason),
        code=_known(ConnectError, code),
        exit_status=exit_status,
    )


def _access_record(row: Sequence[Any]) -> AccessRecord:
    id_, at, user_id, user_name, user_email, role, action, session_id, detail, ip_address, user_agent = row
    return AccessRecord(
        id=id_,
        at=_moment(at),
        user=ReaderDetail(user_id, user_name, user_email),
        role=role,
        action=action,
        session_id=session_id or None,
        detail=msgspec.json.decode(detail, type=dict[str, str]),
        ip_address=ip_address,
        user_agent=user_agent,
    )


def _known[Value: StrEnum](kind: type[Value], text: str) -> Value | None:
    """None for empty text, and for a value of a later version."""
    return kind(text) if text in kind else None


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
