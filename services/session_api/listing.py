"""Lists of sessions: the `live` views merged over ClickHouse, newest first, a page at a time."""

import base64
import binascii
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from contracts.api import (
    MachineDetail,
    MachineSummary,
    SessionDetail,
    SessionList,
    SessionStatus,
    SessionSummary,
    UserDetail,
    UserSummary,
)
from contracts.live import LiveSession
from services.session_api.errors import invalid
from services.session_api.gateway import ENDED_STATES, Gateway
from services.session_api.history import History

Cursor = tuple[datetime, str]
"""(`started_at`, id) of the last session of the page before."""

_cursor_decoder: msgspec.json.Decoder[Cursor] = msgspec.json.Decoder(Cursor)


class Wanted(Struct, frozen=True):
    """Which sessions; `since` and `until` bound `started_at`, `before` is the page's cursor."""

    org_id: str
    user_id: str | None
    machine_id: str | None
    status: SessionStatus | None
    since: datetime | None
    until: datetime | None
    before: Cursor | None

    def admits(self, session: LiveSession) -> bool:
        """Whether `session`, of the right organization, belongs on the list."""
        return (
            self.user_id in (None, session.user.id)
            and self.machine_id in (None, session.machine.id)
            and self.status in (None, status(session))
            and (self.since is None or session.started_at >= self.since)
            and (self.until is None or session.started_at < self.until)
            and (self.before is None or _key(session) < self.before)
        )


async def page(gateway: Gateway, history: History, wanted: Wanted, limit: int) -> SessionList:
    """At most `limit` sessions. What is on the bus wins over ClickHouse, which lags a little."""
    on_bus = {session.session_id: session for session in await gateway.live_sessions(wanted.org_id)}
    stored = await history.sessions(
        org_id=wanted.org_id,
        user_id=wanted.user_id,
        machine_id=wanted.machine_id,
        ended=None if wanted.status is None else wanted.status is SessionStatus.ENDED,
        since=wanted.since,
        until=wanted.until,
        before=wanted.before,
        limit=limit + 1 + len(on_bus),  # as many as the bus may overrule
    )
    merged = [session for session in stored if session.session_id not in on_bus]
    merged += [session for session in on_bus.values() if wanted.admits(session)]
    merged.sort(key=_key, reverse=True)
    shown, rest = merged[:limit], merged[limit:]
    return SessionList([summary(session) for session in shown], encode_cursor(_key(shown[-1])) if rest and shown else None)


def status(session: LiveSession) -> SessionStatus:
    """`active` until it has ended, also while it waits."""
    return SessionStatus.ENDED if session.state in ENDED_STATES else SessionStatus.ACTIVE


def summary(session: LiveSession) -> SessionSummary:
    """As lists show it."""
    return SessionSummary(
        id=session.session_id,
        user=UserSummary(session.user.id, session.user.name),
        machine=MachineSummary(session.machine.id, session.machine.name),
        status=status(session),
        started_at=session.started_at,
        last_activity=session.last_activity,
        ip_address=session.ip_address,
        ended_at=session.ended_at,
        reason=session.reason,
        code=session.code,
    )


def detail(session: LiveSession) -> SessionDetail:
    """As its own page shows it."""
    return SessionDetail(
        id=session.session_id,
        user=UserDetail(session.user.id, session.user.name, session.user.email),
        machine=MachineDetail(session.machine.id, session.machine.name, session.machine.host),
        status=status(session),
        started_at=session.started_at,
        last_activity=session.last_activity,
        ip_address=session.ip_address,
        user_agent=session.user_agent,
        commands_count=session.commands_count,
        ended_at=session.ended_at,
        reason=session.reason,
        code=session.code,
        exit_status=session.exit_status,
    )


def moment(field: str, text: str | None, *, end_of_day: bool = False) -> datetime | None:
    """A date or time of ISO 8601; UTC where it names no zone. A bare date is its beginning, or its end. Raises `RefusedError`."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(_unspaced(text))
    except ValueError as error:
        raise invalid(field, "not a date or time of ISO 8601") from error
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware + timedelta(days=1) if end_of_day and len(text) <= len("2024-01-01") else aware


def encode_cursor(cursor: Cursor) -> str:
    """Opaque text that a client hands back."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str | None) -> Cursor | None:
    """The cursor in `text`. Raises `RefusedError`."""
    if text is None:
        return None
    try:
        return _cursor_decoder.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise invalid("cursor", "not a cursor of this API") from error


def _key(session: LiveSession) -> Cursor:
    return session.started_at, session.session_id


def _unspaced(text: str) -> str:
    """In a query string an unescaped `+` of a zone arrives as a space."""
    head, space, zone = text.rpartition(" ")
    return f"{head}+{zone}" if space and "T" in head and ":" in head else text
