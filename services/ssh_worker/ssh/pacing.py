"""A machine that does not read what we send is not read either, so that nothing piles up here, whatever it sends.

asyncssh 2.24 ignores its transport's wish to pause: a machine that asks without end, and never reads an answer, fills our memory
with answers. Keepalives find out about a machine that stays like this.
"""

import asyncio

import asyncssh


class Pacing:
    """Of one connection."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        """From now on; the transport calls these two of the connection."""
        self._transport = connection._transport  # noqa: SLF001  # there is no public way to it
        self._writable = asyncio.Event()
        self._writable.set()
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
