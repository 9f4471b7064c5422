"""Live terminals: resume, attach, pace, limits. Everything through real processes."""

import asyncio
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from par_term_emu_core_rust import Terminal as Emulator
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX, Client, Service, Terminal

pytestmark = [needs_openssh, pytest.mark.timeout(300)]


class Parts:
    """An installation with a worker and two replicas of the API, and a driver's client of each."""

    def __init__(self, parts: Installation, tokens: dict[str, str]) -> None:
        self.parts = parts
        self.tokens = tokens
        self.worker = parts.start("ssh_worker")
        self.apis = [parts.start("session_api"), parts.start("session_api")]
        self.clients = [self.client(api, "usr_123") for api in self.apis]

    def client(self, api: Service, user_id: str) -> Client:
        return self.parts.client(api, self.tokens[user_id])


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        yield parts


@pytest.fixture
async def parts(installed: Installation) -> Parts:
    return Parts(installed, await installed.declare())


async def prompt(terminal: Terminal) -> None:
    """Returns once the shell reads."""
    await terminal.type("echo re''ady\n")
    await terminal.shows("ready")


async def take(terminal: Terminal, messages: int) -> str:
    """The output in the next so many messages."""
    shown = ""
    for _ in range(messages):
        message = await terminal.next()
        if message["type"] == "output":
            assert not message.get("screen"), "a resume was answered with a screen"
            shown += message["data"]
        if "finished" in shown[-200:]:
            break
    return shown


