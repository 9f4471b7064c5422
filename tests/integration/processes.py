"""Our services as processes, started as a user starts them, and a client of them."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.containers import Image, share
from tests.integration.servers import Server

WAIT_SECONDS_MAX = 60.0

CLOSE_SECONDS = 0.5
"""For the goodbye of a WebSocket. When much is on its way that nobody reads any more, none comes back."""


class Service(Server):
    """`python -m services.<name>` with settings as environment variables."""

    def __init__(self, directory: Path, name: str, settings: Mapping[str, str]) -> None:
        super().__init__(directory)
        self._name = name
        self._settings = settings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", f"services.{self._name}"]

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("VSAY_")}
        return own | self._settings | {"VSAY_API_PORT": str(self.port)}

    def _image(self) -> Image:
        alone = {"VSAY_API_HOST": "127.0.0.1", "VSAY_HEALTH_PORT": "0"}  # not the ports that a container has to itself
        named = [Path(value) for value in self._settings.values() if value.startswith("/") and Path(value).exists()]
        for path in named:
            share(path)
        settings = alone | self._settings | {"VSAY_API_PORT": str(self.port)}
        return Image(part=self._name.upper(), environment=settings, reads=named)

    def _is_ready(self) -> bool:
        if self._name != "session_api":
            return "app started successfully" in self._new_log()
        if not (line := self._said()):
            return False
        self.port = int(json.loads(line)["api"].rpartition(":")[2])
        return True

    def start(self) -> None:
        self._log_before = len(self.log) if (self.directory / "log").exists() else 0
        super().start()

    def _new_log(self) -> str:
        return self.log[self._log_before :]


class Client:
    """Calls the API as one user."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded body."""
        return await asyncio.to_thread(self._call, method, path, body)

    async def data(self, method: str, path: str, body: object = None) -> Any:
        """`data` of a successful answer."""
        status, answer = await self.call(method, path, body)
        assert status in (200, 201), answer
        assert answer["success"] is True
        return answer["data"]

    async def open(self, machine_id: str, cols: int = 80, rows: int = 24) -> Any:
        """A new session's ticket."""
        return await self.data("POST", "/v1/sessions", {"machine_id": machine_id, "terminal_size": {"cols": cols, "rows": rows}})

    @asynccontextmanager
    async def terminal(self, ticket: Mapping[str, str], **auth: object) -> AsyncIterator["Terminal"]:
        """The session's WebSocket, authenticated."""
        url = f"{self.url.replace('http', 'ws', 1)}/v1/sessions/{ticket['session_id']}/ws"
        async with connect(url, max_size=None, compression=None, close_timeout=CLOSE_SECONDS) as socket:
            terminal = Terminal(socket)
            await terminal.send("auth", token=ticket["token"], **auth)
            yield terminal

    def _call(self, method: str, path: str, body: object) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())


class Terminal:
    """One WebSocket; keeps everything that came."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.output = ""
        self.seq = 0

    async def send(self, type_: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def type(self, text: str) -> None:
        await self.send("input", data=text)

    async def next(self) -> dict[str, Any]:
        """The next message."""
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                message: dict[str, Any] = json.loads(await self.socket.recv())
        except TimeoutError as error:
            raise AssertionError(f"nothing came for {WAIT_SECONDS_MAX:.0f} s; {self._before()}") from error
        except ConnectionClosed as closed:
            closed.add_note(self._before())
            raise
        self.messages.append(message)
        if message["type"] == "output":
            self.output += message["data"]
        self.seq = message.get("seq", self.seq)
        return message

    def _before(self) -> str:
        last = [f"{each['type']} {each.get('seq', '')} {str(each)[:200]}" for each in self.messages[-4:]]
        return f"{len(self.messages)} before, last {last}"

    async def until(self, type_: str) -> dict[str, Any]:
        """The next message of a type."""
        while True:
            message = await self.next()
            if message["type"] == type_:
                return message

    async def shows(self, text: str) -> None:
        """Returns once `text` was shown after what was already waited for."""
        while text not in self.output:
            await self.next()
        self.output = self.output.partition(text)[2]


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode()
