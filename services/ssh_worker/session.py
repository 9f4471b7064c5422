"""What a session does next: a pure function of its state and what just happened. No clock, no random number, no `await`."""

from enum import StrEnum
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

import terminal
from contracts.commands import Attach, OpenSession
from contracts.events import (
    AnyEvent,
    CommandEntered,
    CommandFinished,
    Confidence,
    ConnectError,
    EndReason,
    HostKeyPinned,
    InputEchoed,
    KeyframeTaken,
    OutputProduced,
    Person,
    Role,
    SessionClaimed,
    SessionEnded,
    SessionStarted,
    SessionWarned,
    Target,
    TerminalResized,
    TextShown,
    ViewerAttached,
    ViewerDetached,
)


class Status(StrEnum):
    """claimed → started → ended, or claimed → ended."""

    NEW = "new"
    CLAIMED = "claimed"
    STARTED = "started"
    ENDED = "ended"


class Attendant(Struct, frozen=True):
    """A viewer as the record knows it."""

    user: Person
    role: Role


class Session(Struct, frozen=True):
    """A session as its events so far tell it; the counters are those that events carry."""

    status: Status = Status.NEW
    cols: int = 80
    rows: int = 24
    output_bytes_total: int = 0
    input_bytes_total: int = 0
    commands_total: int = 0
    viewers: dict[str, Attendant] = {}


class Fact(Struct, frozen=True):
    """An event that is to be recorded, with its terminal bytes."""

    event: AnyEvent
    data: bytes = b""


class Claimed(Struct, frozen=True):
    """This worker has the command."""

    command: OpenSession
    worker: str


class Connected(Struct, frozen=True):
    """The shell runs."""

    login: str
    authentication: str
    host_key: str
    server_version: str
    connect_ms: int
    jumps: tuple[str, ...] = ()


class HostKeyTrusted(Struct, frozen=True):
    """A machine was met for the first time, and its key is pinned from now on."""

    machine: Target
    host_key: str
    fingerprint: str


class EndIsNear(Struct, frozen=True):
    """Unless something changes, something on our side will end the session."""

    reason: EndReason
    message: str
    ends_in_seconds: int


class ConnectFailed(Struct, frozen=True):
    """There will be no shell."""

    code: ConnectError
    message: str


class OutputArrived(Struct, frozen=True):
    """The machine sent bytes."""

    data: bytes


class Observed(Struct, frozen=True):
    """The terminal's observer saw something in the bytes."""

    observation: terminal.Observation


class ResizeAsked(Struct, frozen=True):
    """A driver's terminal has this size now."""

    cols: int
    rows: int


class AttachAsked(Struct, frozen=True):
    """A viewer wants in."""

    attach: Attach


class ViewerLeft(Struct, frozen=True):
    """A viewer has gone, or has not been heard of for too long."""

    viewer_id: str
    reason: str


class ScreenKept(Struct, frozen=True):
    """The screen as it is after output event `seq`; `data` draws it."""

    seq: int
    cols: int
    rows: int
    data: bytes


class ShellExited(Struct, frozen=True):
    """The remote program ended by itself."""

    exit_status: int | None
    exit_signal: str | None


class Stopped(Struct, frozen=True):
    """Something on our side ends the session."""

    reason: EndReason
    message: str = ""


Happening = (
    Claimed
    | HostKeyTrusted
    | Connected
    | ConnectFailed
    | OutputArrived
    | Observed
    | ScreenKept
    | ResizeAsked
    | AttachAsked
    | ViewerLeft
    | EndIsNear
    | ShellExited
    | Stopped
)


def decide(state: Session, happening: Happening) -> tuple[Fact, ...]:
    """The events that `happening` is worth in `state`; none when it comes too late or changes nothing."""
    if state.status is Status.ENDED:
        return ()
    match happening:
        case OutputArrived(data):
            return (Fact(OutputProduced(bytes_total=state.output_bytes_total + len(data)), data),) if data else ()
        case Observed(observation):
            return (_observed(state, observation),)
        case ScreenKept(seq, cols, rows, data):
            return (Fact(KeyframeTaken(cols=cols, rows=rows, shown_seq=seq), data),)
        case ResizeAsked(cols, rows):
            return (Fact(TerminalResized(cols=cols, rows=rows)),) if (cols, rows) != (state.cols, state.rows) else ()
        case Claimed(command, worker):
            return (Fact(_claimed(command, worker)),) if state.status is Status.NEW else ()
        case HostKeyTrusted() | EndIsNear():
            return (Fact(_noted(happening)),)
        case Connected(login, authentication, host_key, server_version, connect_ms, jumps):
            started = SessionStarted(
                login=login,
                authentication=authentication,
                host_key=host_key,
                server_version=server_version,
                connect_ms=connect_ms,
                jumps=jumps,
            )
            return (Fact(started),)
        case AttachAsked(attach):
            return () if attach.viewer_id in state.viewers else (Fact(_attached(attach)),)
        case ViewerLeft(viewer_id, reason):
            return (_detached(state, viewer_id, reason),) if viewer_id in state.viewers else ()
        case ConnectFailed(code, message):
            return _ended(state, EndReason.CONNECT_FAILED, message=message, code=code)
        case ShellExited(exit_status, exit_signal):
            return _ended(state, EndReason.EXITED, exit_status=exit_status, exit_signal=exit_signal)
        case Stopped(reason, message):
            return _ended(state, reason, message=message)
        case _:
            assert_never(happening)


