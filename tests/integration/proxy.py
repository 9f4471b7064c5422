"""A TCP proxy on 127.0.0.1 that can stand still, cut, or lie: networks and machines that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 64 * 1024


class Proxy:
    """Passes bytes on between whoever connects and one target, until it is told otherwise."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.port = 0

    def freeze(self) -> None:
        """Nothing is read or passed on any more, in either direction, and new connections get no answer: a partition."""
        self._flows.clear()

    def thaw(self) -> None:
        """The partition heals: everything that was sent arrives."""
        self._flows.set()

    def inject(self, garbage: bytes) -> None:
        """Send every client something that the target did not."""
        for client in self._clients:
            client.write(garbage)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self._clients.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            await self._flows.wait()
            back, there = await asyncio.open_connection(*self._target)
            ways = [asyncio.create_task(self._pass(reader, there)), asyncio.create_task(self._pass(back, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # one side has gone, or the test is over
        finally:
            self._clients.discard(writer)
            for end in (writer, there):
                if end:
                    end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._flows.wait()
            data = await reader.read(CHUNK_BYTES)
            await self._flows.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of 127.0.0.1."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, limit=CHUNK_BYTES)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield proxy
        finally:
            server.close()
            for connection in list(proxy._connections):
                connection.cancel()
            await asyncio.gather(*proxy._connections, return_exceptions=True)
