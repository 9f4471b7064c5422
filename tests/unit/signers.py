"""Two signing keys that are the same in every run, and what a verifier has of the first."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.keys import PublicKey
from services.runtime.signing import PublicKeys, Signer


def signer(seed: int) -> Signer:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return Signer(private.public_key().public_bytes_raw(), private.sign)


SIGNER = signer(1)
OTHER_SIGNER = signer(2)
PUBLIC_KEY = PublicKey(SIGNER.key_id, SIGNER.public_key, datetime(2024, 1, 1, tzinfo=UTC))
KEYS = PublicKeys([PUBLIC_KEY])
