"""Messages of a session's WebSocket: the specification's six types, and what we add (`docs/terminal-protocol.md`).

All are JSON objects with a `type`. A client that knows only the specification's types works unchanged: whatever draws
on the terminal comes as `output`.
"""

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from contracts.commands import Attendant
from contracts.events import ConnectError, EndReason, Role
from contracts.ids import Cells, Seq

MESSAGE_BYTES_MAX = 1024 * 1024
"""Of one message of a client."""

MESSAGES_PER_SECOND_MAX = 5000
"""Of one client. Input is paced before this by waiting for each message to have been typed."""

AUTH_SECONDS_MAX = 5.0
"""From the connection to the end of the first message, which must be `auth`."""

BINARY_SUBPROTOCOL = "vsay.v1.binary"
"""With this subprotocol terminal output comes as binary frames of raw bytes, everything else as JSON text."""


class Close(IntEnum):
    """Close codes of the WebSocket (RFC 6455, section 7.4; 4000 to 4999 are ours)."""

    SESSION_ENDED = 1000
    SERVICE_RESTART = 1012
    INVALID_FIRST_MESSAGE = 4400
    UNAUTHENTICATED = 4401
    SESSION_NOT_FOUND = 4404
    AUTH_TIMEOUT = 4408
    MESSAGE_TOO_LARGE = 4413
    TOO_MANY = 4429
    INTERNAL = 4500
    UNAVAILABLE = 4503


class ClientMessage(Struct, frozen=True, tag_field="type"):
    """Base of what a client sends."""


class Auth(ClientMessage, frozen=True, tag="auth"):
    """First message, within 5 s. `resume_from` is the last `seq` that the client has; with `flow` it promises `ack`s."""

    token: Annotated[str, Meta(min_length=1, max_length=256)]
    resume_from: Seq | None = None
    flow: bool = False


class InputMessage(ClientMessage, frozen=True, tag="input"):
    """Text to type."""

    data: str


class ResizeMessage(ClientMessage, frozen=True, tag="resize"):
    """The terminal's new size."""

    cols: Cells
    rows: Cells


class AckMessage(ClientMessage, frozen=True, tag="ack"):
    """The client has rendered everything up to and with `seq`. Counts only after `flow` in `auth`."""

    seq: Seq


AnyClientMessage = Auth | InputMessage | ResizeMessage | AckMessage


class ServerMessage(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of what the server sends."""


class OutputMessage(ServerMessage, frozen=True, tag="output"):
    """Draw this. `seq` is the event that it ends with; `screen` marks a drawing of the whole present screen."""

    data: str
    seq: Seq
    screen: bool = False


class ErrorMessage(ServerMessage, frozen=True, tag="error"):
    """Something was refused or went wrong; the connection goes on unless a `disconnect` or a close follows.

    `code` is an `ErrorCode` (a refusal), or a `ConnectError` or `EndReason` (what ended the session).
    """

    code: str
    message: str


class DisconnectMessage(ServerMessage, frozen=True, tag="disconnect"):
    """The session has ended; a close with code 1000 follows."""

    reason: EndReason
    message: str = ""
    code: ConnectError | None = None
    exit_status: int | None = None
    exit_signal: str | None = None


class WaitingMessage(ServerMessage, frozen=True, tag="waiting"):
    """All places are taken; the session opens as soon as one is free."""

    message: str


class WarningMessage(ServerMessage, frozen=True, tag="warning"):
    """The session will end for this reason in `ends_in_seconds`; typing keeps an idle one open."""

    reason: EndReason
    message: str
    ends_in_seconds: int
    seq: Seq


class ReadyMessage(ServerMessage, frozen=True, tag="ready"):
    """Attached. Events after `from_seq` follow; `resumed` says whether that is what `resume_from` asked for."""

    session_id: str
    role: Role
    from_seq: Seq
    cols: Cells
    rows: Cells
    resumed: bool = False


class ResizedMessage(ServerMessage, frozen=True, tag="resized"):
    """The terminal has this size from here on, whoever changed it."""

    cols: Cells
    rows: Cells
    seq: Seq


class ViewersMessage(ServerMessage, frozen=True, tag="viewers"):
    """Who is attached now."""

    viewers: list[Attendant]


class RestartMessage(ServerMessage, frozen=True, tag="restart"):
    """This gateway stops: connect again, with `resume_from` the last `seq`."""

    message: str


class PositionMessage(ServerMessage, frozen=True, tag="position"):
    """In the binary mode: the binary frames so far end with event `seq`."""

    seq: Seq
    screen: bool = False


AnyServerMessage = (
    OutputMessage
    | ErrorMessage
    | DisconnectMessage
    | WaitingMessage
    | WarningMessage
    | ReadyMessage
    | ResizedMessage
    | ViewersMessage
    | RestartMessage
    | PositionMessage
)
