"""One session's events for one viewer: from the record and then live, in order, each exactly once, none missing.

Live events come from the stream's republish, so they are stored before anyone sees them. That delivery may drop
messages (a slow viewer, a lost connection); a gap in the numbers shows it, and the gap is read from the record.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts import subjects, wire
from contracts.events import SessionEnded
from contracts.wire import Recorded
from services.runtime.record import Record
from services.session_api.gateway import Gateway
from services.session_api.history import History

PENDING_BYTES_MAX: Final = 2 * 1024 * 1024
"""Live events that wait for a slow viewer; what comes beyond is dropped here and read from the record later."""

HELD_EVENTS_MAX: Final = 512
"""Events that came before their predecessors were stored (they were published again); above any writer's window."""


_ENDED: Final = str(SessionEnded.__struct_config__.tag)


class Feed:
    """`deliver` gets the events one at a time; awaiting it holds up the next."""

    def __init__(self, gateway: Gateway, history: History, session_id: str, deliver: Callable[[Recorded], Awaitable[None]]) -> None:
        self._gateway = gateway
        self._history = history
        self._record = Record(gateway.jetstream)
        self._session_id = session_id
        self._deliver = deliver
        self._next_seq = 1
        self._known_seq = 0
        """The highest number that is known to be given out, whether its event was seen or not."""
        self._held: dict[int, Recorded] = {}
        self._turn = asyncio.Lock()
        self._started = asyncio.Event()
        self._subscription: Subscription | None = None
        self.stirred = asyncio.Event()
        """Set whenever anything of the session was heard, also before `start`."""

    @property
    def behind_bytes(self) -> int:
        """Live events that have arrived and were not delivered yet."""
        return self._subscription.pending_bytes if self._subscription else 0

    async def open(self) -> None:
        """Begin to collect live events."""
        self._subscription = await self._gateway.nats.subscribe(
            subjects.live_events_of(self._session_id), cb=self._heard, pending_bytes_limit=PENDING_BYTES_MAX
        )

    async def start(self, *, after_seq: int, head_seq: int) -> None:
        """Deliver what follows `after_seq`: from the record up to `head_seq` at least, then live."""
        async with self._turn:
            self._next_seq, self._known_seq = after_seq + 1, head_seq
            if head_seq > after_seq:
                await self._fill()
        self._started.set()

    async def catch_up(self) -> None:
        """Look whether the record has more than was heard, and deliver it."""
        last = await self._record.last(self._session_id)
        if last is not None:  # not always the highest: what is published again is stored behind what followed it
            self._known_seq = max(self._known_seq, last.recorded.seq)
        if self._next_seq <= self._known_seq and not self._turn.locked():
            async with self._turn:
                await self._fill()

    def skip_to(self, seq: int) -> None:
        """The viewer has been shown the screen as it was after event `seq`: go on after it. Call it only from `deliver`."""
        self._next_seq = max(self._next_seq, seq + 1)
        self._held.clear()

    async def close(self) -> None:
        """Stop."""
        if self._subscription:
            await self._subscription.unsubscribe()
            self._subscription = None

    async def _heard(self, message: Msg) -> None:
        self.stirred.set()
        await self._started.wait()
        recorded = wire.decode(message.data)
        async with self._turn:
            self._known_seq = max(self._known_seq, recorded.seq)
            if recorded.seq == self._next_seq:
                await self._pass_on(recorded)
            elif recorded.seq > self._next_seq and len(self._held) < HELD_EVENTS_MAX:
                self._held[recorded.seq] = recorded
            if self._next_seq <= self._known_seq:
                await self._fill()

    async def _pass_on(self, recorded: Recorded | None) -> None:
        while recorded is not None:
            self._next_seq = recorded.seq + 1
            await self._deliver(recorded)
            recorded = self._held.pop(self._next_seq, None)

    async def _fill(self) -> None:
        async for recorded in self._stored():
            if recorded.seq == self._next_seq:
                await self._pass_on(recorded)
        for seq in [seq for seq in self._held if seq < self._next_seq]:
            del self._held[seq]
        await self._pass_on(self._held.pop(self._next_seq, None))
        if any(recorded.type == _ENDED for recorded in self._held.values()):
            await self._pass_on_what_there_is()

    async def _pass_on_what_there_is(self) -> None:
        """Nothing can be stored after the end: what is missing now was lost with its worker, and will not come any more."""
        while self._held:
            await self._pass_on(self._held.pop(min(self._held)))

    async def _stored(self) -> AsyncIterator[Recorded]:
        """What follows the last delivered event, from ClickHouse as far as the stream no longer has it."""
        after_seq = self._next_seq - 1
        async for recorded in self._record.events(self._session_id, after_seq=after_seq):
            if recorded.seq > after_seq + 1:
                async for purged in self._history.events(self._session_id, after_seq, recorded.seq - 1):
                    yield purged
            after_seq = recorded.seq
            yield recorded
        if await self._record.last(self._session_id) is None:
            async for purged in self._history.events(self._session_id, after_seq):
                yield purged
