"""One session from its claim to its end: holds the lease, records what happens, and acts on what was recorded."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

import terminal
from contracts import commands, subjects
from contracts.commands import Attach, Attached, Attendant, Credit, Detach, Done, Input, OpenSession, Refused, Reply, Resize, Screen
from contracts.events import ConnectError, EndReason, Role, SessionEnded
from contracts.subjects import Request
from contracts.wire import Recorded
from services.runtime.record import Record
from services.ssh_worker import credentials
from services.ssh_worker.attendance import Attendance
from services.ssh_worker.connection import FRAME_BYTES_MAX, ConnectFailedError, Shell, Timeouts, open_shell
from services.ssh_worker.keyboard import Keyboard
from services.ssh_worker.lease import Lease, LeaseLostError
from services.ssh_worker.live_view import LiveView
from services.ssh_worker.recorder import NotOwnerError, Position, Recorder, RecordUnavailableError
from services.ssh_worker.session import (
    AttachAsked,
    Claimed,
    Connected,
    ConnectFailed,
    Happening,
    Observed,
    OutputArrived,
    ResizeAsked,
    Session,
    ShellExited,
    Status,
    Stopped,
    ViewerLeft,
    decide,
    evolve,
)
from services.ssh_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.3
"""Silence after which the observer decides what is still open."""

PARK_SECONDS: Final = 30.0
"""Silence after which the observer gives its memory back."""

HOUSEKEEPING_SECONDS: Final = 5.0

VIEWERS_MAX: Final = 64
"""Of one session at a time."""

END_SECONDS_MAX: Final = 300.0
"""How long a session that has ended is kept to get its end stored, before that is left to the next worker."""


class Bus(Struct, frozen=True):
    """The worker's connections, shared by its sessions."""

    nats: Client
    jetstream: JetStreamContext
    live: KeyValue


