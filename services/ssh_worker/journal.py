"""What happens in one session: decided, recorded, and shown to the terminal's observer, in this order."""

import asyncio
from collections.abc import Callable
from typing import Final

import terminal
from contracts.commands import OpenSession, Screen
from contracts.events import SessionEnded
from services.ssh_worker.keyframes import KEYFRAME_BYTES_MAX, Keyframes
from services.ssh_worker.lease import Lease, LeaseLostError
from services.ssh_worker.recorder import Recorder
from services.ssh_worker.session import (
    Happening,
    Observed,
    OutputArrived,
    ResizeAsked,
    ScreenKept,
    Session,
    Status,
    decide,
    evolve,
)

END_SECONDS_MAX: Final = 300.0
"""How long a session that has ended is kept to get its end stored, before that is left to the next worker."""


class Journal:
    """One session's state and record. What records raises `NotOwnerError`, and `LeaseLostError` where the lease is needed."""

    def __init__(
        self,
        command: OpenSession,
        lease: Lease,
        recorder: Recorder,
        *,
        ended: Callable[[SessionEnded], None],
        mask: Callable[[str], str] = str,
        state: Session | None = None,
    ) -> None:
        """`mask` leaves secrets out of commands.

        `ended` is called once the end is recorded; `state` is what an earlier owner's record tells.
        """
        self.state = state or Session()
        self.recorder = recorder
        self._lease = lease
        self._ended = ended
        self._observer = terminal.Observer(command.cols, command.rows, mask)
        self._observed_seq = 0
        self._keyframes = Keyframes()
        self._recording = asyncio.Lock()
        self.first_output_seq: int | None = None
        self.last_output_seq = 0

    async def happens(self, happening: Happening, *, needs_lease: bool = True) -> None:
        """Record what `happening` is worth."""
        async with self._recording:
            for fact in decide(self.state, happening):
                if needs_lease and not self._lease.is_held:
                    raise LeaseLostError("the lease ran out while the process stood still")
                self.state = evolve(self.state, fact.event)
                await self.recorder.record(fact.event, fact.data)
                if isinstance(fact.event, SessionEnded):
                    self._ended(fact.event)

    async def output(self, data: bytes, *, recorded: Callable[[int, bytes], None]) -> None:
        """The machine sent `data`; `recorded` is called with its event's number, and with `data`."""
        await self.happens(OutputArrived(data))
        self.last_output_seq = seq = self.recorder.seq
        if self.first_output_seq is None:
            self.first_output_seq = seq
        recorded(seq, data)
        seen = self._observer.shown(data, seq)
        self._observed_seq = seq
        await self._observed(seen)
        if self._keyframes.is_due(data, self.state.cols, self.state.rows):
            await self._keep_screen()

    async def typed(self, data: bytes) -> None:
        """A driver typed `data`. Call it before any other task may run that the machine's answer could reach.

        The observer is told at once; only recording what it says is waited for.
        """
        await self._observed(self._observer.typed(data))

    async def resized(self, cols: int, rows: int) -> None:
        """The remote terminal has this size now."""
        await self._observed(self._observer.resized(cols, rows))
        await self.happens(ResizeAsked(cols, rows))

    async def settle(self) -> None:
        """Nothing has come for a while: the observer decides what is still open."""
        if self.state.status is Status.STARTED:
            await self._observed(self._observer.settle())

    def park(self) -> None:
        """Nothing has come for long: the observer gives its memory back."""
        self._observer.park()

    def screen(self) -> Screen:
        """What is on the terminal now; wait for its `seq` to be stored before anybody is shown it."""
        drawn = self._observer.screen()
        return Screen(seq=self._observed_seq, cols=drawn.cols, rows=drawn.rows, data=drawn.data)

    async def end(self, ending: Happening) -> None:
        """Record the end and get it stored. Raises `TimeoutError` when that could not be done for `END_SECONDS_MAX`."""
        async with asyncio.timeout(END_SECONDS_MAX):
            for observation in self._observer.finish():
                await self.happens(Observed(observation), needs_lease=False)
            await self.happens(ending, needs_lease=False)
            await self.recorder.stored(self.recorder.seq)

    async def _keep_screen(self) -> None:
        drawn = self._observer.screen()
        if drawn.is_at_edge:  # whether the next character begins a new line is not in the picture: after the next output, perhaps
            return
        self._keyframes.taken()
        if len(drawn.data) <= KEYFRAME_BYTES_MAX:
            await self.happens(ScreenKept(self._observed_seq, drawn.cols, drawn.rows, drawn.data))

    async def _observed(self, seen: list[terminal.Observation]) -> None:
        for observation in seen:
            await self.happens(Observed(observation))
