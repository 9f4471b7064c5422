"""The worker's secrets directory: `NAME` a private key, `NAME.password` a password, `NAME.ca` an SSH CA's private key.

Keys are in OpenSSH's format. With a CA key, the worker signs itself a certificate for each login.

Read at each use, so that a rotated secret needs no restart. Nothing here ever puts a secret into an error or a log.
"""

from pathlib import Path

from msgspec import Struct


class CredentialError(Exception):
    """There is no usable credential of this name."""


class Credential(Struct, frozen=True):
    """What a machine's login is proved with: a certificate that `authority` signs, a private key, a password. Keys are PEM."""

    private_key: str | None = None
    password: str | None = None
    authority: str | None = None

    def __repr__(self) -> str:
        """Says what there is, never what it is."""
        there = {name: getattr(self, name) is not None for name in self.__struct_fields__}
        return f"Credential({there})"


def read(secrets_dir: Path, name: str) -> Credential:
    """The credential `name`, which must have been decoded as `contracts.ids.Name`. Raises `CredentialError`."""
    private_key = _text(secrets_dir / name)
    password = _text(secrets_dir / f"{name}.password")
    authority = _text(secrets_dir / f"{name}.ca")
    if private_key is None and password is None and authority is None:
        raise CredentialError(f"the worker has no credential {name!r}")
    return Credential(private_key, password.rstrip("\r\n") if password is not None else None, authority)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise CredentialError(f"credential file {path.name!r} cannot be read: {type(error).__name__}") from error
