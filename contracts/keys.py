"""Public signing keys, as they lie in bucket `signing_keys` (JSON, under their id) and as `vsay keys export` prints them."""

from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from contracts.ids import Utc

KEY_ID_PATTERN: Final = r"^key_[0-9a-f]{32}$"
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

KeyId = Annotated[str, Meta(pattern=KEY_ID_PATTERN)]


class PublicKey(Struct, frozen=True):
    """An Ed25519 public key (RFC 8032), 32 bytes, as base64 in JSON. Its `id` follows from it; see `id_of`."""

    id: KeyId
    public_key: Annotated[bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
    created_at: Utc


def id_of(public_key: bytes) -> str:
    """`key_` and the first 32 hex digits of the SHA-256 of the 32 bytes: no other key can be given the same id."""
    return f"key_{sha256(public_key).hexdigest()[:32]}"


def encode(keys: list[PublicKey]) -> bytes:
    """For export: a JSON array."""
    return msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n"


_decoder = msgspec.json.Decoder(list[PublicKey])


def decode(payload: bytes) -> list[PublicKey]:
    """What `encode` wrote. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(payload)
