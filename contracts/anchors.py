"""Anchors: at intervals, one signed Merkle root over where the chain of every session stood that had changed; and their own chain.

An anchor is one MessagePack message of stream ANCHORS and one row in ClickHouse. Its leaves are the sessions of which
events lie between two places of stream SESSIONS, each with its highest number there and the chain of that event. The tree
is that of RFC 6962, section 2.1, with SHA-256: a leaf is hashed after a zero byte, a node after a one byte, so that neither
can be taken for the other.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from contracts.ids import OrgId, SessionId

ANCHOR_CONTEXT: Final = b"vsay anchor 1\n"
"""With this begins what is signed of an anchor, so that it is a statement about nothing else."""

HASH_BYTES: Final = 32
GENESIS: Final = bytes(HASH_BYTES)
"""Stands for the anchor before the first."""

LEAVES_MAX: Final = 4000
"""Of one anchor; with the longest ids it still fits into a message. What is more goes into the next one."""

_packer = msgspec.msgpack.Encoder()


class Leaf(Struct, frozen=True, array_like=True):
    """Where a session's chain stood: the number and the chain of its newest event."""

    org_id: OrgId
    session_id: SessionId
    seq: int
    chain: bytes

    def hash(self) -> bytes:
        """SHA-256 of a zero byte and this leaf's MessagePack array."""
        return sha256(b"\x00" + _packer.encode(self)).digest()


class Anchor(Struct, frozen=True, array_like=True):
    """One anchor. `first_stream_seq` to `last_stream_seq` is the part of stream SESSIONS that it is over; `at`: microseconds, UTC.

    `previous` is `hash()` of anchor `number - 1`. `key_id` and `signature` are empty where `audit` has no key.
    """

    number: int
    at: int
    first_stream_seq: int
    last_stream_seq: int
    leaves: tuple[Leaf, ...]
    root: bytes
    previous: bytes
    key_id: str = ""
    signature: bytes = b""

    def statement(self) -> bytes:
        """What the signature is of. It has the leaves by their number and their root."""
        fields = (self.number, self.at, self.first_stream_seq, self.last_stream_seq, len(self.leaves), self.root, self.previous)
        return ANCHOR_CONTEXT + _packer.encode((*fields, self.key_id))

    def hash(self) -> bytes:
        """By which the next anchor names this one: SHA-256 of `statement()`."""
        return sha256(self.statement()).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash (RFC 6962, section 2.1) over these hashes of leaves; of none, SHA-256 of nothing."""
    if not leaves:
        return sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        # Pairs from the left, an odd one rises as it is: the same tree as splitting at the largest power of two below.
        above = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = above + level[len(above) * 2 :]
    return level[0]


_decoder = msgspec.msgpack.Decoder(Anchor)


def encode(anchor: Anchor) -> bytes:
    """Its bytes on the bus."""
    return _packer.encode(anchor)


def decode(payload: bytes) -> Anchor:
    """The anchor in `payload`. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(payload)
