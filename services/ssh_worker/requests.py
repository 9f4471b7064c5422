"""What viewers and gateways ask of a session's owner: attach, type, resize, give credit, terminate."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from contracts import commands, subjects
from contracts.commands import Attach, Attached, Attendant, Credit, Detach, Done, Input, Refused, Reply, Resize, Screen
from contracts.events import EndReason, Role
from contracts.subjects import Request
from services.ssh_worker.attendance import Attendance
from services.ssh_worker.journal import Journal
from services.ssh_worker.keyboard import Keyboard
from services.ssh_worker.lease import LeaseLostError
from services.ssh_worker.recorder import NotOwnerError
from services.ssh_worker.session import AttachAsked, Status, ViewerLeft
from services.ssh_worker.ssh.shell import Shell

log = logging.getLogger(__name__)

VIEWERS_MAX: Final = 64
"""Of one session at a time."""


class Requests:
    """Answers the requests to one session's owner. `attendance` says who watches, and how far."""

    def __init__(
        self,
        journal: Journal,
        *,
        stop: Callable[[EndReason, str], None],
        credited: Callable[[], None],
        typed: Callable[[], None],
    ) -> None:
        """`stop` ends the session; `credited` is called when more output may be made, `typed` when a driver typed."""
        self.attendance = Attendance()
        self._journal = journal
        self._stop = stop
        self._credited = credited
        self._typed = typed
        self._keyboard = Keyboard()
        self._first_driver = ""
        """The viewer that sees the session from its beginning, also when it asks again."""
        self._left_at = time.monotonic()
        self._unfinished: set[asyncio.Task[None]] = set()

    async def asked(self, message: Msg) -> None:
        """A request came. Inputs and resizes wait for `type_into`; everything else is answered in the background."""
        try:
            request = subjects.request_of(message.subject)
            command = _DECODERS[request].decode(message.data)
        except (ValueError, msgspec.MsgspecError) as error:
            await _answer(message, Refused("invalid_request", str(error)))
            return
        match command:
            case Credit(viewer_id, seq):
                self.attendance.credited(viewer_id, seq, now=time.monotonic())
                self._credited()
            case Input() | Resize():
                await self._asked_to_type(message, command)
            case _:
                self.in_background(self._answer(message, command))

    async def type_into(self, shell: Shell) -> None:
        """Inputs and resizes in the order in which they came, for ever; of resizes with nothing between them only the last."""
        while True:
            message, command, is_overtaken = await self._keyboard.next()
            if isinstance(command, Input):
                shell.write(command.data)  # at once: the observer, which is told next, may have a flood to draw first
                await self._journal.typed(command.data)
                self._typed()
                await shell.writable()
            elif not is_overtaken:
                shell.resize(command.cols, command.rows)
                await self._journal.resized(command.cols, command.rows)
            await _answer(message, Done())

    async def leave(self, viewer_id: str, reason: str) -> None:
        """A viewer has gone."""
        self.attendance.detach(viewer_id)
        self._left_at = time.monotonic()
        self._credited()
        await self._journal.happens(ViewerLeft(viewer_id, reason))

    def watched_at(self, now: float) -> float:
        """When somebody watched last, in seconds of the monotonic clock."""
        return now if len(self.attendance) else self._left_at

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it until `close`; losing the session ends it quietly."""
        task = asyncio.create_task(_guarded(work))
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)

    def close(self) -> None:
        """Leave what is not answered yet."""
        for task in self._unfinished:
            task.cancel()

    async def _answer(self, message: Msg, command: Struct) -> None:
        match command:
            case Attach():
                await _answer(message, await self._attach(command))
            case Detach(viewer_id):
                await self.leave(viewer_id, "left")
                await _answer(message, Done())
            case commands.Terminate(user):
                self._stop(EndReason.TERMINATED, f"terminated by {user.name}")
                await _answer(message, Done())
            case commands.Snapshot():
                await _answer(message, await self._snapshot())
            case _:
                await _answer(message, Refused("invalid_request", "not a request to a session's owner"))

    async def _attach(self, attach: Attach) -> Reply:
        journal, recorder = self._journal, self._journal.recorder
        if journal.state.status is Status.ENDED:
            return Refused("session_ended", "the session has ended")
        if len(self.attendance) >= VIEWERS_MAX and attach.viewer_id not in self.attendance:
            return Refused("too_many_sockets", f"a session has at most {VIEWERS_MAX} viewers at a time")
        await journal.happens(AttachAsked(attach))
        if attach.role is Role.DRIVER and not self._first_driver:
            self._first_driver = attach.viewer_id
        is_first_driver = attach.viewer_id == self._first_driver
        screen: Screen | None = None
        if attach.resume_from is not None and attach.resume_from <= recorder.seq:
            from_seq = attach.resume_from
        elif is_first_driver or journal.first_output_seq is None:
            from_seq = recorder.seq if journal.first_output_seq is None else journal.first_output_seq - 1
        else:
            screen = journal.screen()
            from_seq = screen.seq
        self.attendance.attach(attach.viewer_id, attach.role, seq=from_seq, now=time.monotonic())
        head_seq = recorder.seq
        await recorder.stored(from_seq)
        return Attached(
            from_seq=from_seq,
            head_seq=head_seq,
            cols=journal.state.cols,
            rows=journal.state.rows,
            viewers=tuple(Attendant(id_, viewer.user, viewer.role) for id_, viewer in journal.state.viewers.items()),
            screen=screen.data if screen else None,
        )

    async def _snapshot(self) -> Reply:
        screen = self._journal.screen()
        await self._journal.recorder.stored(screen.seq)
        return screen

    async def _asked_to_type(self, message: Msg, command: Input | Resize) -> None:
        role = self.attendance.role_of(command.viewer_id)
        if role is not Role.DRIVER:
            code = "observers_cannot_type" if role else "not_attached"
            await _answer(message, Refused(code, "only a driver that is attached types and resizes"))
        elif self._keyboard.is_full:
            await _answer(message, Refused("unavailable", "the machine does not read its input"))
        else:
            self._keyboard.put(message, command)


_DECODERS: Final[dict[Request, msgspec.msgpack.Decoder[Struct]]] = {
    Request.INPUT: msgspec.msgpack.Decoder(Input),
    Request.RESIZE: msgspec.msgpack.Decoder(Resize),
    Request.ATTACH: msgspec.msgpack.Decoder(Attach),
    Request.DETACH: msgspec.msgpack.Decoder(Detach),
    Request.CREDIT: msgspec.msgpack.Decoder(Credit),
    Request.TERMINATE: msgspec.msgpack.Decoder(commands.Terminate),
    Request.SNAPSHOT: msgspec.msgpack.Decoder(commands.Snapshot),
}


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (NotOwnerError, LeaseLostError) as error:
        log.warning("%s", error)


async def _answer(message: Msg, reply: Reply) -> None:
    if message.reply:
        await message.respond(msgspec.msgpack.encode(reply))