class Owner:
    """Owns one session. `run` returns when the session has ended, or has another owner."""

    def __init__(self, command: OpenSession, lease: Lease, bus: Bus, settings: WorkerSettings, worker: str) -> None:
        self._command = command
        self._lease = lease
        self._bus = bus
        self._settings = settings
        self._worker = worker
        self._state = Session()
        self._attendance = Attendance()
        self._observer = terminal.Observer(command.cols, command.rows)
        self._observed_seq = 0
        self._first_output_seq: int | None = None
        self._last_output_seq = 0
        self._had_driver = False
        self._shell: Shell | None = None
        self._shell_runs = asyncio.Event()
        self._recording = asyncio.Lock()
        self._wake = asyncio.Event()
        self._recorder = self._recorder_at(None)
        self._keyboard = Keyboard()
        self._live_view = LiveView(bus.live, command, worker)
        self._stop: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        self._requests: set[asyncio.Task[None]] = set()
        self._active_at = self._watched_at = time.monotonic()
        self._settle_timer: asyncio.TimerHandle | None = None

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._command.session_id

    def stop(self, reason: EndReason, message: str = "") -> None:
        """End the session for a reason of ours; the first one counts."""
        if not self._stop.done():
            self._stop.set_result(Stopped(reason, message))

    async def run(self) -> None:
        """The whole life of the session."""
        try:
            while earlier := await Record(self._bus.jetstream).head(self.session_id):
                if await self._take_over(earlier):
                    return
            await self._own()
        except NotOwnerError as error:
            log.warning("%s", error)
        finally:
            await self._recorder.close()

    # The life of a session that this worker began.

    async def _own(self) -> None:
        subscription = await self._bus.nats.subscribe(subjects.requests_of(self.session_id), cb=self._asked)
        renewing = asyncio.create_task(self._lease.keep())
        try:
            ending = await self._live(renewing)
            await self._end(ending)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await subscription.unsubscribe()
            for task in self._requests:
                task.cancel()
            if self._settle_timer:
                self._settle_timer.cancel()
            if self._shell:
                self._shell.close()
                await self._shell.wait_closed()

    async def _live(self, renewing: asyncio.Task[None]) -> Happening:
        """Claim, connect and carry the session while its lease is renewed; returns what ends it."""
        await self._happens(Claimed(self._command, self._worker))
        await self._recorder.stored(1)
        if not await self._live_view.claim():
            return ConnectFailed(ConnectError.CANCELLED, "the request was cancelled before a worker was free")
        if (waited := self._waited_seconds()) > self._settings.wait_for_place_seconds:
            return ConnectFailed(ConnectError.NO_CAPACITY, f"no place was free for {waited:.0f} s")
        try:
            return await _first_of(
                self._carry(), self._stopped(), _lost(renewing), self._trouble(), self._keep_house(), self._type()
            )
        except LeaseLostError as error:
            return Stopped(EndReason.AUDIT_UNAVAILABLE, str(error))

    async def _carry(self) -> Happening:
        try:
            await self._connect()
        except ConnectFailedError as error:
            return ConnectFailed(error.code, error.message)
        self._in_background(self._live_view.write())
        return await self._pump()

    async def _connect(self) -> None:
        settings, command = self._settings, self._command
        try:
            credential = credentials.read(Path(settings.secrets_dir), command.machine.credential)
        except credentials.CredentialError as error:
            raise ConnectFailedError(ConnectError.AUTH_FAILED, str(error)) from error
        timeouts = Timeouts(settings.connect_timeout_seconds, settings.login_timeout_seconds, settings.keepalive_seconds)
        self._shell = shell = await open_shell(
            command.machine,
            credential,
            cols=command.cols,
            rows=command.rows,
            terminal_type=settings.terminal_type,
            timeouts=timeouts,
            changed=self._wake.set,
        )
        self._live_view.started(datetime.now(UTC))
        opening = shell.opening
        await self._happens(
            Connected(opening.login, opening.authentication, opening.host_key, opening.server_version, opening.connect_ms)
        )
        self._shell_runs.set()

    async def _pump(self) -> Happening:
        """Output from the channel into the record, in frames that grow while earlier ones are not stored yet."""
        assert self._shell, "connected"
        shell = self._shell
        while True:
            self._wake.clear()
            if shell.waiting_bytes:
                if self._may_send_output(shell.waiting_bytes) or (shell.is_closed and self._recorder.has_room):
                    await self._output(shell.read(FRAME_BYTES_MAX))
                    continue
            elif shell.is_closed:
                break
            await self._wake.wait()
        if shell.exit.connection_lost:
            return Stopped(EndReason.CONNECTION_LOST, shell.exit.connection_lost)
        return ShellExited(shell.exit.status, shell.exit.signal)

    def _may_send_output(self, waiting_bytes: int) -> bool:
        if not self._attendance.may_produce() or not self._recorder.has_room:
            return False
        return waiting_bytes >= FRAME_BYTES_MAX or self._recorder.stored_seq >= self._last_output_seq

    async def _output(self, data: bytes) -> None:
        await self._happens(OutputArrived(data))
        self._last_output_seq = seq = self._recorder.seq
        if self._first_output_seq is None:
            self._first_output_seq = seq
        self._attendance.produced(seq, self._state.output_bytes_total)
        self._note_activity()
        seen = self._observer.shown(data, seq)
        self._observed_seq = seq
        await self._observed(seen)

    async def _observed(self, seen: list[terminal.Observation]) -> None:
        for observation in seen:
            await self._happens(Observed(observation))

    async def _happens(self, happening: Happening, *, needs_lease: bool = True) -> None:
        """Record what `happening` is worth. Raises `NotOwnerError`, `LeaseLostError`."""
        async with self._recording:
            for fact in decide(self._state, happening):
                if needs_lease and not self._lease.is_held:
                    raise LeaseLostError("the lease ran out while the process stood still")
                self._state = evolve(self._state, fact.event)
                await self._recorder.record(fact.event, fact.data)

    async def _end(self, ending: Happening) -> None:
        """Record the end, get it stored, and give the command back as done."""
        if self._shell:
            self._shell.close()
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                for observation in self._observer.finish():
                    await self._happens(Observed(observation), needs_lease=False)
                await self._happens(ending, needs_lease=False)
                await self._recorder.stored(self._recorder.seq)
        except TimeoutError:
            log.error("session %s: its end could not be stored; the next worker will record it", self.session_id)
            return
        await self._show_ended(ending)
        await self._lease.release()

    async def _show_ended(self, ending: Happening) -> None:
        self._live_view.ended(ending, self._state.commands_total)
        await self._live_view.write()

    # What can end a session besides the machine.

    async def _stopped(self) -> Happening:
        return await asyncio.shield(self._stop)

    async def _trouble(self) -> Happening:
        try:
            await self._recorder.wait_for_trouble()
        except RecordUnavailableError as error:
            return Stopped(EndReason.AUDIT_UNAVAILABLE, str(error))
        raise AssertionError("trouble is always raised")

    def _waited_seconds(self) -> float:
        return (datetime.now(UTC) - self._command.requested_at).total_seconds()

    async def _keep_house(self) -> Happening:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            now = time.monotonic()
            for viewer_id in self._attendance.silent(now):
                await self._leave(viewer_id, "lost")
            if len(self._attendance):
                self._watched_at = now
            quiet = now - max(self._active_at, self._watched_at)
            if 0 < self._settings.client_gone_seconds < quiet:
                self.stop(EndReason.CLIENT_GONE, f"nobody watched and nothing happened for {quiet:.0f} s")
            if now - self._active_at > PARK_SECONDS:
                self._observer.park()
            self._in_background(self._live_view.refresh())

    def _note_activity(self) -> None:
        self._active_at = time.monotonic()
        self._live_view.active(datetime.now(UTC), self._state.commands_total)
        if self._settle_timer is None:
            self._settle_timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle_if_quiet)

    def _settle_if_quiet(self) -> None:
        quiet = time.monotonic() - self._active_at
        if quiet < SETTLE_SECONDS:
            self._settle_timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS - quiet, self._settle_if_quiet)
            return
        self._settle_timer = None
        self._in_background(self._settle())

    async def _settle(self) -> None:
        if self._state.status is Status.STARTED:
            await self._observed(self._observer.settle())
            self._live_view.active(datetime.now(UTC), self._state.commands_total)
            await self._live_view.refresh()

    # Requests of viewers and gateways.

    async def _asked(self, message: Msg) -> None:
        try:
            request = subjects.request_of(message.subject)
            command = _DECODERS[request].decode(message.data)
        except (ValueError, msgspec.MsgspecError) as error:
            await _answer(message, Refused("invalid_request", str(error)))
            return
        match command:
            case Credit(viewer_id, seq):
                self._attendance.credited(viewer_id, seq, now=time.monotonic())
                self._wake.set()
            case Input() | Resize():
                await self._asked_to_type(message, command)
            case _:
                self._in_background(self._answer(message, command))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (NotOwnerError, LeaseLostError) as error:
            log.warning("session %s: %s", self.session_id, error)

    async def _answer(self, message: Msg, command: Struct) -> None:
        match command:
            case Attach():
                await _answer(message, await self._attach(command))
            case Detach(viewer_id):
                await self._leave(viewer_id, "left")
                await _answer(message, Done())
            case commands.Terminate(user):
                self.stop(EndReason.TERMINATED, f"terminated by {user.name}")
                await _answer(message, Done())
            case commands.Snapshot():
                await _answer(message, await self._snapshot())
            case _:
                await _answer(message, Refused("invalid_request", "not a request to a session's owner"))

    async def _attach(self, attach: Attach) -> Reply:
        if self._state.status is Status.ENDED:
            return Refused("session_ended", "the session has ended")
        if len(self._attendance) >= VIEWERS_MAX and attach.viewer_id not in self._attendance:
            return Refused("too_many_sockets", f"a session has at most {VIEWERS_MAX} viewers at a time")
        await self._happens(AttachAsked(attach))
        is_first_driver = attach.role is Role.DRIVER and not self._had_driver
        self._had_driver = self._had_driver or attach.role is Role.DRIVER
        screen: Screen | None = None
        if attach.resume_from is not None and attach.resume_from <= self._recorder.seq:
            from_seq = attach.resume_from
        elif is_first_driver or self._first_output_seq is None:
            from_seq = self._recorder.seq if self._first_output_seq is None else self._first_output_seq - 1
        else:
            screen = self._screen()
            from_seq = screen.seq
        self._attendance.attach(attach.viewer_id, attach.role, seq=from_seq, now=time.monotonic())
        head_seq = self._recorder.seq
        await self._recorder.stored(from_seq)
        return Attached(
            from_seq=from_seq,
            head_seq=head_seq,
            cols=self._state.cols,
            rows=self._state.rows,
            viewers=tuple(Attendant(id_, viewer.user, viewer.role) for id_, viewer in self._state.viewers.items()),
            screen=screen.data if screen else None,
        )

    async def _leave(self, viewer_id: str, reason: str) -> None:
        self._attendance.detach(viewer_id)
        self._watched_at = time.monotonic()
        self._wake.set()
        await self._happens(ViewerLeft(viewer_id, reason))

    async def _snapshot(self) -> Reply:
        screen = self._screen()
        await self._recorder.stored(screen.seq)
        return screen

    def _screen(self) -> Screen:
        drawn = self._observer.screen()
        return Screen(seq=self._observed_seq, cols=drawn.cols, rows=drawn.rows, data=drawn.data)

    async def _asked_to_type(self, message: Msg, command: Input | Resize) -> None:
        role = self._attendance.role_of(command.viewer_id)
        if role is not Role.DRIVER:
            code = "observers_cannot_type" if role else "not_attached"
            await _answer(message, Refused(code, "only a driver that is attached types and resizes"))
        elif self._keyboard.is_full:
            await _answer(message, Refused("unavailable", "the machine does not read its input"))
        else:
            self._keyboard.put(message, command)

    async def _type(self) -> Happening:
        """Inputs and resizes in the order in which they came; of resizes with nothing between them only the last."""
        await self._shell_runs.wait()
        assert self._shell, "connected"
        while True:
            message, command, is_overtaken = await self._keyboard.next()
            if isinstance(command, Input):
                await self._observed(self._observer.typed(command.data))
                self._note_activity()
                await self._shell.write(command.data)
            elif not is_overtaken:
                self._shell.resize(command.cols, command.rows)
                await self._observed(self._observer.resized(command.cols, command.rows))
                await self._happens(ResizeAsked(command.cols, command.rows))
            await _answer(message, Done())

    # A session whose worker is gone.

    async def _take_over(self, last: Recorded) -> bool:
        """End the session of a lost worker, its chain continued. False when that worker still wrote meanwhile."""
        if last.type != str(SessionEnded.__struct_config__.tag):
            self._recorder = self._recorder_at(Position(last.seq, last.chain))
            self._state = await _counters(Record(self._bus.jetstream), self.session_id)
            ending = Stopped(EndReason.WORKER_LOST, "the worker that owned the session is gone")
            try:
                await self._happens(ending)
                await self._recorder.stored(self._recorder.seq)
            except NotOwnerError:
                await self._recorder.close()
                return False
            await self._show_ended(ending)
        await self._lease.release()
        return True

    def _recorder_at(self, position: Position | None) -> Recorder:
        return Recorder(
            self._bus.jetstream,
            org_id=self._command.org_id,
            session_id=self._command.session_id,
            now_us=lambda: time.time_ns() // 1000,
            clock=time.monotonic,
            stall_seconds=self._settings.stall_seconds,
            position=position,
            stored=self._wake.set,
        )


