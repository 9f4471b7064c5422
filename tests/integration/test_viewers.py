"""Viewers of a session: their pace, their limits, and what the stream no longer holds. Everything through real processes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from contracts.events import EndReason, SessionEnded
from contracts.streams import SESSIONS
from services.audit.horizon import purge
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX, Client, Terminal

pytestmark = [needs_openssh, pytest.mark.timeout(300)]

IN_FLIGHT_BYTES_MAX = 256 * 1024
"""What may be on its way between the SSH channel and a driver that acknowledges nothing."""

FLOOD_BYTES = 20_000_000

QUIET_SECONDS = 2.0
"""Without a message for so long, none is on its way."""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        yield parts


@asynccontextmanager
async def watching(client: Client, ticket: dict[str, str], **auth: object) -> AsyncIterator[ClientConnection]:
    """A socket that reads only when the test does, authenticated."""
    url = f"{client.url.replace('http', 'ws', 1)}/v1/sessions/{ticket['session_id']}/ws"
    async with connect(url, max_queue=1, compression=None, ping_interval=None) as socket:
        await socket.send(json.dumps({"type": "auth", "token": ticket["token"], **auth}))
        yield socket


class Page:
    """A client that says what it has rendered."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._seq = 0
        self.shown = ""
        self.unacknowledged_bytes = 0

    async def type(self, text: str) -> None:
        await self._socket.send(json.dumps({"type": "input", "data": text}))

    async def acknowledge(self) -> None:
        self.unacknowledged_bytes = 0
        await self._socket.send(json.dumps({"type": "ack", "seq": self._seq}))

    async def read(self) -> bool:
        """Render the next message; False when none comes for a while."""
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                message = json.loads(await self._socket.recv())
        except TimeoutError:
            return False
        if message["type"] == "output":
            self._seq = message["seq"]
            self.shown += message["data"]
            self.unacknowledged_bytes += len(message["data"].encode())
        return True


async def next_of(socket: ClientConnection, type_: str) -> dict[str, Any]:
    """The next message of a type."""
    while True:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            message: dict[str, Any] = json.loads(await socket.recv())
        if message["type"] == type_:
            return message


async def test_a_page_that_renders_slowly_paces_the_machine_by_its_acknowledgements(installed: Installation) -> None:
    tokens = await installed.declare()
    installed.start("ssh_worker")
    client = installed.client(installed.start("session_api"), tokens["usr_123"])
    last = 200_000
    async with watching(client, await client.open("mch_456"), flow=True) as socket:
        page = Page(socket)
        await page.type(f"stty -echo; seq 1 {last}; echo fini''shed\n")
        while page.unacknowledged_bytes < IN_FLIGHT_BYTES_MAX // 4 or await page.read():
            await page.read()
        assert page.unacknowledged_bytes < IN_FLIGHT_BYTES_MAX, "the machine ran on without acknowledgements"
        while "finished" not in page.shown:
            if not await page.read() or page.unacknowledged_bytes > IN_FLIGHT_BYTES_MAX // 8:
                await page.acknowledge()
        assert "".join(f"{number}\r\n" for number in range(1, last + 1)) in page.shown


