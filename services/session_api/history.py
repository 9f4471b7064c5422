"""The API's one door to ClickHouse: what was recorded, as projections and as events."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from contracts.api import LogEntry, MachineUsage, SessionStats
from contracts.events import ConnectError, EndReason, Person, Target
from contracts.live import LiveSession, LiveState
from contracts.wire import Recorded
from services.runtime.settings import ClickHouseSettings

TOP_MACHINES_MAX: Final = 10

EVENTS_AT_ONCE: Final = 2000
"""Rows that a stream of events or log entries asks for at a time, so that a slow reader holds no query open."""

_SESSION_COLUMNS: Final = (
    "session_id, org_id, user_id, user_name, user_email, machine_id, machine_name, machine_host, ip_address, user_agent, worker,"
    " started_at, last_activity, ended_at, shell_ran, reason, code, exit_status, commands_count"
)


class HistoryUnavailableError(Exception):
    """ClickHouse does not answer, or refuses."""


class History:
    """Every method raises `HistoryUnavailableError`. Times are UTC."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    @classmethod
    async def connect(cls, settings: ClickHouseSettings) -> Self:
        """The history; ClickHouse itself is reached when it is first asked, and need not answer before."""
        return cls(settings)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client:
            await self._client.close()

    async def ready(self) -> None:
        """Returns when ClickHouse answers and has our tables."""
        await self._rows("SELECT count() FROM sessions WHERE session_id = ''")

    async def sessions(  # one argument a filter
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
        """An organization's sessions, newest first by (`started_at`, id); `before` is the last of the page before."""
        conditions, parameters = ["org_id = {org_id:String}"], {"org_id": org_id, "limit": str(limit)}
        if user_id is not None:
            conditions.append("user_id = {user_id:String}")
            parameters["user_id"] = user_id
        if machine_id is not None:
            conditions.append("machine_id = {machine_id:String}")
            parameters["machine_id"] = machine_id
        if ended is not None:
            conditions.append("ended_at IS NOT NULL" if ended else "ended_at IS NULL")
        if since is not None:
            conditions.append("started_at >= {since:DateTime64(6, 'UTC')}")
            parameters["since"] = _moment(since)
        if until is not None:
            conditions.append("started_at < {until:DateTime64(6, 'UTC')}")
            parameters["until"] = _moment(until)
        if before is not None:
            conditions.append("(started_at, session_id) < ({before:DateTime64(6, 'UTC')}, {before_id:String})")
            parameters |= {"before": _moment(before[0]), "before_id": before[1]}
        where = " AND ".join(conditions)
        query = (
            f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE {where} ORDER BY (started_at, session_id) DESC LIMIT {{limit:UInt32}}"
        )
        return [_session(row) for row in await self._rows(query, parameters)]

    async def session(self, org_id: str, session_id: str) -> LiveSession | None:
        """One session, as far as ClickHouse knows it."""
        query = f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE org_id = {{org_id:String}} AND session_id = {{session_id:String}}"
        rows = await self._rows(query, {"org_id": org_id, "session_id": session_id})
        return _session(rows[0]) if rows else None

    async def recorded_seq(self, session_id: str) -> int:
        """Number of the session's newest event in ClickHouse; 0 when there is none."""
        rows = await self._rows("SELECT max(seq) FROM events WHERE session_id = {session_id:String}", {"session_id": session_id})
        return int(rows[0][0])

    async def logs(self, session_id: str, *, after_seq: int = 0, type_: str | None = None) -> AsyncIterator[LogEntry]:
        """Commands and readable output in the order of the record; entries without text are left out."""
        condition = " AND type = {type:String}" if type_ else ""
        query = (
            "SELECT seq, at, type, content FROM logs WHERE session_id = {session_id:String} AND seq > {after_seq:UInt64}"
            f" AND content != ''{condition} ORDER BY seq LIMIT {EVENTS_AT_ONCE}"
        )
        while True:
            rows = await self._rows(query, {"session_id": session_id, "after_seq": str(after_seq), "type": type_ or ""})
            for seq, at, kind, content in rows:
                yield LogEntry(timestamp=at, type=kind, content=content, seq=seq)
            if len(rows) < EVENTS_AT_ONCE:
                return
            after_seq = rows[-1][0]

    async def stats(
        self, *, org_id: str, user_id: str | None = None, since: datetime, until: datetime, active: int
    ) -> SessionStats:
        """Figures over the sessions whose `started_at` lies in `since` … `until`, as `docs/api.md` defines them.

        Their duration is counted up to their end, or to `until` while they run. `active` comes from the caller: the bus knows it.
        """
        parameters = {"org_id": org_id, "user_id": user_id or "", "since": _moment(since), "until": _moment(until)}
        chosen = (
            "FROM sessions WHERE org_id = {org_id:String} AND ({user_id:String} = '' OR user_id = {user_id:String})"
            " AND started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}"
        )
        counted_to = "least(ifNull(ended_at, {until:DateTime64(6, 'UTC')}), {until:DateTime64(6, 'UTC')})"
        duration = f"dateDiff('microsecond', started_at, {counted_to})"
        totals = await self._rows(f"SELECT count(), sum(greatest(0, {duration})), uniqExact(user_id) {chosen}", parameters)
        machines = await self._rows(
            f"SELECT machine_id, argMax(machine_name, started_at), count() AS sessions_count {chosen}"
            f" GROUP BY machine_id ORDER BY sessions_count DESC, machine_id LIMIT {TOP_MACHINES_MAX}",
            parameters,
        )
        total, microseconds, users = totals[0]
        return SessionStats(
            total_sessions=total,
            active_sessions=active,
            total_duration_hours=round(microseconds / 3.6e9, 4),
            unique_users=users,
            top_machines=[MachineUsage(*row) for row in machines],
        )

    async def events(self, session_id: str, after_seq: int, up_to_seq: int | None = None) -> AsyncIterator[Recorded]:
        """The recorded events after number `after_seq`, each once, in order, byte for byte."""
        query = (
            "SELECT org_id, session_id, seq, toUnixTimestamp64Micro(at), type, attrs, data, chain FROM events"
            " WHERE session_id = {session_id:String} AND seq > {after_seq:UInt64} AND seq <= {up_to:UInt64}"
            f" ORDER BY seq LIMIT 1 BY seq LIMIT {EVENTS_AT_ONCE}"
        )
        up_to = str(2**63 if up_to_seq is None else up_to_seq)
        formats: dict[str, str | dict[str, str]] = {"attrs": "bytes", "data": "bytes", "chain": "bytes"}
        while True:
            rows = await self._rows(query, {"session_id": session_id, "after_seq": str(after_seq), "up_to": up_to}, formats)
            for row in rows:
                yield Recorded(*row)
            if len(rows) < EVENTS_AT_ONCE:
                return
            after_seq = rows[-1][2]

    async def _rows(
        self, query: str, parameters: Mapping[str, str] | None = None, formats: dict[str, str | dict[str, str]] | None = None
    ) -> Sequence[Sequence[Any]]:
        async with _unavailable():
            client = self._client or await self._connect()
            result = await client.query(query, parameters=dict(parameters or {}), column_formats=formats)
            return result.result_rows

    async def _connect(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                address = urlsplit(self._settings.clickhouse_url)
                self._client = await clickhouse_connect.get_async_client(
                    host=address.hostname,
                    port=address.port,
                    secure=address.scheme == "https",
                    username=self._settings.clickhouse_user,
                    password=self._settings.clickhouse_password,
                    database=self._settings.clickhouse_database,
                    autogenerate_session_id=False,
                    tz_mode="aware",
                )
            return self._client


@asynccontextmanager
async def _unavailable() -> AsyncIterator[None]:
    try:
        yield
    except (ClickHouseError, OSError) as error:
        raise HistoryUnavailableError(str(error)[:500]) from error


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _session(row: Sequence[Any]) -> LiveSession:
    """The session in a row of `_SESSION_COLUMNS`."""
    (session_id, org_id, user_id, user_name, user_email, machine_id, machine_name, machine_host, *rest) = row
    (ip_address, user_agent, worker, started_at, last_activity, ended_at, shell_ran, reason, code, exit_status, commands_count) = (
        rest
    )
    return LiveSession(
        session_id=session_id,
        org_id=org_id,
        user=Person(user_id, user_name, user_email),
        machine=Target(machine_id, machine_name, machine_host),
        state=LiveState.ENDED if ended_at else LiveState.STARTED if shell_ran else LiveState.CLAIMED,
        started_at=started_at,
        last_activity=last_activity,
        ip_address=ip_address,
        user_agent=user_agent,
        worker=worker,
        commands_count=commands_count,
        ended_at=ended_at,
        reason=EndReason(reason) if reason else None,
        code=ConnectError(code) if code else None,
        exit_status=exit_status,
    )
