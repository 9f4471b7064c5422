"""Anchors: at intervals, one signed Merkle root over what a stream had since the anchor before; and their own chain.

There are two chains of them. The leaves of an `Anchor` are the sessions of which events lie between two places of stream
SESSIONS, each with its highest number there and the chain of that event; those of an `AccessAnchor` are the entries that lie
between two places of stream ACCESS. An anchor is one MessagePack message of its chain's stream and one row in ClickHouse. The
tree is that of RFC 6962, section 2.1, with SHA-256: a leaf is hashed after a zero byte, a node after a one byte, so that
neither can be taken for the other.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from contracts.access import AccessId
from contracts.ids import OrgId, SessionId

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


class AccessLeaf(Struct, frozen=True, array_like=True):
    """An access entry: its place in stream ACCESS, when it was made (microseconds, UTC), and `contracts.access.digest` of it."""

    org_id: OrgId
    id: AccessId
    stream_seq: int
    at: int
    digest: bytes

    def hash(self) -> bytes:
        """SHA-256 of a zero byte and this leaf's MessagePack array."""
        return sha256(b"\x00" + _packer.encode(self)).digest()


class Sealed[L: (Leaf, AccessLeaf)](Struct, frozen=True, array_like=True):
    """One anchor. `first_stream_seq` to `last_stream_seq` is the part of the stream that it is over; `at`: microseconds, UTC.

    `previous` is `hash()` of anchor `number - 1` of the same chain. `key_id` and `signature` are empty where `audit` has no key.
    """

    context: ClassVar[bytes]
    """With this begins what is signed, so that it is a statement about nothing else."""

    number: int
    at: int
    first_stream_seq: int
    last_stream_seq: int
    leaves: tuple[L, ...]
    root: bytes
    previous: bytes
    key_id: str = ""
    signature: bytes = b""

    def statement(self) -> bytes:
        """What the signature is of. It has the leaves by their number and their root."""
        first, last, leaves = self.first_stream_seq, self.last_stream_seq, len(self.leaves)
        return self.context + _packer.encode((self.number, self.at, first, last, leaves, self.root, self.previous, self.key_id))

    def hash(self) -> bytes:
        """By which the next anchor names this one: SHA-256 of `statement()`."""
        return sha256(self.statement()).digest()


class Anchor(Sealed[Leaf], frozen=True, array_like=True):
    """Over sessions, in the order of `session_id`; in stream ANCHORS."""

    context: ClassVar[bytes] = b"vsay anchor 1\n"


class AccessAnchor(Sealed[AccessLeaf], frozen=True, array_like=True):
    """Over access entries, in the order of `stream_seq`; in stream ACCESS_ANCHORS."""

    context: ClassVar[bytes] = b"vsay access anchor 1\n"


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


def encode(anchor: Anchor | AccessAnchor) -> bytes:
    """Its bytes on the bus."""
    return _packer.encode(anchor)


_decoder = msgspec.msgpack.Decoder(Anchor)
_access_decoder = msgspec.msgpack.Decoder(AccessAnchor)


def decode(payload: bytes) -> Anchor:
    """The anchor in `payload`. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(payload)


def decode_access(payload: bytes) -> AccessAnchor:
    """The anchor over access entries in `payload`. Raises `msgspec.MsgspecError`."""
    return _access_decoder.decode(payload)
