"""One terminal by each way: `send` keys, `read` what is shown."""

import asyncio
import json
import os
import pty
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncssh
from websockets.asyncio.client import ClientConnection, connect

from tests.integration.openssh import OpenSsh
from tests.integration.processes import Client


class Shell(Protocol):
    """A shell that is being driven."""

    async def send(self, keys: bytes) -> None: ...
    async def read(self) -> bytes: ...


class WebSocketShell:
    """Our WebSocket or the bare relay's, JSON or binary."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, keys: bytes) -> None:
        await self._socket.send(json.dumps({"type": "input", "data": keys.decode()}))

    async def read(self) -> bytes:
        while True:
            message = await self._socket.recv()
            if isinstance(message, bytes):
                return message
            decoded: dict[str, Any] = json.loads(message)
            if decoded["type"] == "output":
                return str(decoded["data"]).encode()


class SshShell:
    """asyncssh without a gateway."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    async def send(self, keys: bytes) -> None:
        self._process.stdin.write(keys)

    async def read(self) -> bytes:
        return await self._process.stdout.read(65536)


class PtyShell:
    """OpenSSH's client on a pty of ours."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._reader = asyncio.StreamReader(limit=1 << 20)

    async def open(self) -> asyncio.ReadTransport:
        loop = asyncio.get_running_loop()
        file = os.fdopen(os.dup(self._master), "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), file)
        return transport

    async def send(self, keys: bytes) -> None:
        os.write(self._master, keys)

    async def read(self) -> bytes:
        return await self._reader.read(65536)


@asynccontextmanager
async def ours(client: Client, *, binary: bool = False) -> AsyncIterator[Shell]:
    ticket = await client.open("mch_bench", cols=120, rows=40)
    protocols: Any = ["vsay.v1.binary"] if binary else None
    async with connect(ticket["websocket_url"], subprotocols=protocols, compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "auth", "token": ticket["token"]}))
        yield WebSocketShell(socket)
    # Unlike the others, a session goes on without its client, and a flood would be beside all that is measured next.
    await client.call("DELETE", f"/v1/sessions/{ticket['session_id']}")


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[Shell]:
    async with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
        yield WebSocketShell(socket)


@asynccontextmanager
async def direct(machine: OpenSsh) -> AsyncIterator[Shell]:
    async with (
        asyncssh.connect(
            "127.0.0.1",
            machine.port,
            known_hosts=None,
            client_keys=[str(machine.directory / "client_key")],
            config=None,
            agent_path=None,
            kex_algs=["curve25519-sha256"],
        ) as connection,
        connection.create_process(term_type="xterm", term_size=(120, 40), encoding=None) as process,
    ):
        yield SshShell(process)


@asynccontextmanager
async def openssh(machine: OpenSsh) -> AsyncIterator[Shell]:
    pid, master = pty.fork()
    if pid == 0:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-F", "none"]
        key = str(Path(machine.directory) / "client_key")
        os.execvp("ssh", ["ssh", *options, "-tt", "-i", key, "-p", str(machine.port), f"{machine.login}@127.0.0.1"])
    termios.tcsetwinsize(master, (40, 120))
    shell = PtyShell(master)
    transport = await shell.open()
    try:
        yield shell
    finally:
        transport.close()
        os.kill(pid, 9)
        os.close(master)
        os.waitpid(pid, 0)
