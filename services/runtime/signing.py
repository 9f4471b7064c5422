"""Keys that sign the record: Ed25519 private keys in the directory of secrets, public ones in bucket `signing_keys`.

A private key is a PEM file (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it too), `NAME.signing.pem`. No
credential of a machine can have such a name, so that no directory entry makes a worker log in somewhere with it. It is
read at each use: a rotated key needs no restart.
"""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.errors import KeyWrongLastSequenceError

from contracts import keys
from contracts.keys import PublicKey
from contracts.proof import Verdict
from contracts.streams import SIGNING_KEYS
from services.runtime import buckets, bus

log = logging.getLogger(__name__)

SUFFIX: Final = ".signing.pem"
DEFAULT_NAME: Final = "signing"


class SigningKeyError(Exception):
    """There is no usable signing key of this name; the message says what is wrong, never the key."""


class Signer(Struct, frozen=True):
    """A private key in use."""

    public_key: bytes
    sign: Callable[[bytes], bytes]

    @property
    def key_id(self) -> str:
        """Its id, from the public key."""
        return keys.id_of(self.public_key)


class PublicKeys:
    """The public keys that a verifier believes in."""

    def __init__(self, known: list[PublicKey]) -> None:
        """A key under an id that is not its own is left out."""
        self._known = {key.id: Ed25519PublicKey.from_public_bytes(key.public_key) for key in known if _is_own_id(key)}
        self.since: datetime | None = min((key.created_at for key in known), default=None)

    @classmethod
    async def load(cls, jetstream: JetStreamContext) -> Self:
        """Those in the bucket. Raises `nats.errors.Error`, `SigningKeyError`."""
        return cls(await registered(jetstream))

    def verdict(self, key_id: str, statement: bytes, signature: bytes) -> Verdict:
        """Whether this key signed exactly this."""
        key = self._known.get(key_id)
        if key is None:
            return Verdict.UNKNOWN_KEY
        try:
            key.verify(signature, statement)
        except InvalidSignature:
            return Verdict.BAD
        return Verdict.GOOD


def read(secrets_dir: Path, name: str) -> Signer:
    """The signing key `name`. Raises `SigningKeyError`."""
    path = secrets_dir / f"{name}{SUFFIX}"
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SigningKeyError(f"signing key {path.name!r} cannot be read: {type(error).__name__}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(f"signing key {path.name!r} is no private key in PEM without a password") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningKeyError(f"signing key {path.name!r} is no Ed25519 key")
    return _signer(private)


def read_or_none(secrets_dir: Path, name: str) -> Signer | None:
    """The key to sign with now, or None: what has happened is recorded even when the key that there should be is not to be had."""
    if not name:
        return None
    try:
        return read(secrets_dir, name)
    except SigningKeyError as error:
        log.error("the record is not signed: %s", error)
        return None


def names(secrets_dir: Path) -> list[str]:
    """The names of the signing keys in this directory."""
    return sorted(path.name.removesuffix(SUFFIX) for path in secrets_dir.glob(f"*{SUFFIX}"))


async def create(jetstream: JetStreamContext, secrets_dir: Path, name: str, *, rotate: bool = False) -> Signer:
    """Make a new key `name`, its public half registered before anything is signed with it.

    With `rotate` it takes the place of the one that is there, whose public half stays registered. Raises
    `SigningKeyError` when there is one, or with `rotate` none, and when it cannot be written.
    """
    path = secrets_dir / f"{name}{SUFFIX}"
    if path.exists() != rotate:
        raise SigningKeyError(f"there is {'no' if rotate else 'already a'} signing key {path.name!r} in {secrets_dir}")
    private = Ed25519PrivateKey.generate()
    signer = _signer(private)
    await register(jetstream, signer)
    try:
        _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from error
    return signer


async def register(jetstream: JetStreamContext, signer: Signer) -> None:
    """See that verifiers find the public key. Raises `nats.errors.Error`."""
    await register_public(jetstream, PublicKey(signer.key_id, signer.public_key, datetime.now(UTC)))


async def register_public(jetstream: JetStreamContext, key: PublicKey) -> bool:
    """The same of a public key alone; False when it was known already, as of whatever time. Raises `nats.errors.Error`."""
    try:
        await (await bus.bucket(jetstream, SIGNING_KEYS)).create(key.id, msgspec.json.encode(key))
    except KeyWrongLastSequenceError:
        return False
    log.info("signing key %s is registered", key.id)
    return True


async def registered(jetstream: JetStreamContext) -> list[PublicKey]:
    """The public keys in the bucket, oldest first. Raises `nats.errors.Error`, `SigningKeyError`."""
    try:
        found = [_public_key.decode(value) for value in (await buckets.values(jetstream, SIGNING_KEYS)).values()]
    except msgspec.MsgspecError as error:
        raise SigningKeyError(f"bucket {SIGNING_KEYS.name} has a value that is no public key: {error}") from error
    return sorted(found, key=lambda key: (key.created_at, key.id))


_public_key = msgspec.json.Decoder(PublicKey)


def _is_own_id(key: PublicKey) -> bool:
    return key.id == keys.id_of(key.public_key)


def _signer(private: Ed25519PrivateKey) -> Signer:
    return Signer(private.public_key().public_bytes_raw(), private.sign)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
