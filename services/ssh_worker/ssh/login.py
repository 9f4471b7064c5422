"""How we prove to a machine who we are: by certificate, key, password, or the password at a prompt of the machine's."""

from collections.abc import Callable, Sequence

import asyncssh
from msgspec import Struct

from contracts.directory import Machine
from services.ssh_worker.credentials import Credential
from services.ssh_worker.ssh import certificates

type KeyPairs = list[asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]]


class UnusableCredentialError(Exception):
    """The credential's key cannot be read as one."""


class Identity(Struct, frozen=True):
    """What is shown to one machine."""

    key_pairs: KeyPairs
    password: str | None

    def __repr__(self) -> str:
        """Says what there is, never what it is."""
        return f"Identity(key_pairs={len(self.key_pairs)}, password={self.password is not None})"


def identity(machine: Machine, credential: Credential, key_id: str, *, is_jump: bool) -> Identity:
    """A certificate if there is an authority to sign it, then the key. Raises `UnusableCredentialError`."""
    try:
        pairs: KeyPairs = []
        if credential.authority:
            authority = asyncssh.import_private_key(credential.authority)
            pairs.append(certificates.issue(authority, machine.principals or (machine.login,), key_id, is_jump=is_jump))
        if credential.private_key:
            pairs.append(asyncssh.import_private_key(credential.private_key))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise UnusableCredentialError("the credential is not a usable key") from error
    return Identity(pairs, credential.password)


class Login(asyncssh.SSHClient):
    """Answers a machine's questions; each proof is given once. `method` is the last one that was tried."""

    def __init__(self, identity: Identity, begun: Callable[[], None]) -> None:
        """`begun` is called when the handshake is over and the login begins."""
        self._identity = identity
        self._begun = begun
        self._gave_keys = self._gave_password = self._answered = False
        self.method = "none"

    def public_key_auth_requested(self) -> KeyPairs | None:
        """The machine takes keys."""
        self._begun()
        if self._gave_keys or not self._identity.key_pairs:
            return None
        self._gave_keys = True
        self.method = "certificate" if isinstance(self._identity.key_pairs[0], tuple) else "publickey"
        return list(self._identity.key_pairs)

    def password_auth_requested(self) -> str | None:
        """The machine takes a password."""
        self._begun()
        if self._gave_password or self._identity.password is None:
            return None
        self._gave_password, self.method = True, "password"
        return self._identity.password

    def kbdint_auth_requested(self) -> str | None:
        """The machine would ask questions."""
        self._begun()
        if self._answered or self._identity.password is None:
            return None
        self.method = "keyboard-interactive"
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """The password answers one question whose answer is not shown; to any other there is no answer."""
        if not prompts:
            return []
        if len(prompts) > 1 or prompts[0][1] or self._answered or self._identity.password is None:
            return None
        self._answered = True
        return [self._identity.password]

    def auth_completed(self) -> None:
        """We are in."""
        self._begun()
