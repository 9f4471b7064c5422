"""Drops from the streams what ClickHouse has and nobody will read there any more.

Never dropped is the newest event of a session that has not ended: whoever owns it next continues its numbers and its
chain. The command of such a session still lies in stream COMMANDS.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.commands import OpenSession
from contracts.streams import AUDIT, AUDIT_ACCESS, AUDIT_ACCESS_ANCHORS, AUDIT_ANCHORS, COMMANDS, SESSIONS, Consumer
from services.audit.settings import AuditSettings
from services.runtime.anchors import OF_ACCESS, OF_SESSIONS, newest_anchor

log = logging.getLogger(__name__)

PURGE_SECONDS: Final = 300.0

_decoder = msgspec.msgpack.Decoder(OpenSession)


async def purge_for_ever(jetstream: JetStreamContext, settings: AuditSettings) -> None:
    """`purge` every `PURGE_SECONDS` until cancelled."""
    while True:
        before = datetime.now(UTC) - timedelta(hours=settings.resume_horizon_hours)
        try:
            if dropped := await purge(jetstream, before=before, only_anchored=settings.anchor_seconds > 0):
                log.info("dropped %d events from stream %s", dropped, SESSIONS.name)
            anchored = await _anchored_access(jetstream) if settings.anchor_seconds else None
            await purge_moved(jetstream, AUDIT_ACCESS, before=before, up_to=anchored)
            for moved in (AUDIT_ANCHORS, AUDIT_ACCESS_ANCHORS):
                await purge_moved(jetstream, moved, before=before)
        except (NatsError, TimeoutError) as error:
            log.warning("the streams were not purged: %s", type(error).__name__)
        await asyncio.sleep(PURGE_SECONDS)


async def purge(jetstream: JetStreamContext, *, before: datetime, only_anchored: bool = False) -> int:
    """Drop what is acknowledged by `audit`, which means stored in ClickHouse, and was written before `before`. Returns how many.

    With `only_anchored` what no anchor is over yet stays too.
    Raises `nats.errors.Error` when the bus does not answer.
    """
    # The floor is read first: what is acknowledged after this is left for the next time.
    consumer = await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)
    state = (await jetstream.stream_info(SESSIONS.name)).state
    floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    if only_anchored:
        anchor = await newest_anchor(jetstream, OF_SESSIONS)
        floor = min(floor, anchor.last_stream_seq if anchor else 0)
    first_kept = await _first_since(jetstream, AUDIT, before, state.first_seq, floor + 1)
    if first_kept <= state.first_seq:
        return 0
    newest = await _newest_of_unended(jetstream)
    held = {session_id: seq for session_id, seq in newest.items() if seq < first_kept}
    if not held:
        await jetstream.purge_stream(SESSIONS.name, seq=first_kept)
    else:
        for session_id in await _sessions(jetstream):
            seq = held.get(session_id, first_kept)
            await jetstream.purge_stream(SESSIONS.name, seq=seq, subject=subjects.events_of(session_id))
    left = (await jetstream.stream_info(SESSIONS.name)).state
    return state.messages - left.messages + (left.last_seq - state.last_seq)


async def purge_moved(jetstream: JetStreamContext, consumer: Consumer, *, before: datetime, up_to: int | None = None) -> None:
    """Drop from this consumer's stream what it has acknowledged and what was written before `before`; the last message stays.

    What lies after place `up_to`, if it is given, stays too.
    """
    info = await jetstream.consumer_info(consumer.stream, consumer.durable)
    state = (await jetstream.stream_info(consumer.stream)).state
    floor = info.ack_floor.stream_seq if info.ack_floor else 0
    if up_to is not None:
        floor = min(floor, up_to)
    first_kept = await _first_since(jetstream, consumer, before, state.first_seq, min(floor + 1, state.last_seq))
    if first_kept > state.first_seq:
        await jetstream.purge_stream(consumer.stream, seq=first_kept)


async def _anchored_access(jetstream: JetStreamContext) -> int:
    anchor = await newest_anchor(jetstream, OF_ACCESS)
    return anchor.last_stream_seq if anchor else 0


async def _first_since(jetstream: JetStreamContext, consumer: Consumer, before: datetime, low: int, high: int) -> int:
    """The first stream sequence in `low` … `high` whose message was stored at `before` or later, by bisection; else `high`."""
    while low < high:
        middle = (low + high) // 2
        try:
            message = await jetstream.get_msg(consumer.stream, seq=middle, subject=consumer.filter_subject, direct=True, next=True)
        except NotFoundError:
            high = middle
            continue
        if message.time is not None and message.time < before:
            low = middle + 1
        else:
            high = middle
    return high


async def _newest_of_unended(jetstream: JetStreamContext) -> dict[str, int]:
    """Where in the stream the newest event of each session lies that has a command still: it waits, or it runs."""
    found: dict[str, int] = {}
    next_seq = 1
    while True:
        try:
            command = await jetstream.get_msg(COMMANDS.name, seq=next_seq, subject=subjects.OPEN_SESSION, next=True)
        except NotFoundError:
            return found
        assert command.seq is not None, "JetStream numbers its messages"
        next_seq = command.seq + 1
        try:
            session_id = _decoder.decode(command.data or b"").session_id
            newest = await jetstream.get_msg(SESSIONS.name, subject=subjects.events_of(session_id))
        except (msgspec.MsgspecError, NotFoundError):
            continue  # no command; or nothing is recorded of it yet
        assert newest.seq is not None, "JetStream numbers its messages"
        found[session_id] = newest.seq


async def _sessions(jetstream: JetStreamContext) -> set[str]:
    """The sessions that the stream has events of; what stands on no session's subject is left alone."""
    info = await jetstream.stream_info(SESSIONS.name, subjects_filter=subjects.ALL_EVENTS)
    found = set()
    for subject in info.state.subjects or {}:
        try:
            found.add(subjects.session_of(subject))
        except subjects.UnsafeTokenError:
            log.warning("stream %s has messages on a subject that is no session's", SESSIONS.name)
    return found
