"""One session's view in bucket `live`: what lists show of it before ClickHouse does."""

import logging
import time
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from contracts import live
from contracts.commands import OpenSession
from contracts.events import ConnectError, EndReason
from contracts.live import LiveSession, LiveState
from services.ssh_worker.session import ConnectFailed, Happening, ShellExited, Stopped

CHANGED_SECONDS: Final = 1.0
"""A busy session's view is written at most this often."""

UNCHANGED_SECONDS: Final = 15.0

log = logging.getLogger(__name__)


class LiveView:
    """Written by the session's owner alone once `claim` has returned None."""

    def __init__(self, bucket: KeyValue, command: OpenSession, worker: str) -> None:
        self._bucket = bucket
        self._view = LiveSession(
            session_id=command.session_id,
            org_id=command.org_id,
            user=command.user,
            machine=command.machine.target(),
            state=LiveState.CLAIMED,
            started_at=command.requested_at,
            last_activity=command.requested_at,
            ip_address=command.ip_address,
            user_agent=command.user_agent,
            worker=worker,
        )
        self._written: LiveSession | None = None
        self._written_at = -UNCHANGED_SECONDS

    async def claim(self) -> ConnectError | None:
        """Show the session as claimed. Nothing changed, and why, when its request was given up meanwhile."""
        session_id = self._view.session_id
        while True:
            try:
                entry = await self._bucket.get(session_id)
            except KeyNotFoundError:  # it waited for longer than the bucket keeps a value
                await self.write()
                return None
            if entry.value and (view := live.decode(entry.value)).state is LiveState.CANCELLED:
                return view.code or ConnectError.CANCELLED
            try:
                await self._bucket.update(session_id, self._view.encode(), last=entry.revision)
                return None
            except KeyWrongLastSequenceError:
                continue

    def started(self, at: datetime) -> None:
        """The shell runs since `at`."""
        self._view = replace(self._view, state=LiveState.STARTED, started_at=at, last_activity=at)

    def active(self, at: datetime, commands_count: int) -> None:
        """Something was typed or shown."""
        self._view = replace(self._view, last_activity=max(at, self._view.started_at), commands_count=commands_count)

    async def show_ended(self, ending: Happening, commands_count: int) -> None:
        """The session has ended, and why, after so many commands."""
        reason: EndReason | None = None
        code: ConnectError | None = None
        match ending:
            case ConnectFailed():
                reason, code = EndReason.CONNECT_FAILED, ending.code
            case ShellExited():
                reason = EndReason.EXITED
            case Stopped():
                reason = ending.reason
        self._view = replace(
            self._view,
            state=LiveState.ENDED,
            commands_count=commands_count,
            ended_at=datetime.now(UTC),
            reason=reason,
            code=code,
            exit_status=ending.exit_status if isinstance(ending, ShellExited) else None,
        )
        await self.write()

    async def refresh(self) -> None:
        """Write the view when it has changed, or would age out; not more often than needed."""
        age = time.monotonic() - self._written_at
        if age >= (CHANGED_SECONDS if self._view != self._written else UNCHANGED_SECONDS):
            await self.write()

    async def write(self) -> None:
        """Write the view. When that fails the next refresh mends it."""
        self._written, self._written_at = self._view, time.monotonic()
        try:
            await self._bucket.put(self._view.session_id, self._view.encode())
        except (NatsError, TimeoutError) as error:
            log.warning("session %s: its live view was not refreshed: %s", self._view.session_id, type(error).__name__)
