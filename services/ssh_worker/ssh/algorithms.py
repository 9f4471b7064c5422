"""What is spoken with machines: modern algorithms, and old ones with a machine that lists them."""

from collections.abc import Iterable
from typing import Final

import asyncssh
from msgspec import Struct

from contracts.directory import LegacyAlgorithm, Machine

KEY_EXCHANGES: Final = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
)
"""Modern ones, the quick one first: OpenSSH's post-quantum exchange costs about 90 ms of CPU an open on both sides."""

CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)

MACS: Final = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)

SIGNATURES: Final = (
    "ssh-ed25519",
    "ssh-ed448",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)
"""With which a machine and we prove who we are: RSA with SHA-2 only."""

_KINDS: Final = {"KEX": "key_exchanges", "CIPHER": "ciphers", "MAC": "macs", "SIGNATURE": "signatures"}


class Algorithms(Struct, frozen=True):
    """By kind, the preferred ones first."""

    key_exchanges: tuple[str, ...] = KEY_EXCHANGES
    ciphers: tuple[str, ...] = CIPHERS
    macs: tuple[str, ...] = MACS
    signatures: tuple[str, ...] = SIGNATURES


def spoken_with(machine: Machine) -> Algorithms:
    """The modern ones, then what the machine lists."""
    listed: dict[str, tuple[str, ...]] = dict.fromkeys(_KINDS.values(), ())
    for algorithm in machine.legacy_algorithms:
        listed[kind_of(algorithm)] += (algorithm.value,)
    return Algorithms(
        key_exchanges=KEY_EXCHANGES + listed["key_exchanges"],
        ciphers=CIPHERS + listed["ciphers"],
        macs=MACS + listed["macs"],
        signatures=SIGNATURES + listed["signatures"],
    )


def kind_of(algorithm: LegacyAlgorithm) -> str:
    """The field of `Algorithms` that it belongs in."""
    return _KINDS[algorithm.name.partition("_")[0]]


def of_host_keys(keys: Iterable[asyncssh.SSHKey], algorithms: Algorithms) -> list[str]:
    """The host key algorithms that can be verified with these keys: what else a server may offer is of no use."""
    offered = dict.fromkeys(algorithm.decode() for key in keys for algorithm in key.sig_algorithms)
    return [algorithm for algorithm in offered if algorithm in algorithms.signatures]
