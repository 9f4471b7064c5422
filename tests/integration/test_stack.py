"""`vsay up`: all processes of the single-machine stack, as a user starts them."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import Client

pytestmark = pytest.mark.timeout(300)

READY_SECONDS_MAX = 120
LOOK_SECONDS = 0.05
PARTS = {"session-api", "ssh-worker", "audit", "nats-server", "clickhouse", "demo-machine"}


class Stack:
    """A running `vsay up`."""

    def __init__(self, process: Process, home: Path) -> None:
        self.process = process
        self.home = home

    @property
    def file(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "stack.json").read_text())
        return found

    @property
    def is_ready(self) -> bool:
        """A file that a killed stack left behind names no living process."""
        return (self.home / "stack.json").exists() and all(is_alive(pid) for pid in self.file["processes"].values())

    @property
    def token(self) -> str:
        return (self.home / "admin-token").read_text().strip()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not holds():
                assert self.process.returncode is None, await self.said()
                await asyncio.sleep(LOOK_SECONDS)

    async def said(self) -> str:
        assert self.process.stdout
        return (await self.process.stdout.read()).decode()

    @property
    def client(self) -> Client:
        return Client(self.file["api"], self.token)

    async def kill_and_wait_for_the_next(self, name: str) -> None:
        before = self.file["processes"][name]
        os.kill(before, signal.SIGKILL)
        await self.until(lambda: self.file["processes"].get(name, before) != before)

    async def stop(self, number: signal.Signals = signal.SIGINT) -> str:
        self.process.send_signal(number)
        said = await self.said()
        await self.process.wait()
        return said


async def vsay_up(home: Path, **environment: str) -> Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VSAY_")}
    any_port = {"VSAY_API_PORT": "0", "VSAY_NATS_PORT": "0", "VSAY_CLICKHOUSE_PORT": "0"}
    program = str(Path(sys.executable).with_name("vsay"))
    return await asyncio.create_subprocess_exec(
        program,
        "up",
        env=inherited | any_port | {"VSAY_HOME": str(home)} | environment,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@asynccontextmanager
async def stack(home: Path) -> AsyncIterator[Stack]:
    process = await vsay_up(home)
    running = Stack(process, home)
    try:
        await running.until(lambda: running.is_ready)
        yield running
    finally:
        if process.returncode is None:
            await running.stop(signal.SIGTERM)


async def until_answered(running: Stack) -> None:
    """A process that was started again is not yet one that serves."""
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            try:
                if (await running.client.call("GET", "/readyz"))[0] == 200:
                    return
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)


def is_alive(pid: int) -> bool:
    """Zombies, whose parent has not looked yet, do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_stack_from_its_first_start_over_dead_processes_to_its_second_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with stack(home) as first:
        assert set(first.file["processes"]) == PARTS
        assert all(is_alive(pid) for pid in first.file["processes"].values())
        assert (home / "admin-token").stat().st_mode & 0o777 == 0o600
        machines = (await first.client.data("GET", "/v1/machines"))["machines"]
        assert [machine["id"] for machine in machines] == ["mch_demo"]

        refused = await vsay_up(home)
        assert refused.stdout
        assert f"a stack is running in {home}" in (await refused.stdout.read()).decode()
        assert await refused.wait() == 1

        addresses = {name: first.file[name] for name in ("api", "nats", "clickhouse")}
        for name in ("session-api", "clickhouse", "nats-server", "audit"):
            await first.kill_and_wait_for_the_next(name)
        assert {name: first.file[name] for name in addresses} == addresses

        await until_answered(first)
        ticket = await first.client.open("mch_demo")
        async with first.client.terminal(ticket) as terminal:
            await terminal.type("echo $((40+2))-is-it\n")
            await terminal.shows("42-is-it")
            token, pids = first.token, first.file["processes"].values()
            said = await first.stop()
        assert first.process.returncode == 0
        assert "session-api is ready" in said
        assert "nats-server was killed by SIGKILL" in said
        assert "curl" in said
        assert token not in said
        assert not (home / "stack.json").exists()
        assert not any(is_alive(pid) for pid in pids)

    (home / "directory.toml").write_text((home / "directory.toml").read_text().replace('name = "Admin"', 'name = "Root"'))
    async with stack(home) as second:
        assert second.token == token
        assert (await second.client.data("GET", "/v1/me"))["name"] == "Root"
        path = f"/v1/sessions/{ticket['session_id']}"
        async with asyncio.timeout(READY_SECONDS_MAX):
            while (detail := await second.client.data("GET", path))["status"] != "ended":
                await asyncio.sleep(LOOK_SECONDS)
        assert detail["user"]["name"] == "Admin", "as it was then"
        assert detail["reason"] == "worker_drained"
        status, transcript = await second.client.call("GET", f"{path}/logs?format=text")
        assert status == 200
        assert "42-is-it" in transcript


async def test_two_stacks_side_by_side_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path / "one") as one, stack(tmp_path / "two") as two:
        pids = list(one.file["processes"].values())
        one.process.kill()
        await one.process.wait()
        async with asyncio.timeout(20):
            while any(is_alive(pid) for pid in pids):
                await asyncio.sleep(LOOK_SECONDS)
        assert (await two.client.data("GET", "/v1/me"))["id"] == "usr_admin"
        async with stack(tmp_path / "one") as again:
            assert (await again.client.data("GET", "/v1/me"))["id"] == "usr_admin"


async def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await vsay_up(tmp_path, VSAY_NATS_PORT=str(port))
        assert process.stdout
        said = (await process.stdout.read()).decode()
    assert await process.wait() == 1
    assert said == f"vsay: port {port} on 127.0.0.1 is taken: choose another with VSAY_NATS_PORT, 0 for any free one\n"


async def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    process = await vsay_up(tmp_path, VSAY_API_PORT="http")
    assert process.stdout
    assert (await process.stdout.read()).startswith(b"vsay: VSAY_API_PORT: ")
    assert await process.wait() == 2


async def test_a_wrong_directory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "directory.toml").write_text('[[users]]\nid = "John"\n')
    process = await vsay_up(tmp_path)
    assert process.stdout
    said = (await process.stdout.read()).decode()
    assert await process.wait() == 1
    assert said.splitlines()[-1].startswith(f"vsay: {tmp_path / 'directory.toml'}: users[0].id: ")
