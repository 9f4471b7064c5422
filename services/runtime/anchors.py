"""The newest anchor, as stream ANCHORS has it."""

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts import anchors, subjects
from contracts.anchors import Anchor
from contracts.streams import ANCHORS


async def newest_anchor(jetstream: JetStreamContext) -> Anchor | None:
    """None when there is none yet. Raises `nats.errors.Error`; what is no anchor counts as none."""
    try:
        message = await jetstream.get_msg(ANCHORS.name, subject=subjects.ANCHORS)
        return anchors.decode(message.data or b"")
    except (NotFoundError, msgspec.MsgspecError):
        return None
