"""The worker's secrets directory: `NAME` a private key in OpenSSH's format, `NAME.password` a password.

Read at each use, so that a rotated secret needs no restart. Nothing here ever puts a secret into an error or a log.
"""

from pathlib import Path

from msgspec import Struct


class CredentialError(Exception):
    """There is no usable credential of this name."""


class Credential(Struct, frozen=True):
    """What a machine's login is proved with: a private key (PEM), a password, or both."""

    private_key: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Says what there is, never what it is."""
        return f"Credential(private_key={self.private_key is not None}, password={self.password is not None})"


def read(secrets_dir: Path, name: str) -> Credential:
    """The credential `name`, which must have been decoded as `contracts.ids.Name`. Raises `CredentialError`."""
    private_key = _text(secrets_dir / name)
    password = _text(secrets_dir / f"{name}.password")
    if private_key is None and password is None:
        raise CredentialError(f"the worker has no credential {name!r}")
    return Credential(private_key, password.rstrip("\r\n") if password is not None else None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise CredentialError(f"credential file {path.name!r} cannot be read: {type(error).__name__}") from error
