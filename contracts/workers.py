"""The value of bucket `workers`: what one worker process says of itself, written by it alone every few seconds."""

import msgspec
from msgspec import Struct

from contracts.ids import Utc


class WorkerView(Struct, frozen=True):
    """One worker process. It ages out of the bucket when its process is gone without a word."""

    name: str
    places: int
    sessions: int
    draining: bool
    version: str
    started_at: Utc

    def encode(self) -> bytes:
        """As it lies in the bucket: JSON."""
        return msgspec.json.encode(self)


_decoder = msgspec.json.Decoder(WorkerView)


def decode(value: bytes) -> WorkerView:
    """The worker in a bucket's value. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(value)
