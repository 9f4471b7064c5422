"""One session from its claim to its end: holds the lease, carries the terminal's bytes, and says what ends it."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from contracts import subjects
from contracts.commands import OpenSession
from contracts.events import ConnectError, EndReason
from contracts.wire import Recorded
from services.runtime import masking, signing
from services.runtime.record import Record
from services.ssh_worker import lifetime
from services.ssh_worker.connecting import Connecting
from services.ssh_worker.host_keys import HostKeys
from services.ssh_worker.journal import Journal
from services.ssh_worker.lease import Lease, LeaseLostError
from services.ssh_worker.lifetime import Lifetime
from services.ssh_worker.live_view import LiveView
from services.ssh_worker.metrics import WorkerMetrics
from services.ssh_worker.recorder import NotOwnerError, Position, Recorder, RecordUnavailableError
from services.ssh_worker.requests import Requests
from services.ssh_worker.session import Claimed, ConnectFailed, EndIsNear, Happening, ShellExited, Status, Stopped
from services.ssh_worker.settings import WorkerSettings
from services.ssh_worker.ssh.route import ConnectFailedError
from services.ssh_worker.ssh.shell import FRAME_BYTES_MAX, Shell
from services.ssh_worker.takeover import end_lost_session

log = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.3
"""Silence after which the observer decides what is still open."""

PARK_SECONDS: Final = 30.0
"""Silence after which the observer gives its memory back."""

HOUSEKEEPING_SECONDS: Final = 5.0


class Bus(Struct, frozen=True):
    """The worker's connections, shared by its sessions."""

    nats: Client
    jetstream: JetStreamContext
    live: KeyValue
    host_keys: KeyValue