def evolve(state: Session, event: AnyEvent) -> Session:
    """The state after `event`. Never raises: what is recorded has happened."""
    match event:
        case OutputProduced(bytes_total):
            return replace(state, output_bytes_total=bytes_total)
        case InputEchoed(bytes_total):
            return replace(state, input_bytes_total=bytes_total)
        case CommandEntered(n):
            return replace(state, commands_total=n)
        case TextShown() | CommandFinished() | KeyframeTaken() | HostKeyPinned() | SessionWarned():
            return state
        case TerminalResized(cols, rows):
            return replace(state, cols=cols, rows=rows)
        case ViewerAttached(viewer_id, user, role):
            return replace(state, viewers=state.viewers | {viewer_id: Attendant(user, role)})
        case ViewerDetached(viewer_id):
            return replace(state, viewers={id_: viewer for id_, viewer in state.viewers.items() if id_ != viewer_id})
        case SessionClaimed():
            return replace(state, status=Status.CLAIMED, cols=event.cols, rows=event.rows)
        case SessionStarted():
            return replace(state, status=Status.STARTED)
        case SessionEnded():
            return replace(state, status=Status.ENDED)
        case _:
            assert_never(event)


def _noted(happening: HostKeyTrusted | EndIsNear) -> HostKeyPinned | SessionWarned:
    match happening:
        case HostKeyTrusted(machine, host_key, fingerprint):
            return HostKeyPinned(machine, host_key, fingerprint)
        case EndIsNear(reason, message, ends_in_seconds):
            return SessionWarned(reason, message, ends_in_seconds)
        case _:
            assert_never(happening)


def _claimed(command: OpenSession, worker: str) -> SessionClaimed:
    return SessionClaimed(
        user=command.user,
        machine=command.machine.target(),
        cols=command.cols,
        rows=command.rows,
        ip_address=command.ip_address,
        user_agent=command.user_agent,
        requested_at=command.requested_at,
        worker=worker,
        environment=command.environment,
    )


def _attached(attach: Attach) -> ViewerAttached:
    return ViewerAttached(
        viewer_id=attach.viewer_id,
        user=attach.user,
        role=attach.role,
        ip_address=attach.ip_address,
        user_agent=attach.user_agent,
    )


def _detached(state: Session, viewer_id: str, reason: str) -> Fact:
    return Fact(ViewerDetached(viewer_id=viewer_id, user=state.viewers[viewer_id].user, reason=reason))


def _observed(state: Session, observation: terminal.Observation) -> Fact:
    match observation:
        case terminal.InputEchoed(data, typed_after):
            return Fact(InputEchoed(bytes_total=state.input_bytes_total + len(data), typed_after=typed_after), data)
        case terminal.InputMasked(entered_after):
            typed_after = () if entered_after is None else ((entered_after, 0),)
            return Fact(InputEchoed(bytes_total=state.input_bytes_total, masked=True, typed_after=typed_after))
        case terminal.CommandEntered():
            return Fact(
                CommandEntered(
                    n=observation.n,
                    text=observation.text,
                    confidence=Confidence(observation.confidence),
                    started_seq=observation.started_seq,
                    output_from_seq=observation.output_from_seq,
                    context=observation.context,
                    cwd=observation.cwd,
                    masked=observation.masked,
                )
            )
        case terminal.CommandFinished(n, output_to_seq, exit_status):
            return Fact(CommandFinished(n=n, output_to_seq=output_to_seq, exit_status=exit_status))
        case terminal.TextShown():
            return Fact(
                TextShown(
                    n=observation.n,
                    text=observation.text,
                    from_seq=observation.from_seq,
                    to_seq=observation.to_seq,
                    omitted_chars=observation.omitted_chars,
                    part=observation.part,
                    exit_status=observation.exit_status,
                )
            )
        case _:
            assert_never(observation)


def _ended(
    state: Session,
    reason: EndReason,
    *,
    message: str = "",
    code: ConnectError | None = None,
    exit_status: int | None = None,
    exit_signal: str | None = None,
) -> tuple[Fact, ...]:
    ended = SessionEnded(
        reason=reason,
        message=message,
        code=code,
        exit_status=exit_status,
        exit_signal=exit_signal,
        output_bytes_total=state.output_bytes_total,
        input_bytes_total=state.input_bytes_total,
        commands_total=state.commands_total,
    )
    return (*(_detached(state, viewer_id, "ended") for viewer_id in state.viewers), Fact(ended))
