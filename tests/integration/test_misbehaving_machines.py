"""Machines that are hostile or broken: each hurts only its own session, and takes only so much of the worker's memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import Boolean, String

from contracts.directory import Machine
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import Client
from tests.integration.proxy import proxy_to
from tests.integration.servers import free_port
from tests.integration.test_session import verify
from tests.integration.test_worker import eventually, metrics, ready

pytestmark = [needs_openssh, pytest.mark.timeout(300)]

SESSION_BYTES_MAX = 8 * 1024 * 1024
"""Of the worker's memory, for one session at its worst."""

HOSTILE_BYTES = 64 * 1024 * 1024
"""What an endless machine sends before it gives up: far more than a session may take."""

type Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        yield parts


@asynccontextmanager
async def serving(behave: Behaviour) -> AsyncIterator[int]:
    """A TCP server that does this to everybody; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except OSError:
            pass  # the worker has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def send_for_ever(writer: asyncio.StreamWriter, piece: bytes) -> None:
    for _ in range(HOSTILE_BYTES // len(piece)):
        writer.write(piece)
        await writer.drain()


async def endless_banner(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await send_for_ever(writer, b"Welcome, please hold the line\r\n" * 100)


async def endless_bytes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await send_for_ever(writer, bytes(64 * 1024))


async def endless_packet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n" + (2**32 - 1).to_bytes(4) + b"\x04")
    await send_for_ever(writer, bytes(64 * 1024))


async def half_open(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def not_ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


BEHAVIOURS: dict[str, tuple[Behaviour, tuple[str, ...]]] = {
    "mch_banner": (endless_banner, ("unreachable", "timeout")),
    "mch_bytes": (endless_bytes, ("unreachable", "timeout")),
    "mch_packet": (endless_packet, ("unreachable", "timeout")),
    "mch_silent": (half_open, ("timeout",)),
    "mch_http": (not_ssh, ("unreachable",)),
}


async def code_of(client: Client, machine: Machine) -> str:
    """The code with which a session there ends."""
    ticket = await client.open(machine.id)
    async with client.terminal(ticket) as terminal:
        disconnect = await terminal.until("disconnect")
        assert disconnect["reason"] == "connect_failed"
        return str(disconnect["code"])


async def test_machines_that_are_no_ssh_servers_end_their_own_sessions_only(parts: Installation) -> None:
    async with AsyncExitStack() as servers:
        ports = {id_: await servers.enter_async_context(serving(behave)) for id_, (behave, _) in BEHAVIOURS.items()}
        machines = [parts.machine(id_, port=port) for id_, port in ports.items()]
        tokens = await parts.declare(parts.machine(), *machines)
        health = free_port()
        parts.start("ssh_worker", VSAY_CONNECT_TIMEOUT_SECONDS="3", VSAY_HEALTH_PORT=str(health))
        client = parts.client(parts.start("session_api"), tokens["usr_123"])
        good = await client.open("mch_456")
        async with client.terminal(good) as terminal:
            await ready(terminal)
            before = (await metrics(health))["process_resident_memory_bytes"]
            codes = await asyncio.gather(*(code_of(client, machine) for machine in machines for _ in range(3)))
            await ready(terminal)
            grown = (await metrics(health))["process_resident_memory_bytes"] - before
            print(f"memory grew by {grown / 1024:.0f} KiB over {len(codes)} sessions")
            assert grown < len(codes) * SESSION_BYTES_MAX
            assert grown < HOSTILE_BYTES
    for machine, code in zip([machine for machine in machines for _ in range(3)], codes, strict=True):
        assert code in BEHAVIOURS[machine.id][1]


async def test_a_machine_that_stops_reading_and_one_that_sends_garbage_lose_their_sessions_only(parts: Installation) -> None:
    async with proxy_to(parts.openssh.port) as stuck, proxy_to(parts.openssh.port) as lying:
        machines = [parts.machine("mch_stuck", port=stuck.port), parts.machine("mch_lying", port=lying.port)]
        tokens = await parts.declare(parts.machine(), *machines)
        health = free_port()
        parts.start("ssh_worker", VSAY_KEEPALIVE_SECONDS="1", VSAY_HEALTH_PORT=str(health))
        client = parts.client(parts.start("session_api"), tokens["usr_123"])
        tickets = [await client.open(id_) for id_ in ("mch_456", "mch_stuck", "mch_lying")]
        async with (
            client.terminal(tickets[0]) as good,
            client.terminal(tickets[1]) as on_stuck,
            client.terminal(tickets[2]) as on_lying,
        ):
            for terminal in (good, on_stuck, on_lying):
                await ready(terminal)
            before = (await metrics(health))["process_resident_memory_bytes"]
            stuck.freeze()
            for _ in range(8):
                await on_stuck.type("x" * 500_000)
            await ready(good)
            assert (await on_stuck.until("disconnect"))["reason"] == "connection_lost"
            lying.inject(bytes(range(256)) * 64)
            assert (await on_lying.until("disconnect"))["reason"] == "connection_lost"
            await ready(good)
            grown = (await metrics(health))["process_resident_memory_bytes"] - before
            print(f"memory grew by {grown / 1024:.0f} KiB")
            assert grown < 2 * SESSION_BYTES_MAX
    for ticket in tickets[1:]:
        verify(await parts.record(ticket["session_id"]))


class Questioner(asyncssh.SSHServer):
    """Once somebody is in, asks for answers without end and never reads one."""

    def __init__(self) -> None:
        self._asking: asyncio.Task[None] | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        self._asking = asyncio.create_task(self._ask())
        return _Shell()

    async def _ask(self) -> None:
        connection = self._connection
        transport = connection._transport
        transport.pause_reading()
        request = String("keepalive@openssh.com") + Boolean(True)
        for _ in range(2_000_000):
            if connection.is_closed() or transport.is_closing():
                return
            connection.send_packet(80, request)  # SSH_MSG_GLOBAL_REQUEST
            if transport.get_write_buffer_size() > 1_000_000:
                await asyncio.sleep(0.01)


class _Shell(asyncssh.SSHServerSession[bytes]):
    def pty_requested(self, *_: object) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True


async def test_a_machine_that_asks_without_end_and_does_not_read_the_answers(parts: Installation) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=Questioner, server_host_keys=[key], keepalive_interval=0) as server:
        public = key.export_public_key().decode().strip()
        tokens = await parts.declare(parts.machine(), parts.machine("mch_asks", port=server.get_port(), host_keys=(public,)))
        health = free_port()
        parts.start("ssh_worker", VSAY_KEEPALIVE_SECONDS="3", VSAY_HEALTH_PORT=str(health))
        client = parts.client(parts.start("session_api"), tokens["usr_123"])
        good, asked = await client.open("mch_456"), await client.open("mch_asks")
        async with client.terminal(good) as terminal, client.terminal(asked) as hostile:
            await ready(terminal)
            before = (await metrics(health))["process_resident_memory_bytes"]
            assert (await hostile.until("disconnect"))["reason"] in ("connection_lost", "connect_failed")
            await ready(terminal)
            grown = (await metrics(health))["process_resident_memory_bytes"] - before
            print(f"memory grew by {grown / 1024:.0f} KiB")
            assert grown < SESSION_BYTES_MAX


async def test_floods_that_nobody_reads_take_a_bounded_amount_of_memory_each(parts: Installation) -> None:
    sessions = 8
    tokens = await parts.declare()
    health = free_port()
    parts.start("ssh_worker", VSAY_HEALTH_PORT=str(health))
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    good = await client.open("mch_456")
    async with client.terminal(good) as terminal, AsyncExitStack() as stack:
        await ready(terminal)
        before = await metrics(health)
        for _ in range(sessions):
            ticket = await client.open("mch_456")
            flooded = await stack.enter_async_context(client.terminal(ticket))
            await flooded.type("yes 0123456789012345678901234567890123456789\n")  # and from here on nobody reads the socket
        recorded = before["vsay_output_bytes_total"]

        async def stalled() -> bool:
            nonlocal recorded
            earlier, recorded = recorded, (await metrics(health))["vsay_output_bytes_total"]
            return recorded - before["vsay_output_bytes_total"] > sessions * 100_000 and recorded == earlier

        await eventually(stalled)
        await ready(terminal)
        grown = (await metrics(health))["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
        print(f"memory grew by {grown / sessions / 1024:.0f} KiB a session")
        assert grown < sessions * SESSION_BYTES_MAX
