"""A session's WebSocket (`docs/terminal-protocol.md`): authenticates a viewer, shows it the session, types for it."""

import asyncio
import logging
from secrets import token_hex
from typing import Any, Final

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from nats.errors import Error as NatsError

from contracts import commands
from contracts.api import ErrorCode
from contracts.commands import Attach, Attached, Attendant, Credit, Detach, Input, Refused, Resize
from contracts.directory import Ticket, User
from contracts.events import EndReason, OutputProduced, SessionEnded, SessionWarned, TerminalResized, ViewerAttached, ViewerDetached
from contracts.live import LiveState
from contracts.subjects import Request
from contracts.terminal import (
    AUTH_SECONDS_MAX,
    AckMessage,
    Auth,
    Close,
    DisconnectMessage,
    ErrorMessage,
    InputMessage,
    ReadyMessage,
    ResizedMessage,
    ResizeMessage,
    RestartMessage,
    ViewersMessage,
    WaitingMessage,
    WarningMessage,
)
from contracts.wire import Recorded, UndecodableError
from services.runtime.record import Record
from services.session_api.client_socket import ClientSocket, ClosingError, OpenSockets
from services.session_api.feed import Feed
from services.session_api.gateway import Gateway, GatewayUnavailableError, NoOwnerError
from services.session_api.history import History
from services.session_api.metrics import ApiMetrics

log = logging.getLogger(__name__)

CREDIT_SECONDS: Final = 5.0
"""A viewer's owner hears of it at least this often."""

CREDIT_BYTES: Final = 16 * 1024
"""Output after which the owner is told that it was sent."""

OBSERVER_BEHIND_BYTES_MAX: Final = 512 * 1024
"""An observer that is further behind is shown the present screen instead of what it missed."""

ATTACH_SECONDS: Final = 3.0
"""How long an owner may take to answer. One that has ended, or died, in this moment never does: then it is looked for again."""

ATTACH_TRIES: Final = 10

INPUT_SECONDS_MAX: Final = 3600.0
"""How long a machine may leave typed input unread before the viewer is told."""

END_SHOWN_SECONDS_MAX: Final = 2.0
"""How long the news of the end waits for the session's live view to say so too."""

WAITING_SECONDS: Final = 1.0
"""Without an owner for this long, the client is told that the session waits."""

INCOMPLETE_UTF8_BYTES_MAX: Final = 3


@websocket("/v1/sessions/{session_id:str}/ws")
async def terminal_socket(socket: WebSocket[Any, Any, Any], session_id: str) -> None:
    """Serve one client from its first message to the close."""
    state = socket.app.state
    viewer = Viewer(await ClientSocket.accept(socket), state.gateway, state.history, state.metrics, session_id)
    try:
        await viewer.serve(state.sockets)
    except ClosingError as error:
        await viewer.close(error)
    except WebSocketDisconnect:
        pass
    except (GatewayUnavailableError, NatsError) as error:
        log.warning("session %s: a viewer was cut off: %s", session_id, error)
        state.metrics.upstream_error(error)
        await viewer.close(ClosingError(Close.UNAVAILABLE, ErrorCode.UNAVAILABLE, "the message bus does not answer"))
    finally:
        state.sockets.discard(viewer)
        await viewer.leave()


