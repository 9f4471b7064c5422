"""The only publisher of a session's events: numbers and chains them, publishes them pipelined, and sees that each is stored.

Every publish carries two guards that JetStream checks atomically with storing:

- `Nats-Msg-Id` `<session_id>:<seq>`, so that an event published again is stored once;
- `Nats-Expected-Last-Subject-Sequence: 0` on the session's `ended` subject, so that nothing can ever follow the end of
  a session, whoever wrote it. `claimed` expects the same of its own subject: only one worker can begin a session.

What is not acknowledged is published again, in order. While anything is, and while the window is full, `record` waits:
that is the back-pressure which reaches down to the remote process. `ended` is published only once all before it is
stored, because the guard would refuse what came after it.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header, PubAck
from nats.js.errors import APIError

from contracts import subjects, wire
from contracts.events import Event, SessionClaimed, SessionEnded
from contracts.wire import Recorded
from services.runtime.record import Record
from services.runtime.signing import Signer
from services.ssh_worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

WINDOW_BYTES_MAX: Final = 256 * 1024
"""Bytes of one session that are published and not yet acknowledged."""

WINDOW_EVENTS_MAX: Final = 128

RETRY_SECONDS: Final = 0.5
"""After a refusal, or between looks at what has been without an answer for `ACK_PATIENCE_SECONDS`."""

ACK_PATIENCE_SECONDS: Final = 2.0

WRONG_LAST_SEQUENCE: Final = 10071
"""JetStream's `err_code` for a guard that did not hold."""

EXPECTED_SEQUENCE_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
"""Names the subject of the guard (nats-server 2.12, ADR-50); nats-py has no constant for it yet."""


class NotOwnerError(Exception):
    """Another worker owns this session, or has ended it: stop at once and write nothing more."""


class RecordUnavailableError(Exception):
    """Events could not be stored for longer than a session may go on unrecorded."""


class Position(Struct, frozen=True):
    """Where a session's record stands: its last event's number and chain."""

    seq: int = 0
    chain: bytes = wire.GENESIS


class _Sent(Struct):
    recorded: Recorded
    payload: bytes
    sent_at: float
    first_sent_at: float
    acknowledgement: asyncio.Future[PubAck]


