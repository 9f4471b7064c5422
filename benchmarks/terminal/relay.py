"""The floor: WebSocket, JSON and asyncssh on uvloop in one process, nothing recorded. Arguments: SSH port, key file."""

import asyncio
import json
import sys

import asyncssh
import uvloop
from websockets.asyncio.server import ServerConnection, serve


class Output(asyncssh.SSHClientSession[bytes]):
    """Hands the channel's bytes to a queue that the socket's writer empties."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._channel: asyncssh.SSHClientChannel[bytes]

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.pieces.put_nowait(data)
        if self.pieces.qsize() > 2:
            self._channel.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pieces.put_nowait(b"")

    def taken(self) -> None:
        self._channel.resume_reading()


async def relay(socket: ServerConnection, port: int, key: str) -> None:
    async with asyncssh.connect(
        "127.0.0.1", port, known_hosts=None, client_keys=[key], config=None, agent_path=None, kex_algs=["curve25519-sha256"]
    ) as connection:
        channel, output = await connection.create_session(
            Output, term_type="xterm", term_size=(120, 40), encoding=None, window=131072
        )

        async def show() -> None:
            while piece := await output.pieces.get():
                await socket.send(json.dumps({"type": "output", "data": piece.decode("utf-8", "replace")}))
                output.taken()
            await socket.close()

        showing = asyncio.create_task(show())
        async for message in socket:
            channel.write(json.loads(message)["data"].encode())
        showing.cancel()


async def main() -> None:
    port, key = int(sys.argv[1]), sys.argv[2]
    async with serve(lambda socket: relay(socket, port, key), "127.0.0.1", 0, compression=None) as server:
        print(json.dumps({"relay": server.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
