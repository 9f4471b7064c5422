"""Puts into stream ACCESS who reads which records, before anything is read: the one way there, for the API and for `vsay`.

And reads what is there, for those who move, anchor and verify it: they must be of one mind about what is an entry.
"""

import logging
from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Final

import msgspec
from msgspec import Struct
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from contracts import access, subjects
from contracts.access import Access, Action, Reader
from contracts.streams import ACCESS
from contracts.wire import UndecodableError
from services.runtime.clickhouse import AT_MAX

log = logging.getLogger(__name__)

PUBLISH_SECONDS: Final = 5.0
FETCH_ENTRIES: Final = 256
FETCH_SECONDS: Final = 5.0
READER_SECONDS: Final = 30.0
"""A reader that has not fetched for this long is forgotten by the server."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AccessEntry(Struct, frozen=True):
    """An entry, and its place in stream ACCESS."""

    access: Access
    stream_seq: int

    def digest(self) -> bytes:
        """See `contracts.access.digest`."""
        return access.digest(self.stream_seq, self.access.at, self.access.texts())


async def record(
    jetstream: JetStreamContext,
    *,
    org_id: str,
    user: Reader,
    role: str,
    action: Action,
    session_id: str,
    detail: str,
    ip_address: str,
    user_agent: str,
) -> None:
    """Store that these records are read now. Raises `nats.errors.Error` when it cannot be stored: then nothing may be read."""
    entry = Access(
        id=f"acc_{token_urlsafe(15)}",
        at=(datetime.now(UTC) - EPOCH) // timedelta(microseconds=1),
        org_id=org_id,
        user=user,
        role=role,
        action=action.value,
        session_id=session_id,
        detail=detail,
        ip_address=ip_address,
        user_agent=user_agent,
    )
    await jetstream.publish(
        subjects.access(org_id),
        access.encode(entry),
        timeout=PUBLISH_SECONDS,
        stream=ACCESS.name,
        headers={"Nats-Msg-Id": entry.id},
    )


def read(subject: str, payload: bytes) -> Access:
    """The entry in a message, within what ClickHouse can hold. Raises `UndecodableError`: such a message is set aside."""
    try:
        entry = access.decode(payload)
        if subjects.access(entry.org_id) != subject:
            raise UndecodableError("the entry is of another organization than the subject")
    except subjects.UnsafeTokenError as error:
        raise UndecodableError(str(error)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UndecodableError(f"no access entry: {error}") from error
    if not 0 <= entry.at <= AT_MAX:
        raise UndecodableError(f"at {entry.at} is out of range")
    return entry


async def entry_at(jetstream: JetStreamContext, stream_seq: int) -> AccessEntry | None:
    """What stream ACCESS has in this place; None when that is no entry, or nothing any more. Raises `nats.errors.Error`."""
    try:
        message = await jetstream.get_msg(ACCESS.name, seq=stream_seq, direct=True)
        return AccessEntry(read(message.subject or "", message.data or b""), stream_seq)
    except (NotFoundError, UndecodableError):
        return None


async def entries(jetstream: JetStreamContext, first: int, last: int, limit: int) -> list[AccessEntry]:
    """The entries that stream ACCESS has from one place to another, in order; the first `limit` of them.

    Raises `nats.errors.Error`.
    """
    reader = await jetstream.add_consumer(
        ACCESS.name,
        ConsumerConfig(
            filter_subject=subjects.ALL_ACCESS,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=READER_SECONDS,
            mem_storage=True,
            num_replicas=1,
        ),
    )
    subscription = await jetstream.pull_subscribe_bind(consumer=reader.name, stream=ACCESS.name)
    found: list[AccessEntry] = []
    left = reader.num_pending
    try:
        while left:
            for message in await subscription.fetch(FETCH_ENTRIES, timeout=FETCH_SECONDS):
                stream_seq, left = message.metadata.sequence.stream, message.metadata.num_pending
                if stream_seq > last or len(found) == limit:
                    return found
                try:
                    found.append(AccessEntry(read(message.subject, message.data), stream_seq))
                except UndecodableError:
                    pass  # `audit` has set it aside
        return found
    finally:
        await subscription.unsubscribe()
        await _forget(jetstream, reader.name)


async def _forget(jetstream: JetStreamContext, reader: str) -> None:
    try:
        await jetstream.delete_consumer(ACCESS.name, reader)
    except (NatsError, TimeoutError):
        log.debug("reader %s goes by itself after %.0f s", reader, READER_SECONDS)
