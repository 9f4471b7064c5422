"""The API's one door to NATS: sends commands to workers, reads the `live` views and the directory."""

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import Final, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from contracts import live, subjects, workers
from contracts.commands import OpenSession, Reply
from contracts.directory import Ticket, User
from contracts.events import ConnectError, EndReason
from contracts.live import LiveSession, LiveState
from contracts.streams import COMMANDS, LIVE, WORKERS
from contracts.subjects import Request
from contracts.workers import WorkerView
from services.runtime import buckets, bus
from services.runtime.directory import Directory
from services.runtime.record import Record
from services.session_api.settings import ApiSettings

log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 5.0
PUBLISH_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.02

WAITING_LOOK_SECONDS: Final = 1.0

WAITING_REFRESH_SECONDS: Final = 20.0
"""How often the view of a session that still waits for a worker is written again, before it ages out."""

_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


class NoOwnerError(Exception):
    """No worker owns this session: it waits for one, or has ended, or its worker is gone."""


class GatewayUnavailableError(Exception):
    """The bus or the owning worker does not answer in time."""


class Waiting(Struct):
    """A session that this replica asked for; times are of the monotonic clock."""

    give_up_at: float
    refreshed_at: float


class Gateway:
    """Methods raise `GatewayUnavailableError` or `nats.errors.Error` when the bus does not answer."""

    def __init__(
        self, nats: Client, jetstream: JetStreamContext, live_views: KeyValue, directory: Directory, wait_for_place_seconds: float
    ) -> None:
        self.nats = nats
        self.jetstream = jetstream
        self.directory = directory
        self.record = Record(jetstream)
        self._live = live_views
        self._wait_for_place_seconds = wait_for_place_seconds
        self._waiting: dict[str, Waiting] = {}
        self._refreshing: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, settings: ApiSettings) -> Self:
        """Connected, with every stream and bucket declared."""
        nats = await bus.connect(settings, "session-api")
        jetstream = nats.jetstream()
        await bus.declare(jetstream, settings)
        views, directory = await bus.bucket(jetstream, LIVE), await Directory.open(jetstream)
        gateway = cls(nats, jetstream, views, directory, settings.wait_for_place_seconds)
        gateway._refreshing = asyncio.create_task(gateway._refresh_waiting())
        return gateway

    async def close(self) -> None:
        """Send what is not sent yet and disconnect."""
        if self._refreshing:
            self._refreshing.cancel()
        await self.nats.drain()

    async def ready(self) -> None:
        """Raises when JetStream does not answer."""
        await self.jetstream.stream_info(COMMANDS.name)

    # Requests to the owner of a session.

    async def ask(self, session_id: str, request: Request, command: Struct, *, timeout_seconds: float = REQUEST_SECONDS) -> Reply:
        """The owner's reply, which means that it is done. Raises `NoOwnerError`, `GatewayUnavailableError`."""
        subject = subjects.request(session_id, request)
        try:
            answer = await self.nats.request(subject, msgspec.msgpack.encode(command), timeout=timeout_seconds)
        except NoRespondersError as error:
            raise NoOwnerError(session_id) from error
        except (NatsError, TimeoutError) as error:
            raise GatewayUnavailableError(f"{request.value}: {type(error).__name__}") from error
        return _reply_decoder.decode(answer.data)

    async def tell(self, session_id: str, request: Request, command: Struct) -> None:
        """Send without waiting for a reply."""
        await self.nats.publish(subjects.request(session_id, request), msgspec.msgpack.encode(command))

    async def hurry_audit(self) -> None:
        """Have what is recorded moved into ClickHouse at once. Not waited for: look whether it is there, and ask again."""
        await self.nats.publish(subjects.HURRY)

    # Opening, and what waits to be opened.

    async def open(self, command: OpenSession) -> None:
        """Show the session as waiting, then put its command into the work queue; nothing is left when that fails."""
        waiting = LiveSession(
            session_id=command.session_id,
            org_id=command.org_id,
            user=command.user,
            machine=command.machine.target(),
            state=LiveState.WAITING,
            started_at=command.requested_at,
            last_activity=command.requested_at,
            ip_address=command.ip_address,
            user_agent=command.user_agent,
        )
        await self._live.create(command.session_id, waiting.encode())
        try:
            await self.jetstream.publish(
                subjects.OPEN_SESSION,
                msgspec.msgpack.encode(command),
                timeout=PUBLISH_SECONDS,
                stream=COMMANDS.name,
                headers={"Nats-Msg-Id": command.session_id},
            )
        except (NatsError, TimeoutError) as error:
            await self._live.delete(command.session_id)
            raise GatewayUnavailableError("the command could not be stored") from error
        now = time.monotonic()
        self._waiting[command.session_id] = Waiting(give_up_at=now + self._wait_for_place_seconds, refreshed_at=now)

    async def cancel(self, session_id: str, code: ConnectError = ConnectError.CANCELLED) -> LiveSession | None:
        """Mark a session that waits as given up; the worker that claims it will end it. None when it waits no more."""
        entry = await self._live_entry(session_id)
        if entry is None or entry[0].state is not LiveState.WAITING:
            return None
        waiting, revision = entry
        cancelled = replace(
            waiting,
            state=LiveState.CANCELLED,
            ended_at=datetime.now(UTC),
            reason=EndReason.CONNECT_FAILED,
            code=code,
        )
        try:
            await self._live.update(session_id, cancelled.encode(), last=revision)
        except KeyWrongLastSequenceError:
            return None
        return cancelled

    async def ended(self, session_id: str, *, timeout_seconds: float) -> bool:
        """Returns once the session's view says that it has ended; False when that takes longer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while (session := await self.live_session(session_id)) and session.state not in ENDED_STATES:  # noqa: ASYNC110  # it changes in another process
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return False
        return True

    async def live_session(self, session_id: str) -> LiveSession | None:
        """The session's present view; None when it has none (any more)."""
        entry = await self._live_entry(session_id)
        return entry[0] if entry else None

    async def live_sessions(self, org_id: str) -> list[LiveSession]:
        """The present views of an organization's sessions: waiting, running, and lately ended."""
        sessions = [live.decode(value) for value in (await buckets.values(self.jetstream, LIVE)).values()]
        return [session for session in sessions if session.org_id == org_id]

    async def workers(self) -> list[WorkerView]:
        """The worker processes that run, by name."""
        views = await buckets.values(self.jetstream, WORKERS)
        return [workers.decode(views[name]) for name in sorted(views)]

    # Admission.

    async def admit(self, ticket: str, session_id: str) -> tuple[Ticket, User] | None:
        """Who may enter this session with `ticket`; None when it is unknown, expired or for another session."""
        found = await self.directory.ticket(ticket, now=datetime.now(UTC))
        if found is None or found.session_id != session_id:
            return None
        user = await self.directory.user(found.user_id)
        if user is None or user.org != found.org_id:
            return None
        return found, user

    async def _live_entry(self, session_id: str) -> tuple[LiveSession, int] | None:
        try:
            entry = await self._live.get(session_id)
        except KeyNotFoundError:
            return None
        if not entry.value or entry.revision is None:
            return None
        return live.decode(entry.value), entry.revision

    async def _refresh_waiting(self) -> None:
        while True:
            await asyncio.sleep(WAITING_LOOK_SECONDS)
            for session_id, waiting in list(self._waiting.items()):
                try:
                    await self._look_after(session_id, waiting)
                except (NatsError, TimeoutError) as error:
                    log.warning("session %s: its waiting view was not refreshed: %s", session_id, type(error).__name__)

    async def _look_after(self, session_id: str, waiting: Waiting) -> None:
        now = time.monotonic()
        if now >= waiting.give_up_at:
            await self.cancel(session_id, ConnectError.NO_CAPACITY)
            waiting.give_up_at = math.inf
        if now - waiting.refreshed_at >= WAITING_REFRESH_SECONDS:
            waiting.refreshed_at = now
            await self._refresh(session_id)

    async def _refresh(self, session_id: str) -> None:
        entry = await self._live_entry(session_id)
        if entry is None or entry[0].state not in UNCLAIMED_STATES:
            self._waiting.pop(session_id, None)
            return
        try:
            await self._live.update(session_id, entry[0].encode(), last=entry[1])
        except KeyWrongLastSequenceError:
            log.debug("session %s: claimed just now", session_id)


UNCLAIMED_STATES: Final = frozenset({LiveState.WAITING, LiveState.CANCELLED})
ENDED_STATES: Final = frozenset({LiveState.ENDED, LiveState.CANCELLED})
