"""What can happen in a session, as facts. Only the worker that owns a session writes them, numbered without a gap.

An event travels inside the envelope of `contracts.wire`: its fields as JSON in `attrs`, terminal bytes beside it in
`data`. New fields come last and have defaults; a tag is never used for something else.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from contracts.ids import Cells, DisplayName, Environment, MachineId, Seq, UserId, Utc, ViewerId


class Role(StrEnum):
    """What a viewer may do: a driver types, an observer watches."""

    DRIVER = "driver"
    OBSERVER = "observer"


class EndReason(StrEnum):
    """Why a session ended. `docs/operations.md` says what to do about each."""

    EXITED = "exited"
    TERMINATED = "terminated"
    IDLE_TIMEOUT = "idle_timeout"
    MAX_DURATION = "max_duration"
    CONNECT_FAILED = "connect_failed"
    CONNECTION_LOST = "connection_lost"
    WORKER_LOST = "worker_lost"
    WORKER_DRAINED = "worker_drained"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    CLIENT_GONE = "client_gone"


class ConnectError(StrEnum):
    """What went wrong before the shell ran; the `code` of a session that ended with `connect_failed`."""

    UNREACHABLE = "unreachable"
    AUTH_FAILED = "auth_failed"
    HOST_KEY_MISMATCH = "host_key_mismatch"
    HOST_KEY_UNKNOWN = "host_key_unknown"
    TIMEOUT = "timeout"
    NO_CAPACITY = "no_capacity"
    CANCELLED = "cancelled"


class Confidence(StrEnum):
    """How a command's text was found: told by the shell itself, read from the screen, or only from the keys."""

    EXACT = "exact"
    SCREEN = "screen"
    INPUT = "input"


class Person(Struct, frozen=True):
    """A user as the record keeps it: who it was then, whatever the directory says later."""

    id: UserId
    name: DisplayName
    email: str


class Target(Struct, frozen=True):
    """A machine as the record keeps it."""

    id: MachineId
    name: DisplayName
    host: str


class Event(Struct, frozen=True, tag_field="type"):
    """Base of all events; the tag is the envelope's `type` and the last token of the subject."""


class SessionClaimed(Event, frozen=True, tag="claimed"):
    """A worker took the command. First event of every session; carries everything of the request."""

    user: Person
    machine: Target
    cols: Cells
    rows: Cells
    ip_address: str
    user_agent: str
    requested_at: Utc
    worker: str
    environment: Environment = {}
    """What the client asked to be set in the shell's environment."""


class SessionStarted(Event, frozen=True, tag="started"):
    """The shell runs. `host_key` is the fingerprint as OpenSSH prints it: `SHA256:` and unpadded base64 (RFC 4253 key blob)."""

    login: str
    authentication: str
    host_key: str
    server_version: str
    connect_ms: Annotated[int, Meta(ge=0)]
    jumps: tuple[MachineId, ...] = ()


class HostKeyPinned(Event, frozen=True, tag="host_key_pinned"):
    """A machine with `trust_on_first_use` was met for the first time: from now on it must show this key.

    `host_key` is the public key as `ssh-ed25519 AAAA…`, `fingerprint` is as in `started`.
    """

    machine: Target
    host_key: str
    fingerprint: str


class SessionWarned(Event, frozen=True, tag="warned"):
    """The viewers were told that the session will end for this `reason` in `ends_in_seconds`, unless something changes."""

    reason: EndReason
    message: str
    ends_in_seconds: Annotated[int, Meta(ge=0)]


class OutputProduced(Event, frozen=True, tag="output"):
    """Terminal output; the raw bytes are the envelope's `data`. `bytes_total` counts the session's output up to and with it."""

    bytes_total: Annotated[int, Meta(ge=0)]


