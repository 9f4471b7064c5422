"""User certificates that live for minutes (OpenSSH's PROTOCOL.certkeys): one for each login, with a key of its own."""

import time
from typing import Final

import asyncssh

VALID_SECONDS: Final = 300
"""A login is over before; sshd looks at the certificate only while it logs in."""

SKEW_SECONDS: Final = 60
"""How far a machine's clock may be behind ours."""


def issue(
    authority: asyncssh.SSHKey, principals: tuple[str, ...], key_id: str, *, is_jump: bool
) -> tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]:
    """A new key and its certificate. It permits a pty, or for a jump host to reach the next one, and nothing else.

    `key_id` is what sshd writes into its own log.
    """
    key = asyncssh.generate_private_key("ssh-ed25519")
    now = int(time.time())
    certificate = authority.generate_user_certificate(
        key,
        key_id,
        principals=list(principals),
        valid_after=now - SKEW_SECONDS,
        valid_before=now + VALID_SECONDS,
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_port_forwarding=is_jump,
        permit_pty=not is_jump,
        permit_user_rc=not is_jump,
    )
    return key, certificate