class Viewer:
    """One client of one session."""

    def __init__(self, socket: ClientSocket, gateway: Gateway, history: History, metrics: ApiMetrics, session_id: str) -> None:
        self._socket = socket
        self._metrics = metrics
        self._gateway = gateway
        self._session_id = session_id
        self._id = f"view_{token_hex(12)}"
        self._feed = Feed(gateway, history, session_id, self._deliver)
        self._auth: Auth
        self._ticket: Ticket
        self._user: User
        self._attached = asyncio.Event()
        self._ended = asyncio.Event()
        self._viewers: dict[str, Attendant] = {}
        self._viewers_known_seq = 0
        self._sent_seq = 0
        self._acknowledged_seq = 0
        self._uncredited_bytes = 0

    async def serve(self, sockets: OpenSockets) -> None:
        """Until the session ends, the client goes, or one of them makes it impossible to go on."""
        await self._authenticate()
        sockets.add(self, self._user.id)
        self._metrics.admitted(self._socket.scope, self._ticket.role)
        await self._feed.open()
        tasks = [asyncio.create_task(work) for work in (self._read(), self._show(), self._keep_in_touch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def close(self, error: ClosingError) -> None:
        """Say why and close; nothing when the client has gone already."""
        await self._socket.farewell(ErrorMessage(error.code, error.message), error.close)

    async def restart(self) -> None:
        """This gateway stops."""
        hint = f"the gateway restarts: connect again with resume_from {self._acknowledged_seq or self._sent_seq}"
        await self._socket.farewell(RestartMessage(hint), Close.SERVICE_RESTART)

    async def leave(self) -> None:
        """Tell the owner that this viewer has gone; when that fails it will notice by itself."""
        await self._feed.close()
        if self._attached.is_set() and not self._ended.is_set():
            try:
                await self._gateway.tell(self._session_id, Request.DETACH, Detach(self._id))
            except (GatewayUnavailableError, NatsError) as error:
                log.warning("session %s: a detach was not sent: %s", self._session_id, error)

    # Admission.

    async def _authenticate(self) -> None:
        try:
            async with asyncio.timeout(AUTH_SECONDS_MAX):
                message = await self._socket.receive()
        except TimeoutError:
            raise ClosingError(Close.AUTH_TIMEOUT, ErrorCode.AUTH_TIMEOUT, "no auth message came within 5 s") from None
        except msgspec.MsgspecError as error:
            raise ClosingError(Close.INVALID_FIRST_MESSAGE, ErrorCode.INVALID_MESSAGE, str(error)) from error
        if not isinstance(message, Auth):
            raise ClosingError(Close.UNAUTHENTICATED, ErrorCode.UNAUTHENTICATED, "the first message must be auth")
        admitted = await self._gateway.admit(message.token, self._session_id)
        if admitted is None:
            raise ClosingError(Close.UNAUTHENTICATED, ErrorCode.INVALID_TICKET, "the token does not admit to this session")
        self._auth = message
        self._ticket, self._user = admitted

    # From the session to the client.

    async def _show(self) -> None:
        attached = await self._attach(self._auth.resume_from)
        if attached is None and not self._ended.is_set():
            await self._show_what_was()
        elif attached is None:
            return
        else:
            await self._begin(attached)
        await self._ended.wait()

    async def _attach(self, resume_from: int | None) -> Attached | None:
        """Attach to the owner as soon as there is one; None when the session has ended."""
        told = False
        unanswered = 0
        while True:
            self._feed.stirred.clear()
            try:
                return await self._ask_to_attach(resume_from)
            except (NoOwnerError, GatewayUnavailableError) as error:
                unanswered += isinstance(error, GatewayUnavailableError)
                if unanswered == ATTACH_TRIES:
                    raise
            live = await self._gateway.live_session(self._session_id)
            if live is None or live.state is LiveState.ENDED:
                return None
            if live.state is LiveState.CANCELLED and live.code:
                await self._say_ended(SessionEnded(EndReason.CONNECT_FAILED, "the request was given up", code=live.code))
                return None
            try:
                async with asyncio.timeout(WAITING_SECONDS):
                    await self._feed.stirred.wait()
            except TimeoutError:
                if not told and live.state is LiveState.WAITING:
                    told = True
                    await self._socket.send(WaitingMessage("all workers are busy; the session opens as soon as a place is free"))

    async def _ask_to_attach(self, resume_from: int | None) -> Attached | None:
        attach = Attach(
            viewer_id=self._id,
            user=self._user.person(),
            role=self._ticket.role,
            ip_address=self._socket.ip_address,
            user_agent=self._socket.user_agent,
            resume_from=resume_from,
        )
        match await self._gateway.ask(self._session_id, Request.ATTACH, attach, timeout_seconds=ATTACH_SECONDS):
            case Attached() as attached:
                return attached
            case Refused("session_ended"):
                return None
            case Refused(code, message):
                raise ClosingError(Close.TOO_MANY, ErrorCode(code), message)
            case reply:
                raise GatewayUnavailableError(f"unexpected answer to attach: {type(reply).__name__}")

    async def _begin(self, attached: Attached) -> None:
        resumed = self._auth.resume_from is not None and attached.screen is None
        await self._socket.send(
            ReadyMessage(self._session_id, self._ticket.role, attached.from_seq, attached.cols, attached.rows, resumed=resumed)
        )
        self._viewers_known_seq = attached.head_seq
        self._viewers = {viewer.viewer_id: viewer for viewer in attached.viewers}
        await self._socket.send(ViewersMessage(list(self._viewers.values())))
        if attached.screen is not None:
            await self._socket.show_screen(attached.screen, attached.from_seq)
        elif attached.from_seq:
            await self._prime_decoder(attached.from_seq)
        self._sent_seq = attached.from_seq
        self._attached.set()
        await self._feed.start(after_seq=attached.from_seq, head_seq=attached.head_seq)

    async def _show_what_was(self) -> None:
        """The session has ended: what the client lacks of it, and its end."""
        record = Record(self._gateway.jetstream)
        last = await record.last(self._session_id)
        head_seq = last.recorded.seq if last else 0
        after_seq = self._auth.resume_from
        if after_seq is None:
            was_watched = await record.last(self._session_id, str(ViewerAttached.__struct_config__.tag)) is not None
            after_seq = head_seq - 1 if was_watched else 0
        elif after_seq:
            await self._prime_decoder(after_seq)
        await self._feed.start(after_seq=min(after_seq, max(head_seq - 1, 0)), head_seq=max(head_seq, 1))
        if not self._ended.is_set():
            raise ClosingError(Close.SESSION_NOT_FOUND, ErrorCode.SESSION_NOT_FOUND, "no session of this id is known")

    async def _prime_decoder(self, seq: int) -> None:
        """A UTF-8 character may have been cut by the frame that the client saw last: its first bytes are in the record."""
        if self._socket.is_binary:
            return
        tail = b""
        async for recorded in Record(self._gateway.jetstream).events(
            self._session_id, after_seq=max(seq - 2 * INCOMPLETE_UTF8_BYTES_MAX, 0)
        ):
            if recorded.seq > seq:
                break
            if recorded.type == _OUTPUT:
                tail = (tail + recorded.data)[-INCOMPLETE_UTF8_BYTES_MAX:]
        self._socket.has_seen(tail)

    async def _deliver(self, recorded: Recorded) -> None:
        if recorded.type == _OUTPUT:
            if self._ticket.role == "observer" and self._feed.behind_bytes > OBSERVER_BEHIND_BYTES_MAX:
                await self._skip_to_present()
                return
            await self._socket.show(recorded.data, recorded.seq)
            self._uncredited_bytes += len(recorded.data)
        elif recorded.type in _SHOWN:
            await self._show_event(recorded)
        self._sent_seq = recorded.seq
        if self._uncredited_bytes >= CREDIT_BYTES and not self._auth.flow:
            await self._give_credit()

    async def _skip_to_present(self) -> None:
        try:
            screen = await self._gateway.ask(self._session_id, Request.SNAPSHOT, commands.Snapshot())
        except NoOwnerError:
            return
        if isinstance(screen, commands.Screen):
            await self._socket.show_screen(screen.data, screen.seq)
            self._sent_seq = screen.seq
            self._feed.skip_to(screen.seq)
            self._metrics.observer_skips.inc()

    async def _show_event(self, recorded: Recorded) -> None:
        try:
            event = recorded.event()
        except UndecodableError as error:
            log.warning("session %s: event %d is not shown: %s", self._session_id, recorded.seq, error)
            return
        match event:
            case TerminalResized(cols, rows):
                await self._socket.send(ResizedMessage(cols, rows, recorded.seq))
            case ViewerAttached(viewer_id, user, role) if recorded.seq > self._viewers_known_seq:
                self._viewers[viewer_id] = Attendant(viewer_id, user, role)
                await self._socket.send(ViewersMessage(list(self._viewers.values())))
            case ViewerDetached(viewer_id) if recorded.seq > self._viewers_known_seq:
                await self._somebody_left(viewer_id, event)
            case SessionWarned(reason, message, ends_in_seconds):
                await self._socket.send(WarningMessage(reason, message, ends_in_seconds, recorded.seq))
            case SessionEnded():
                await self._say_ended(event)

    async def _somebody_left(self, viewer_id: str, event: ViewerDetached) -> None:
        self._viewers.pop(viewer_id, None)
        if viewer_id == self._id and event.reason == "lost":
            await self._attach(self._sent_seq)
        elif viewer_id != self._id:
            await self._socket.send(ViewersMessage(list(self._viewers.values())))

    async def _say_ended(self, event: SessionEnded) -> None:
        await self._until_shown_as_ended()
        try:
            if event.code is not None or event.reason not in ("exited", "terminated"):
                await self._socket.send(ErrorMessage(event.code or event.reason, event.message))
            disconnect = DisconnectMessage(event.reason, event.message, event.code, event.exit_status, event.exit_signal)
            await self._socket.farewell(disconnect, Close.SESSION_ENDED)
        finally:
            self._ended.set()  # which ends the handler, and with it the connection

    async def _until_shown_as_ended(self) -> None:
        """Who is told of the end and asks at once for the session is not to find it active."""
        try:
            await self._gateway.ended(self._session_id, timeout_seconds=END_SHOWN_SECONDS_MAX)
        except (GatewayUnavailableError, NatsError) as error:
            log.warning("session %s: whether it is shown as ended is not known: %s", self._session_id, type(error).__name__)

    # From the client to the session.

    async def _read(self) -> None:
        while True:
            try:
                message = await self._socket.receive()
            except msgspec.MsgspecError as error:
                await self._socket.send(ErrorMessage(ErrorCode.INVALID_MESSAGE, str(error)))
                continue
            match message:
                case InputMessage(data):
                    await self._type(data.encode("utf-8", "replace"))
                case ResizeMessage(cols, rows):
                    await self._request(Request.RESIZE, Resize(self._id, cols, rows))
                case AckMessage(seq):
                    await self._acknowledged(seq)
                case Auth():
                    await self._socket.send(ErrorMessage(ErrorCode.INVALID_MESSAGE, "this connection is authenticated already"))

    async def _type(self, data: bytes) -> None:
        for start in range(0, len(data), commands.INPUT_BYTES_MAX):
            await self._request(Request.INPUT, Input(self._id, data[start : start + commands.INPUT_BYTES_MAX]))

    async def _request(self, request: Request, command: Input | Resize) -> None:
        await self._attached.wait()
        try:
            reply = await self._gateway.ask(self._session_id, request, command, timeout_seconds=INPUT_SECONDS_MAX)
        except NoOwnerError:
            await self._socket.send(ErrorMessage(ErrorCode.UNAVAILABLE, "the session's worker does not answer"))
            return
        if isinstance(reply, Refused):
            await self._socket.send(ErrorMessage(ErrorCode(reply.code), reply.message))

    async def _acknowledged(self, seq: int) -> None:
        self._acknowledged_seq = max(self._acknowledged_seq, min(seq, self._sent_seq))
        if self._auth.flow:
            await self._give_credit()

    # Keeping the owner informed.

    async def _give_credit(self) -> None:
        self._uncredited_bytes = 0
        seq = self._acknowledged_seq if self._auth.flow else self._sent_seq
        await self._gateway.tell(self._session_id, Request.CREDIT, Credit(self._id, seq))

    async def _keep_in_touch(self) -> None:
        await self._attached.wait()
        while True:
            await asyncio.sleep(CREDIT_SECONDS)
            try:
                await self._give_credit()
                await self._feed.catch_up()
            except (GatewayUnavailableError, NatsError, TimeoutError) as error:
                log.warning("session %s: a viewer is out of touch: %s", self._session_id, type(error).__name__)


_OUTPUT: Final = str(OutputProduced.__struct_config__.tag)
_SHOWN: Final = frozenset(
    str(kind.__struct_config__.tag) for kind in (TerminalResized, ViewerAttached, ViewerDetached, SessionWarned, SessionEnded)
)