@pytest.mark.parametrize("nats_restarts", [False, True], ids=["drops", "drops and NATS restarts"])
async def test_a_dropped_socket_resumes_on_any_replica_to_the_byte(parts: Parts, nats_restarts: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    last = 2_000_000
    ticket = await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(ticket) as terminal:
        await terminal.type("stty -echo; PS1=; PS2=\n")
        await prompt(terminal)
        await terminal.type(f"seq 1 {last}; echo fini''shed\n")
        received = terminal.output + await take(terminal, 3)
        seq = terminal.seq
    drops, reasons = 0, list[int | None]()
    while "finished" not in received[-200:]:
        client = chance.choice(parts.clients)
        if nats_restarts and drops in (3, 6):
            await asyncio.to_thread(parts.parts.nats.restart, kill=drops == 6)
        try:
            async with client.terminal(ticket, resume_from=seq) as terminal:
                assert (await terminal.until("ready"))["resumed"]
                received += await take(terminal, chance.randrange(1, 60))
                seq = max(seq, terminal.seq)
        except ConnectionClosed as closed:
            reasons.append(closed.rcvd.code if closed.rcvd else None)
        drops += 1
    expected = "".join(f"{number}\r\n" for number in range(1, last + 1))
    start = received.index("1\r\n2\r\n")
    assert received[start : start + len(expected)] == expected
    assert drops > 5
    assert set(reasons) <= {4503}, "a gateway that cannot reach NATS says so"


async def test_an_unknown_place_to_resume_from_gets_the_present_screen(parts: Parts) -> None:
    ticket = await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(ticket) as terminal:
        await prompt(terminal)
    async with parts.clients[1].terminal(ticket, resume_from=1_000_000) as terminal:
        assert not (await terminal.until("ready")).get("resumed", False)
        screen = await terminal.until("output")
        assert screen["screen"]
        assert "ready" in screen["data"]


async def test_who_attaches_to_a_full_screen_program_sees_the_same_screen(parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "poem"
    file.write_text("".join(f"line {number} — ünïcödé 日本\n" for number in range(200)))
    ticket = await parts.clients[0].open("mch_456", cols=90, rows=28)
    async with parts.clients[0].terminal(ticket) as driver:
        await prompt(driver)
        first = Emulator(90, 28, scrollback=1)
        await driver.type(f"vi -u NONE -N {file}\n")
        while not any("line 20" in text(first, row) for row in range(28)):
            message = await driver.next()
            if message["type"] == "output":
                first.process(message["data"].encode())
        attached = await parts.client(parts.apis[1], "usr_auditor").data(
            "POST", f"/v1/sessions/{ticket['session_id']}/attach", {"role": "observer"}
        )
        async with parts.client(parts.apis[1], "usr_auditor").terminal(attached) as observer:
            ready = await observer.until("ready")
            assert (ready["cols"], ready["rows"], ready["role"]) == (90, 28, "observer")
            screen = await observer.until("output")
            assert screen["screen"]
            second = Emulator(90, 28, scrollback=1)
            second.process(screen["data"].encode())
            for row in range(28):
                assert text(second, row) == text(first, row)
                assert [cell[:3] for cell in second.get_line_cells(row)] == [cell[:3] for cell in first.get_line_cells(row)]
            assert second.cursor_position() == first.cursor_position()
            assert second.is_alt_screen_active()

            await observer.type(":q!\n")
            assert (await observer.until("error"))["code"] == "observers_cannot_type"
            viewers = {viewer["user"]["id"]: viewer["role"] for viewer in (await driver.until("viewers"))["viewers"]}
            assert viewers == {"usr_123": "driver", "usr_auditor": "observer"}
        assert [viewer["user"]["id"] for viewer in (await driver.until("viewers"))["viewers"]] == ["usr_123"]
    types = [each.type for each in await parts.parts.record(ticket["session_id"])]
    assert types.count("attached") == 2
    assert types.count("detached") >= 1


async def test_a_client_that_never_reads_harms_nobody(parts: Parts) -> None:
    deaf, other = await parts.clients[0].open("mch_456"), await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(other) as terminal:
        await prompt(terminal)
        before = memory(parts)
        url = f"{parts.apis[0].url.replace('http', 'ws', 1)}/v1/sessions/{deaf['session_id']}/ws"
        async with connect(url, max_queue=1, compression=None) as socket:
            await socket.send(json.dumps({"type": "auth", "token": deaf["token"]}))
            await socket.send(json.dumps({"type": "input", "data": "yes '" + "x" * 100 + "'\n"}))
            stored = -1
            while (now := (await parts.parts.stored_bytes())) != stored:  # until the remote process is held up
                stored = now
                await asyncio.sleep(1)
            assert 0 < stored < 20_000_000
            for number in range(20):
                await terminal.type(f"echo al''ive {number}\n")
                await terminal.shows(f"alive {number}")
            after = memory(parts)
            for name, size in after.items():
                assert size - before[name] < 64_000_000, f"{name} grew from {before[name]} to {size} bytes"
            socket.transport.abort()


async def test_a_paste_is_neither_cut_nor_doubled(parts: Parts) -> None:
    size = 5_000_000
    ticket = await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(ticket) as terminal:
        await prompt(terminal)
        await terminal.type(f"stty raw -echo; echo go''ing; head -c {size} | sha256sum; stty sane\n")
        await terminal.shows("going")
        chance = random.Random(7)
        paste = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789\r", k=size))
        for start in range(0, size, 500_000):
            await terminal.type(paste[start : start + 500_000])
        await terminal.shows(hashlib.sha256(paste.encode()).hexdigest())


async def test_utf8_is_joined_and_the_binary_mode_gives_raw_bytes(parts: Parts) -> None:
    ticket = await parts.clients[0].open("mch_456")
    url = f"{parts.apis[1].url.replace('http', 'ws', 1)}/v1/sessions/{ticket['session_id']}/ws"
    async with parts.clients[0].terminal(ticket) as terminal:
        await prompt(terminal)
        async with connect(url, subprotocols=["vsay.v1.binary"], compression=None) as binary:  # type: ignore[list-item]
            assert binary.subprotocol == "vsay.v1.binary"
            await binary.send(json.dumps({"type": "auth", "token": ticket["token"]}))
            while not isinstance(await asyncio.wait_for(binary.recv(), WAIT_SECONDS_MAX), bytes):
                pass
            await terminal.type(r"printf '\346'; sleep 0.3; printf '\227\245|\377|e\314\201|%s\n' en''d" + "\n")
            await terminal.shows("日|\ufffd|e\u0301|end")
            raw = b""
            while b"end" not in raw:
                message = await asyncio.wait_for(binary.recv(), WAIT_SECONDS_MAX)
                raw += message if isinstance(message, bytes) else b""
            assert b"\xe6\x97\xa5|\xff|e\xcc\x81|end" in raw


async def test_a_gateway_that_stops_says_so_and_the_client_goes_on_elsewhere(parts: Parts) -> None:
    ticket = await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(ticket) as terminal:
        await prompt(terminal)
        stopping = asyncio.create_task(asyncio.to_thread(parts.apis[0].stop))
        await terminal.until("restart")
        await terminal.socket.wait_closed()
        assert terminal.socket.close_code == 1012
        await stopping
    async with parts.clients[1].terminal(ticket, resume_from=terminal.seq) as again:
        assert (await again.until("ready"))["resumed"]
        await again.type("echo st''ill\n")
        await again.shows("still")


async def test_resizes_are_in_order_and_a_storm_of_them_is_merged(parts: Parts) -> None:
    ticket = await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(ticket) as terminal:
        await prompt(terminal)
        for cols in range(20, 220):
            await terminal.send("resize", cols=cols, rows=33)
        await terminal.type("stty size\n")
        await terminal.shows("33 219")
        await terminal.send("resize", cols=0, rows=33)
        assert (await terminal.until("error"))["code"] == "invalid_message"


BAD_FIRST = [
    pytest.param("{", 4400, "invalid_message", id="no JSON"),
    pytest.param('{"type": "levitate"}', 4400, "invalid_message", id="unknown type"),
    pytest.param('{"type": "input", "data": "x"}', 4401, "unauthenticated", id="not auth"),
    pytest.param('{"type": "auth", "token": "vsay_wrong"}', 4401, "invalid_ticket", id="wrong ticket"),
    pytest.param(None, 4408, "auth_timeout", id="nothing"),
]


@pytest.mark.parametrize(("first", "close_code", "code"), BAD_FIRST)
async def test_a_socket_that_does_not_authenticate_is_closed_with_its_reason(
    parts: Parts, first: str | None, close_code: int, code: str
) -> None:
    ticket = await parts.clients[0].open("mch_456")
    async with connect(f"{parts.apis[0].url.replace('http', 'ws', 1)}/v1/sessions/{ticket['session_id']}/ws") as socket:
        if first is not None:
            await socket.send(first)
        message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), WAIT_SECONDS_MAX))
        assert (message["type"], message["code"]) == ("error", code)
        await socket.wait_closed()
        assert socket.close_code == close_code