class Owner:
    """Owns one session. `run` returns when the session has ended, or has another owner."""

    def __init__(  # what one session needs of its worker
        self,
        command: OpenSession,
        lease: Lease,
        bus: Bus,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        worker: str,
        stall_seconds: float,
    ) -> None:
        """`stall_seconds` is how long events may stay unstored before the session ends itself."""
        self._command = command
        self._lease = lease
        self._bus = bus
        self._settings = settings
        self._metrics = metrics
        self._worker = worker
        self._stall_seconds = stall_seconds
        self._wake = asyncio.Event()
        self._recorder = self._recorder_at(None)
        self._journal = Journal(
            command, lease, self._recorder, ended=metrics.session_ended, mask=masking.load(settings.mask_rules_file)
        )
        self._connecting = Connecting(command, settings, HostKeys(bus.host_keys), self._journal)
        self._requests = Requests(self._journal, stop=self.stop, credited=self._wake.set, typed=self._note_typing)
        self._attendance = self._requests.attendance
        self._live_view = LiveView(bus.live, command, worker)
        self._shell: Shell | None = None
        self._shell_runs = asyncio.Event()
        self._lifetime = Lifetime(self._limits(), time.monotonic())
        self._stop: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        self._active_at = time.monotonic()
        self._settle_timer: asyncio.TimerHandle | None = None

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._command.session_id

    def stop(self, reason: EndReason, message: str = "") -> None:
        """End the session for a reason of ours; the first one counts."""
        if not self._stop.done():
            self._stop.set_result(Stopped(reason, message))

    def warn(self, reason: EndReason, message: str, ends_in_seconds: float) -> None:
        """Tell the viewers that the session will end for a reason of ours."""
        if self._journal.state.status is not Status.NEW:
            self._requests.in_background(self._journal.happens(EndIsNear(reason, message, round(ends_in_seconds))))

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

    async def _take_over(self, last: Recorded) -> bool:
        """Another worker began this session, and is gone. False when it turned out to be there still."""
        recorder = self._recorder_at(Position(last.seq, last.chain))
        try:
            record = Record(self._bus.jetstream)
            return await end_lost_session(
                self._command, last, self._lease, record, recorder, self._live_view, ended=self._metrics.session_ended
            )
        finally:
            await recorder.close()

    async def _own(self) -> None:
        subscription = await self._bus.nats.subscribe(subjects.requests_of(self.session_id), cb=self._requests.asked)
        renewing = asyncio.create_task(self._lease.keep())
        try:
            ending = await self._live(renewing)
            await self._end(ending)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await subscription.unsubscribe()
            self._requests.close()
            if self._settle_timer:
                self._settle_timer.cancel()
            if self._shell:
                self._shell.close()
                await self._shell.wait_closed()

    async def _live(self, renewing: asyncio.Task[None]) -> Happening:
        """Claim, connect and carry the session while its lease is renewed; returns what ends it."""
        await self._journal.happens(Claimed(self._command, self._worker))
        await self._recorder.stored(1)
        match await self._live_view.claim():
            case ConnectError.NO_CAPACITY:
                return ConnectFailed(ConnectError.NO_CAPACITY, "no place was free for too long")
            case ConnectError():
                return ConnectFailed(ConnectError.CANCELLED, "the request was cancelled before a worker was free")
        if (waited := self._waited_seconds()) > self._settings.wait_for_place_seconds:
            return ConnectFailed(ConnectError.NO_CAPACITY, f"no place was free for {waited:.0f} s")
        try:
            return await _first_of(
                self._carry(),
                self._type(),
                self._stopped(),
                self._outlive(),
                self._trouble(),
                _lost(renewing),
                self._keep_house(),
            )
        except LeaseLostError as error:
            return Stopped(EndReason.AUDIT_UNAVAILABLE, str(error))

    # The terminal's bytes.

    async def _carry(self) -> Happening:
        try:
            await self._connect()
        except ConnectFailedError as error:
            return ConnectFailed(error.code, error.message)
        self._requests.in_background(self._live_view.write())
        return await self._pump()

    async def _connect(self) -> None:
        self._shell = shell = await self._connecting.shell(self._wake.set)
        self._metrics.connect_seconds.observe(shell.opening.connect_ms / 1000)
        self._live_view.started(datetime.now(UTC))
        await self._journal.happens(self._connecting.connected(shell))
        self._lifetime = Lifetime(self._limits(), time.monotonic())
        self._shell_runs.set()

    async def _pump(self) -> Happening:
        """Output from the channel into the record, in frames that grow while earlier ones are not stored yet."""
        assert self._shell, "connected"
        shell = self._shell
        while True:
            self._wake.clear()
            if shell.waiting_bytes:
                if self._may_send_output(shell.waiting_bytes) or (shell.is_closed and self._recorder.has_room):
                    await self._journal.output(shell.read(FRAME_BYTES_MAX), recorded=self._note_output)
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
        return waiting_bytes >= FRAME_BYTES_MAX or self._recorder.stored_seq >= self._journal.last_output_seq

    def _note_output(self, seq: int, data: bytes) -> None:
        self._metrics.output_bytes.inc(len(data))
        self._attendance.produced(seq, self._journal.state.output_bytes_total)
        self._note_activity()

    async def _type(self) -> Happening:
        await self._shell_runs.wait()
        assert self._shell, "connected"
        await self._requests.type_into(self._shell)
        raise AssertionError("typing goes on for ever")

    # The end, and what can bring it besides the machine.

    async def _end(self, ending: Happening) -> None:
        """Record the end, get it stored, and give the command back as done."""
        if self._shell:
            self._shell.close()
        try:
            await self._journal.end(ending)
        except TimeoutError:
            log.error("session %s: its end could not be stored; the next worker will record it", self.session_id)
            return
        await self._live_view.show_ended(ending, self._journal.state.commands_total)
        await self._lease.release()

    async def _stopped(self) -> Happening:
        return await asyncio.shield(self._stop)

    async def _outlive(self) -> Happening:
        """Returns when the session has been idle, or has run, for too long; the viewers are warned before."""
        await self._shell_runs.wait()
        while True:
            now = time.monotonic()
            due, again_at = self._lifetime.look(now)
            if isinstance(due, Stopped):
                return due
            if due:
                await self._journal.happens(due)
            await asyncio.sleep(again_at - now)

    def _limits(self) -> lifetime.Limits:
        settings = self._settings
        return lifetime.limits(
            self._command.machine, settings.idle_timeout_seconds, settings.max_duration_seconds, settings.warn_seconds
        )

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
                await self._requests.leave(viewer_id, "lost")
            quiet = now - max(self._active_at, self._requests.watched_at(now))
            if 0 < self._settings.client_gone_seconds < quiet:
                self.stop(EndReason.CLIENT_GONE, f"nobody watched and nothing happened for {quiet:.0f} s")
            if now - self._active_at > PARK_SECONDS:
                self._journal.park()
            self._requests.in_background(self._live_view.refresh())

    # Silence after activity.

    def _note_typing(self) -> None:
        self._lifetime.typed(time.monotonic())
        self._note_activity()

    def _note_activity(self) -> None:
        self._active_at = time.monotonic()
        self._live_view.active(datetime.now(UTC), self._journal.state.commands_total)
        if self._settle_timer is None:
            self._settle_timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle_if_quiet)

    def _settle_if_quiet(self) -> None:
        quiet = time.monotonic() - self._active_at
        if quiet < SETTLE_SECONDS:
            self._settle_timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS - quiet, self._settle_if_quiet)
            return
        self._settle_timer = None
        self._requests.in_background(self._settle())

    async def _settle(self) -> None:
        await self._journal.settle()
        self._live_view.active(datetime.now(UTC), self._journal.state.commands_total)
        await self._live_view.refresh()

    def _recorder_at(self, position: Position | None) -> Recorder:
        return Recorder(
            self._bus.jetstream,
            org_id=self._command.org_id,
            session_id=self._command.session_id,
            now_us=lambda: time.time_ns() // 1000,
            clock=time.monotonic,
            stall_seconds=self._stall_seconds,
            metrics=self._metrics,
            position=position,
            stored=self._wake.set,
            signer=partial(signing.read_or_none, Path(self._settings.secrets_dir), self._settings.signing_key),
        )


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
