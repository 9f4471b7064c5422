"""What is spoken on a client's WebSocket (`docs/terminal-protocol.md`): messages in, messages and output out, and its close."""

import asyncio
import codecs
import logging
import time
from typing import Any, Final, Protocol, Self

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from litestar.types import Scope

from contracts.api import ErrorCode
from contracts.terminal import (
    BINARY_SUBPROTOCOL,
    MESSAGES_PER_SECOND_MAX,
    AnyClientMessage,
    Close,
    OutputMessage,
    PositionMessage,
    ServerMessage,
)

log = logging.getLogger(__name__)

USER_AGENT_CHARACTERS_MAX: Final = 500

_messages: msgspec.json.Decoder[AnyClientMessage] = msgspec.json.Decoder(AnyClientMessage)
_encoder = msgspec.json.Encoder()


class ClosingError(Exception):
    """The socket is to be closed with this code, after this error message."""

    def __init__(self, close: Close, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.close = close
        self.code = code
        self.message = message


class ClientSocket:
    """One accepted WebSocket. Sending raises `WebSocketDisconnect` once the client has gone."""

    def __init__(self, socket: WebSocket[Any, Any, Any], *, binary: bool) -> None:
        self._socket = socket
        self.is_binary = binary
        """Whether output goes as frames of raw bytes, each with a message that says where it stands."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._message_times = (0.0, 0)

    @classmethod
    async def accept(cls, socket: WebSocket[Any, Any, Any]) -> Self:
        """In the binary mode where the client offers it."""
        binary = BINARY_SUBPROTOCOL in socket.scope["subprotocols"]
        await socket.accept(subprotocols=BINARY_SUBPROTOCOL if binary else None)
        return cls(socket, binary=binary)

    @property
    def scope(self) -> Scope:
        """What ASGI says of the connection."""
        return self._socket.scope

    @property
    def ip_address(self) -> str:
        """Where the client is, as far as that is known."""
        return self._socket.client.host if self._socket.client else ""

    @property
    def user_agent(self) -> str:
        """What the client says that it is."""
        return self._socket.headers.get("user-agent", "")[:USER_AGENT_CHARACTERS_MAX]

    async def receive(self) -> AnyClientMessage:
        """The next message. Raises `msgspec.MsgspecError` for a malformed one, `ClosingError` for one too many."""
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(detail="the client has gone", code=event.get("code") or Close.SESSION_ENDED)
        self._count_message()
        payload: Any = event.get("text") or event.get("bytes") or b""
        return _messages.decode(payload)

    async def send(self, message: ServerMessage) -> None:
        """As JSON text."""
        await self._socket.send_text(_encoder.encode(message).decode())

    async def show(self, data: bytes, seq: int) -> None:
        """Output event `seq`; a UTF-8 character that it cuts waits for the rest of it."""
        if self.is_binary:
            await self._socket.send_bytes(data)
            await self.send(PositionMessage(seq))
        else:
            await self.send(OutputMessage(self._decoder.decode(data), seq))

    async def show_screen(self, drawn: bytes, seq: int) -> None:
        """The screen as it is after event `seq`, in place of all before."""
        self._decoder.reset()
        if self.is_binary:
            await self._socket.send_bytes(drawn)
            await self.send(PositionMessage(seq, screen=True))
        else:
            await self.send(OutputMessage(drawn.decode("utf-8", "replace"), seq, screen=True))

    def has_seen(self, tail: bytes) -> None:
        """The last bytes that the client saw on an earlier socket: they may end within a character."""
        self._decoder.decode(tail)

    async def farewell(self, message: ServerMessage, close: Close) -> None:
        """A last message, and the close; nothing when the client has gone already."""
        try:
            await self.send(message)
            await self._socket.close(code=close)
        except (WebSocketDisconnect, RuntimeError):
            log.debug("the client had gone before the farewell")

    def _count_message(self) -> None:
        since, count = self._message_times
        now = time.monotonic()
        if now - since >= 1:
            self._message_times = (now, 1)
        elif count >= MESSAGES_PER_SECOND_MAX:
            message = f"at most {MESSAGES_PER_SECOND_MAX} messages a second"
            raise ClosingError(Close.TOO_MANY, ErrorCode.TOO_MANY_MESSAGES, message)
        else:
            self._message_times = (since, count + 1)


class Restartable(Protocol):
    """Who serves a socket."""

    async def restart(self) -> None:
        """Tell the client to connect again elsewhere, and close."""


class OpenSockets:
    """The sockets of this process, by who serves them, so that a stop can say goodbye to each."""

    def __init__(self, per_user_max: int) -> None:
        self._per_user_max = per_user_max
        self._users: dict[Restartable, str] = {}
        self.closing = False

    def add(self, server: Restartable, user_id: str) -> None:
        """Raises `ClosingError` when the user has too many, or this process is about to stop."""
        if self.closing:
            raise ClosingError(Close.SERVICE_RESTART, ErrorCode.UNAVAILABLE, "the gateway restarts: connect again")
        if sum(user == user_id for user in self._users.values()) >= self._per_user_max:
            message = f"at most {self._per_user_max} sockets a user at one gateway"
            raise ClosingError(Close.TOO_MANY, ErrorCode.TOO_MANY_SOCKETS, message)
        self._users[server] = user_id

    def discard(self, server: Restartable) -> None:
        """The socket is closed."""
        self._users.pop(server, None)

    async def say_goodbye(self) -> None:
        """Tell every client to connect again elsewhere, and close with 1012."""
        self.closing = True
        await asyncio.gather(*(server.restart() for server in list(self._users)), return_exceptions=True)