async def test_a_ticket_admits_to_its_own_session_alone(parts: Parts) -> None:
    mine, other = await parts.clients[0].open("mch_456"), await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal({**other, "token": mine["token"]}) as terminal:
        assert (await terminal.until("error"))["code"] == "invalid_ticket"


async def test_a_malformed_message_is_answered_and_the_connection_goes_on(parts: Parts) -> None:
    ticket = await parts.clients[0].open("mch_456")
    async with parts.clients[0].terminal(ticket) as terminal:
        await prompt(terminal)
        for bad in (
            "{",
            "[]",
            '{"type": "input"}',
            '{"type": "resize", "cols": 5000, "rows": 1}',
            '{"type": "auth", "token": "x"}',
        ):
            await terminal.socket.send(bad)
            assert (await terminal.until("error"))["code"] == "invalid_message"
        await prompt(terminal)
        await terminal.socket.send(json.dumps({"type": "input", "data": "x" * 1_100_000}))
        with pytest.raises(ConnectionClosed) as closed:
            await terminal.until("disconnect")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1009


def text(emulator: Emulator, row: int) -> str:
    """A row of the active screen."""
    return "".join(cell[0] for cell in emulator.get_line_cells(row))


def memory(parts: Parts) -> dict[str, int]:
    """Resident bytes of our processes."""
    processes = {"worker": parts.worker, "api": parts.apis[0], "nats": parts.parts.nats}
    sizes = {}
    for name, process in processes.items():
        status = Path(f"/proc/{process.pid}/status").read_text()
        sizes[name] = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    return sizes
