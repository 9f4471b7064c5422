"""A TCP proxy on 127.0.0.1 that can stand still, cut, or lie, and be far away: networks and machines that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 64 * 1024
CHUNKS_UNDER_WAY_MAX = 64


class Proxy:
    """Passes bytes on between whoever connects and one target, until it is told otherwise."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", *, way_seconds: float = 0) -> None:
        """What passes takes `way_seconds`, in either direction, however much it is."""
        self._target = (target_host, target_port)
        self._way_seconds = way_seconds
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
        ways: list[asyncio.Task[None]] = []
        try:
            await self._flows.wait()
            back, there = await asyncio.open_connection(*self._target)
            ways = [asyncio.create_task(self._pass(reader, there)), asyncio.create_task(self._pass(back, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # one side has gone, or the test is over
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._clients.discard(writer)
            for end in (writer, there):
                if end:
                    end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY_MAX)
        arriving = asyncio.create_task(self._arrive(under_way, writer))
        try:
            while True:
                await self._flows.wait()
                data = await reader.read(CHUNK_BYTES)
                await under_way.put((asyncio.get_running_loop().time() + self._way_seconds, data))
                if not data:
                    return await arriving
        finally:
            arriving.cancel()

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            at, data = await under_way.get()
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            await self._flows.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy_to(port: int, *, way_seconds: float = 0) -> AsyncIterator[Proxy]:
    """A proxy to a port of 127.0.0.1."""
    proxy = Proxy(port, way_seconds=way_seconds)
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
