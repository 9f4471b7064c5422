"""Chooses the ports once, so that a process that is started again comes back where it was."""

import secrets
import socket
from typing import Final

FIRST: Final = 20_000
COUNT: Final = 12_000
"""Free ports are taken from below those that the kernel gives to outgoing connections (32768 on, by default)."""

ATTEMPTS_MAX: Final = 1000


class PortTakenError(Exception):
    """Something else listens on the port that was asked for."""


def choose(host: str, wanted: int, variable: str) -> int:
    """`wanted` if it is free, for 0 any free one. Raises `PortTakenError`, which names the variable to change."""
    if wanted:
        if not _is_free(host, wanted):
            raise PortTakenError(f"port {wanted} on {host} is taken: choose another with {variable}, 0 for any free one")
        return wanted
    for _ in range(ATTEMPTS_MAX):
        port = FIRST + secrets.randbelow(COUNT)
        if _is_free(host, port):
            return port
    raise PortTakenError(f"no free port on {host} between {FIRST} and {FIRST + COUNT}")


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True