class InputEchoed(Event, frozen=True, tag="input"):
    """Terminal input that the terminal showed, in `data`; or `masked`, when it was typed without echo.

    A masked event carries neither the bytes nor their number. `bytes_total` counts recorded input only, for the same reason.
    `typed_after` says when `data` was typed, which is before it was seen to be shown: pairs, in order, of an output event and
    how many of the bytes were typed after it; of a masked line only after which event its Enter was typed, with 0.
    """

    bytes_total: Annotated[int, Meta(ge=0)]
    masked: bool = False
    typed_after: tuple[tuple[Seq, Annotated[int, Meta(ge=0)]], ...] = ()


class TerminalResized(Event, frozen=True, tag="resized"):
    """The terminal has this size from here on."""

    cols: Cells
    rows: Cells


class CommandEntered(Event, frozen=True, tag="command"):
    """A command line was entered: the `n`-th of the session, counted from 1.

    `started_seq` is the output event in which its line began, `output_from_seq` the one after which its output follows.
    `context` names what read the line when it was not the login shell (`python`, `mysql`, …). With `masked`, secrets were
    left out of `text`. Where its output ends, and how, is told by `CommandFinished`.
    """

    n: Annotated[int, Meta(ge=1)]
    text: str
    confidence: Confidence
    started_seq: Seq
    output_from_seq: Seq
    context: str = ""
    cwd: str | None = None
    masked: bool = False


class TextShown(Event, frozen=True, tag="text"):
    """What a person would have read after command `n` (0: before the first), from `from_seq` to `to_seq`.

    `omitted_chars` were left out in the middle, where `text` has one line that says so. `exit_status` is known only
    when the shell told it. One command may have several `text` events, `part` 0, 1, 2 …
    """

    n: Annotated[int, Meta(ge=0)]
    text: str
    from_seq: Seq
    to_seq: Seq
    omitted_chars: Annotated[int, Meta(ge=0)] = 0
    part: Annotated[int, Meta(ge=0)] = 0
    exit_status: int | None = None


class CommandFinished(Event, frozen=True, tag="finished"):
    """The output of command `n` ended in output event `output_to_seq`: a prompt was back, or the next line was entered.

    `exit_status` is known only when the shell told it.
    """

    n: Annotated[int, Meta(ge=1)]
    output_to_seq: Seq
    exit_status: int | None = None


class ViewerAttached(Event, frozen=True, tag="attached"):
    """Somebody began to watch or to drive."""

    viewer_id: ViewerId
    user: Person
    role: Role
    ip_address: str
    user_agent: str


class ViewerDetached(Event, frozen=True, tag="detached"):
    """Somebody went: `left` (closed), `lost` (its gateway stopped answering) or `ended` (with the session)."""

    viewer_id: ViewerId
    user: Person
    reason: str = "left"


class SessionEnded(Event, frozen=True, tag="ended"):
    """Always the last event, exactly once. `code` refines `connect_failed`; the totals are the session's final counters.

    `key_id` names the key with which it is signed; the signature is the envelope's `data` (`docs/verification.md`). Both
    are empty where the worker has no key.
    """

    reason: EndReason
    message: str = ""
    code: ConnectError | None = None
    exit_status: int | None = None
    exit_signal: str | None = None
    output_bytes_total: Annotated[int, Meta(ge=0)] = 0
    input_bytes_total: Annotated[int, Meta(ge=0)] = 0
    commands_total: Annotated[int, Meta(ge=0)] = 0
    key_id: str = ""


class KeyframeTaken(Event, frozen=True, tag="keyframe"):
    """What the terminal showed after output event `shown_seq`, so that a replay can begin here: `data` draws it.

    It repeats what the events before it say, is shown to no viewer and belongs to no recording. A resize that the record
    has between `shown_seq` and this event may be drawn in it already.
    """

    cols: Cells
    rows: Cells
    shown_seq: Seq


AnyEvent = (
    SessionClaimed
    | SessionStarted
    | HostKeyPinned
    | SessionWarned
    | OutputProduced
    | InputEchoed
    | TerminalResized
    | CommandEntered
    | TextShown
    | ViewerAttached
    | ViewerDetached
    | KeyframeTaken
    | SessionEnded
    | CommandFinished
)