class Recorder:
    """Appends to one session's record. Times are seconds of `clock`, which must not stand still while the process does."""

    def __init__(
        self,
        jetstream: JetStreamContext,
        *,
        org_id: str,
        session_id: str,
        now_us: Callable[[], int],
        clock: Callable[[], float],
        stall_seconds: float,
        metrics: WorkerMetrics,
        position: Position | None = None,
        stored: Callable[[], None] = lambda: None,
        signer: Callable[[], Signer | None] = lambda: None,
    ) -> None:
        """`position` is where an earlier owner's record ends; `stored` is called after each acknowledgement.

        `signer` gives the key to sign the end with, if there is one.
        """
        self._jetstream = jetstream
        self._org_id = org_id
        self._session_id = session_id
        self._now_us = now_us
        self._clock = clock
        self._stall_seconds = stall_seconds
        self._metrics = metrics
        self._position = position or Position()
        self._stored = stored
        self._signer = signer
        self._unacknowledged: dict[int, _Sent] = {}
        self._unacknowledged_bytes = 0
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._mending: asyncio.Task[None] | None = None
        self._mending_first = False
        self._failure: NotOwnerError | None = None
        self._stall = asyncio.Event()

    @property
    def seq(self) -> int:
        """The last event's number, stored or not."""
        return self._position.seq

    @property
    def stored_seq(self) -> int:
        """Everything up to and with this number is stored."""
        return next(iter(self._unacknowledged)) - 1 if self._unacknowledged else self._position.seq

    @property
    def has_room(self) -> bool:
        """Whether `record` would not have to wait."""
        if self._failure:
            return True
        if self._mending_first:
            return not self._unacknowledged
        return self._unacknowledged_bytes < WINDOW_BYTES_MAX and len(self._unacknowledged) < WINDOW_EVENTS_MAX

    async def record(self, event: Event, data: bytes = b"") -> int:
        """Append `event`; returns its number once it is published, not yet stored. Raises `NotOwnerError`."""
        while not self.has_room:
            await self._wait_for_change()
        if isinstance(event, SessionEnded):
            await self.stored(self.seq)
        if self._failure:
            raise self._failure
        self._mending_first = False
        sign = None
        if isinstance(event, SessionEnded) and (signer := self._signer()):
            event, sign = replace(event, key_id=signer.key_id), signer.sign
        recorded = Recorded.seal(
            self._position.chain,
            org_id=self._org_id,
            session_id=self._session_id,
            seq=self._position.seq + 1,
            at=self._now_us(),
            event=event,
            data=data,
            sign=sign,
        )
        self._position = Position(recorded.seq, recorded.chain)
        payload = wire.encode(recorded)
        now = self._clock()
        self._unacknowledged_bytes += len(payload)
        self._unacknowledged[recorded.seq] = sent = _Sent(recorded, payload, now, now, _never())
        await self._publish(sent)
        self._look_again_later()
        return recorded.seq

    async def stored(self, seq: int) -> None:
        """Returns when event `seq` and all before it are stored. Raises `NotOwnerError`."""
        while self.stored_seq < seq:
            await self._wait_for_change()

    async def wait_for_trouble(self) -> None:
        """Never returns; raises `NotOwnerError` or `RecordUnavailableError` as soon as one holds."""
        await self._stall.wait()
        if self._failure:
            raise self._failure
        raise RecordUnavailableError(f"events could not be stored for {self._stall_seconds:.0f} s")

    async def close(self) -> None:
        """Stop publishing. What is not stored by now is left to the next owner."""
        if self._timer:
            self._timer.cancel()
        if self._mending:
            self._mending.cancel()
        for sent in self._unacknowledged.values():
            sent.acknowledgement.cancel()

    async def _wait_for_change(self) -> None:
        if self._failure:
            raise self._failure
        await self._changed.wait()
        if self._failure:
            raise self._failure

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._stored()

    async def _publish(self, sent: _Sent) -> None:
        recorded = sent.recorded
        guarded = subjects.event(self._session_id, _GUARDED.get(recorded.type, _ENDED))
        headers = {
            Header.MSG_ID.value: f"{self._session_id}:{recorded.seq}",
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: "0",
            EXPECTED_SEQUENCE_SUBJECT: guarded,
        }
        subject = subjects.event(self._session_id, recorded.type)
        sent.sent_at = self._clock()
        sent.acknowledgement.cancel()
        sent.acknowledgement = _never()
        try:
            sent.acknowledgement = await self._jetstream.publish_async(subject, sent.payload, headers=headers)
        except NatsError as error:
            log.warning(
                "session %s: event %d %s (%d bytes) could not be sent: %s",
                self._session_id,
                recorded.seq,
                recorded.type,
                len(sent.payload),
                error,
            )
            return
        sent.acknowledgement.add_done_callback(partial(self._answered, recorded.seq))

    async def _publish_again(self, sent: _Sent) -> None:
        self._metrics.repeated_publishes.inc()
        await self._publish(sent)

    def _answered(self, seq: int, answer: asyncio.Future[PubAck]) -> None:
        sent = self._unacknowledged.get(seq)
        if answer.cancelled() or sent is None or answer is not sent.acknowledgement:
            return
        if answer.exception() is None and not answer.result().duplicate:
            self._is_stored(seq)
        else:
            self._mending_first = True

    def _is_stored(self, seq: int) -> None:
        sent = self._unacknowledged.pop(seq)
        self._unacknowledged_bytes -= len(sent.payload)
        self._metrics.stored_events.inc()
        self._metrics.store_seconds.observe(self._clock() - sent.first_sent_at)
        self._wake()

    def _look_again_later(self) -> None:
        if self._timer is None and not self._failure:
            self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if self._unacknowledged:
            self._mending = asyncio.create_task(self._mend())
            self._mending.add_done_callback(self._mended)

    def _mended(self, mending: asyncio.Task[None]) -> None:
        """Whatever came of it: as long as something is not acknowledged, it is looked after."""
        if mending.cancelled():
            return
        if error := mending.exception():
            log.error("session %s: looking after its events failed, and is tried again", self._session_id, exc_info=error)
        if self._unacknowledged and not self._failure:
            self._look_again_later()

    async def _mend(self) -> None:
        """See to every event that was refused or has been without an answer for too long, in order."""
        oldest = next(iter(self._unacknowledged.values()), None)
        if oldest and self._clock() - oldest.first_sent_at > self._stall_seconds:
            self._stall.set()
        is_readable = True
        for sent in list(self._unacknowledged.values()):
            if sent.acknowledgement.done():
                await self._look_into(sent)
            elif self._clock() - sent.sent_at > ACK_PATIENCE_SECONDS:
                self._mending_first = True
                # nats-py 2.16 raises a refusal where nobody waits for it: to us a guard that did not hold is no answer either.
                is_readable = is_readable and await self._compare(sent)
                if sent.recorded.seq in self._unacknowledged and not self._failure:
                    await self._publish_again(sent)

    async def _look_into(self, sent: _Sent) -> None:
        """An answer that was no plain yes: a duplicate or a guard may mean us or another writer; anything else is tried again."""
        seq = sent.recorded.seq
        if seq not in self._unacknowledged or sent.acknowledgement.cancelled():
            return
        error = sent.acknowledgement.exception()
        guarded = isinstance(error, APIError) and error.err_code == WRONG_LAST_SEQUENCE
        if error is not None and not guarded:
            log.warning("session %s: event %d was not stored: %s", self._session_id, seq, error)
            await self._publish_again(sent)
            return
        await self._compare(sent)

    async def _compare(self, sent: _Sent) -> bool:
        """Look what the record has in this event's place, and learn from it. False when it cannot be read."""
        record, seq = Record(self._jetstream), sent.recorded.seq
        try:
            stored = await record.event(self._session_id, seq)
            is_free = stored is None and await record.last(self._session_id, _GUARDED.get(sent.recorded.type, _ENDED)) is None
        except (NatsError, TimeoutError) as unreachable:
            log.warning("session %s: the record cannot be read: %s", self._session_id, type(unreachable).__name__)
            return False
        if seq not in self._unacknowledged:
            return True  # it was acknowledged meanwhile
        if stored == sent.recorded:
            self._is_stored(seq)
        elif not is_free:
            self._failure = NotOwnerError(f"session {self._session_id} has another owner or has ended")
            self._stall.set()
            self._wake()
        return True


_ENDED: Final = str(SessionEnded.__struct_config__.tag)
_GUARDED: Final = {str(SessionClaimed.__struct_config__.tag): str(SessionClaimed.__struct_config__.tag)}


def _never() -> asyncio.Future[PubAck]:
    return asyncio.get_running_loop().create_future()