async def test_what_the_stream_has_dropped_is_resumed_from_clickhouse(installed: Installation) -> None:
    tokens = await installed.declare()
    installed.clickhouse()
    installed.start("audit")
    installed.start("ssh_worker")
    client = installed.client(installed.start("session_api"), tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type("stty -echo; PS1=; echo re''ady\n")
        await terminal.shows("ready")
        seq, seen = terminal.seq, len(terminal.messages)
        for number in range(5):
            await terminal.type(f"echo number {number}\n")
            await terminal.shows(f"number {number}")
        missed = output_of(terminal.messages[seen:])
    async with installed.jetstream() as jetstream:
        while await purge(jetstream, before=datetime.now(UTC) + timedelta(hours=1)) == 0 or await held(jetstream) > 1:
            await asyncio.sleep(0.1)
    async with client.terminal(ticket, resume_from=seq) as again:
        assert (await again.until("ready"))["resumed"]
        await again.shows("number 4")
        assert output_of(again.messages).startswith(missed)
        await again.type("exit\n")
        await again.until("disconnect")


def output_of(messages: list[dict[str, Any]]) -> str:
    return "".join(message["data"] for message in messages if message["type"] == "output")


async def held(jetstream: JetStreamContext) -> int:
    """How many events the stream holds."""
    return (await jetstream.stream_info(SESSIONS.name)).state.messages


async def test_an_observer_that_falls_behind_is_shown_the_present_screen(installed: Installation) -> None:
    tokens = await installed.declare()
    installed.start("ssh_worker")
    api = installed.start("session_api")
    driver, auditor = installed.client(api, tokens["usr_123"]), installed.client(api, tokens["usr_auditor"])
    ticket = await driver.open("mch_456")
    async with watching(driver, ticket) as driving:
        await next_of(driving, "ready")
        attached = await auditor.data("POST", f"/v1/sessions/{ticket['session_id']}/attach", {"role": "observer"})
        async with watching(auditor, attached) as observing:
            await next_of(observing, "ready")
            flood = f"yes 'a line of a flood' | head -c {FLOOD_BYTES}; echo fini''shed\n"
            await driving.send(json.dumps({"type": "input", "data": flood}))
            driven, screens = await until_finished(driving)
            assert (driven >= FLOOD_BYTES, screens) == (True, 0), "the observer, which has read nothing yet, holds nobody up"
            observed, screens = await until_finished(observing)
            assert screens > 0
            assert observed < FLOOD_BYTES


async def until_finished(socket: ClientConnection) -> tuple[int, int]:
    """Characters of output up to the flood's end, and how many screens were among it."""
    size, screens, tail = 0, 0, ""
    while "finished" not in tail:
        message = await next_of(socket, "output")
        size += len(message["data"])
        screens += message.get("screen", False)
        tail = (tail + message["data"])[-4096:]
    return size, screens


async def acknowledge_for_ever(terminal: Terminal) -> None:
    while True:
        await asyncio.gather(*(terminal.send("ack", seq=0) for _ in range(1000)))


async def test_limits_of_sockets_and_messages_are_told(installed: Installation) -> None:
    tokens = await installed.declare()
    installed.start("ssh_worker")
    client = installed.client(installed.start("session_api", VSAY_SOCKETS_PER_USER_MAX="2"), tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as first, client.terminal(ticket) as second:
        await first.until("ready")
        await second.until("ready")
        async with client.terminal(ticket) as third:
            assert (await third.until("error"))["code"] == "too_many_sockets"
            await third.socket.wait_closed()
            assert third.socket.close_code == 4429
        with pytest.raises(ConnectionClosed):
            await acknowledge_for_ever(second)
        assert second.socket.close_code == 4429
    async with client.terminal(ticket) as fourth:
        await fourth.until("ready")


async def test_a_session_that_nobody_watches_and_that_is_silent_ends(installed: Installation) -> None:
    tokens = await installed.declare()
    installed.start("ssh_worker", VSAY_CLIENT_GONE_SECONDS="1")
    client = installed.client(installed.start("session_api"), tokens["usr_123"])
    ticket, producing = await client.open("mch_456"), await client.open("mch_456")
    async with client.terminal(ticket) as terminal, client.terminal(producing) as busy:
        await terminal.type("echo re''ady\n")
        await terminal.shows("ready")
        await busy.type("while sleep 0.1; do echo busy; done\n")
        await busy.shows("busy\r\n")
    types: list[str] = []
    while "ended" not in types:
        record = await installed.record(ticket["session_id"])
        types = [each.type for each in record]
        await asyncio.sleep(0.2)
    ended = record[-1].event()
    assert isinstance(ended, SessionEnded)
    assert ended.reason == EndReason.CLIENT_GONE
    async with client.terminal(producing) as busy:
        await busy.shows("busy\r\n")
