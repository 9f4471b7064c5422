"""`vsay up`: all processes of the single-machine stack, as a user starts them."""

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

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

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: object) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.file["api"] + path, method=method, headers=headers, data=data)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

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
        await running.until((home / "stack.json").exists)
        yield running
    finally:
        if process.returncode is None:
            await running.stop(signal.SIGTERM)


def is_alive(pid: int) -> bool:
    """Zombies, whose parent has not looked yet, do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_stack_from_its_first_start_over_a_dead_process_to_its_second_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with stack(home) as first:
        assert set(first.file["processes"]) == PARTS
        assert all(is_alive(pid) for pid in first.file["processes"].values())
        assert (home / "admin-token").stat().st_mode & 0o777 == 0o600
        status, answer = await first.call("GET", "/v1/machines")
        assert status == 200
        assert [machine["id"] for machine in answer["data"]["machines"]] == ["mch_demo"]

        refused = await vsay_up(home)
        assert refused.stdout
        assert f"a stack is running in {home}" in (await refused.stdout.read()).decode()
        assert await refused.wait() == 1

        addresses = {name: first.file[name] for name in ("api", "nats", "clickhouse")}
        for name in ("session-api", "clickhouse", "nats-server"):
            before = first.file["processes"][name]
            os.kill(before, signal.SIGKILL)
            await first.until(lambda name=name, before=before: first.file["processes"].get(name, before) != before)  # type: ignore[misc]
        assert {name: first.file[name] for name in addresses} == addresses

        async def opened() -> str | None:
            try:
                size = {"cols": 80, "rows": 24}
                status, answer = await first.call("POST", "/v1/sessions", {"machine_id": "mch_demo", "terminal_size": size})
            except OSError:  # the API that was killed is not back yet
                return None
            return str(answer["data"]["session_id"]) if status < 300 else None

        async with asyncio.timeout(60):
            while not (session_id := await opened()):
                await asyncio.sleep(LOOK_SECONDS)
        token, pids = first.token, first.file["processes"].values()
        said = await first.stop()
        assert first.process.returncode == 0
        assert "ready" in said
        assert "nats-server was killed by SIGKILL" in said
        assert "curl" in said
        assert token not in said
        assert not (home / "stack.json").exists()
        assert not any(is_alive(pid) for pid in pids)

    (home / "directory.toml").write_text((home / "directory.toml").read_text().replace('name = "Admin"', 'name = "Root"'))
    async with stack(home) as second:
        assert second.token == token
        status, answer = await second.call("GET", "/v1/me")
        assert (status, answer["data"]["name"]) == (200, "Root")

        async def in_history() -> bool:
            status, answer = await second.call("GET", f"/v1/sessions/{session_id}")
            return status == 200 and answer["data"]["status"] == "ended"

        async with asyncio.timeout(60):
            while not await in_history():
                await asyncio.sleep(LOOK_SECONDS)


async def test_two_stacks_side_by_side_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path / "one") as one, stack(tmp_path / "two") as two:
        pids = list(one.file["processes"].values())
        one.process.kill()
        await one.process.wait()
        async with asyncio.timeout(20):
            while any(is_alive(pid) for pid in pids):
                await asyncio.sleep(LOOK_SECONDS)
        assert (await two.call("GET", "/v1/machines"))[0] == 200
        async with stack(tmp_path / "one") as again:
            assert (await again.call("GET", "/v1/machines"))[0] == 200


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
