"""A machine that does not read what we send is not read either, so that nothing piles up here, whatever it sends.

asyncssh 2.24 ignores its transport's wish to pause: a machine that asks without end, and never reads an answer, fills our memory
with answers. Keepalives find out about a machine that stays like this.
"""

import asyncio
import os
import socket
from typing import Final

import asyncssh

SEND_BUFFER_BYTES: Final = 128 * 1024
"""Of the kernel, for what a machine does not read: with megabytes of it, answers would keep the worker busy for many seconds."""


class Pacing:
    """Of one connection."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        """From now on; the transport calls these two of the connection."""
        self._transport = connection._transport  # noqa: SLF001  # there is no public way to it
        self._writable = asyncio.Event()
        self._writable.set()
        if (connected := connection.get_extra_info("socket")) is not None:
            with socket.socket(fileno=os.dup(connected.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        for name in ("pause_writing", "resume_writing"):
            setattr(connection, name, getattr(self, name))

    def pause_writing(self) -> None:
        """More is waiting to be sent than the transport likes."""
        self._writable.clear()
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The machine reads again."""
        self._writable.set()
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    async def writable(self) -> None:
        """Returns when there is room to send."""
        await self._writable.wait()