_DECODERS: Final[dict[Request, msgspec.msgpack.Decoder[Struct]]] = {
    Request.INPUT: msgspec.msgpack.Decoder(Input),
    Request.RESIZE: msgspec.msgpack.Decoder(Resize),
    Request.ATTACH: msgspec.msgpack.Decoder(Attach),
    Request.DETACH: msgspec.msgpack.Decoder(Detach),
    Request.CREDIT: msgspec.msgpack.Decoder(Credit),
    Request.TERMINATE: msgspec.msgpack.Decoder(commands.Terminate),
    Request.SNAPSHOT: msgspec.msgpack.Decoder(commands.Snapshot),
}


async def _lost(renewing: asyncio.Task[None]) -> Happening:
    """Raises `LeaseLostError` once the lease is lost."""
    await asyncio.shield(renewing)
    raise AssertionError("a lease is renewed until it is lost")


async def _first_of(*works: Coroutine[Any, Any, Happening]) -> Happening:
    """The result, or the error, of whichever ends first; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done.pop().result()


async def _answer(message: Msg, reply: Reply) -> None:
    if message.reply:
        await message.respond(msgspec.msgpack.encode(reply))


async def _counters(record: Record, session_id: str) -> Session:
    """A claimed session's counters as its last events of each kind tell them."""
    state = Session(status=Status.CLAIMED)
    for type_ in ("output", "input", "command"):
        if stored := await record.last(session_id, type_):
            state = evolve(state, stored.recorded.event())
    return state
