"""The envelope: how one event lies in JetStream and, field for field, in ClickHouse; and the chain over them.

`chain` of event n is BLAKE2b with a 16-byte digest (RFC 7693) over `chain` of event n-1 (16 zero bytes before the
first) followed by the canonical encoding of event n: the MessagePack array
`[org_id, session_id, seq, at, type, attrs, data]` with `at` in microseconds since the Unix epoch, UTC, and `attrs` and
`data` as `bin`. Both are kept exactly as written, so an event of a type that a reader does not know verifies all the same.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, Self

import msgspec
from msgspec import Struct

from contracts.events import AnyEvent, Event
from contracts.ids import OrgId, SessionId

CHAIN_BYTES: Final = 16
GENESIS: Final = bytes(CHAIN_BYTES)

END_CONTEXT: Final = b"vsay session end 1\n"
"""With this begins what is signed at the end of a session, so that it is a statement about nothing else."""

DATA_BYTES_MAX: Final = 256 * 1024
"""Of one event's `data`; a worker's output frames are far smaller."""

_packer = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class UndecodableError(ValueError):
    """These bytes are not an envelope, or its `attrs` are not an event that this version knows."""


class Recorded(Struct, frozen=True, array_like=True):
    """One recorded event. On the wire it is MessagePack, an array in the order of these fields."""

    org_id: OrgId
    session_id: SessionId
    seq: int
    at: int
    type: str
    attrs: bytes
    data: bytes
    chain: bytes

    @classmethod
    def seal(
        cls,
        previous_chain: bytes,
        *,
        org_id: str,
        session_id: str,
        seq: int,
        at: int,
        event: Event,
        data: bytes = b"",
        sign: Callable[[bytes], bytes] | None = None,
    ) -> Self:
        """The envelope of `event` as number `seq`, chained to its predecessor. `at`: microseconds since the epoch, UTC.

        With `sign`, `data` is its signature of `statement(…)`.
        """
        type_ = str(event.__struct_config__.tag)
        attrs = _json.encode(event)
        if sign is not None:
            data = sign(_statement(previous_chain, (org_id, session_id, seq, at, type_, attrs)))
        chain = _link(previous_chain, (org_id, session_id, seq, at, type_, attrs, data))
        return cls(org_id, session_id, seq, at, type_, attrs, data, chain)

    def follows(self, previous_chain: bytes) -> bool:
        """Whether this event, as it is, continues a record whose chain stood at `previous_chain`."""
        return self.chain == self.link(previous_chain)

    def link(self, previous_chain: bytes) -> bytes:
        """The chain that this event must carry where the record before it stands at `previous_chain`."""
        return _link(previous_chain, (self.org_id, self.session_id, self.seq, self.at, self.type, self.attrs, self.data))

    def statement(self, previous_chain: bytes) -> bytes:
        """What the signature of this event, if it is an end, is of: the whole session, by the chain before it, and its end."""
        return _statement(previous_chain, (self.org_id, self.session_id, self.seq, self.at, self.type, self.attrs))

    def event(self) -> AnyEvent:
        """The typed event. Raises `UndecodableError` for a type of a later version."""
        try:
            return _event_decoder.decode(self.attrs)
        except msgspec.MsgspecError as error:
            raise UndecodableError(f"no event of this version: {error}") from error


_decoder: msgspec.msgpack.Decoder[Recorded] = msgspec.msgpack.Decoder(Recorded)


def encode(recorded: Recorded) -> bytes:
    """The envelope's bytes on the bus."""
    return _packer.encode(recorded)


def decode(payload: bytes) -> Recorded:
    """The envelope in `payload`. Raises `UndecodableError`."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # text that is no UTF-8 comes as the latter
        raise UndecodableError(f"no envelope: {error}") from error


def _link(previous_chain: bytes, fields: tuple[str, str, int, int, str, bytes, bytes]) -> bytes:
    digest = blake2b(previous_chain, digest_size=CHAIN_BYTES)
    digest.update(_packer.encode(fields))
    return digest.digest()


def _statement(previous_chain: bytes, fields: tuple[str, str, int, int, str, bytes]) -> bytes:
    return END_CONTEXT + previous_chain + _packer.encode(fields)
