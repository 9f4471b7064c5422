"""The two chains of anchors, and the newest of each, as its stream has it."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts import anchors
from contracts.anchors import AccessAnchor, Anchor
from contracts.streams import AUDIT_ACCESS_ANCHORS, AUDIT_ANCHORS, Consumer


class Series[A: (Anchor, AccessAnchor)](Struct, frozen=True):
    """One chain: the consumer of its stream, of which the subject is the filter, and what its messages are."""

    consumer: Consumer
    decode: Callable[[bytes], A]


OF_SESSIONS: Final = Series(AUDIT_ANCHORS, anchors.decode)
OF_ACCESS: Final = Series(AUDIT_ACCESS_ANCHORS, anchors.decode_access)


async def newest_anchor[A: (Anchor, AccessAnchor)](jetstream: JetStreamContext, series: Series[A]) -> A | None:
    """None when there is none yet. Raises `nats.errors.Error`; what is no anchor counts as none."""
    try:
        message = await jetstream.get_msg(series.consumer.stream, subject=series.consumer.filter_subject)
        return series.decode(message.data or b"")
    except (NotFoundError, msgspec.MsgspecError):
        return None


async def newest_stored_anchor[A: (Anchor, AccessAnchor)](jetstream: JetStreamContext, series: Series[A]) -> A | None:
    """The newest anchor, if ClickHouse must have it; None when there is none, or one is on its way."""
    newest = await newest_anchor(jetstream, series)
    consumer = await jetstream.consumer_info(series.consumer.stream, series.consumer.durable)
    return None if consumer.num_pending or consumer.num_ack_pending else newest
