"""The compose stack: brought up, a session through it, and how its containers run. `just test-containers` runs this."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.containers import IN_CONTAINERS
from tests.integration.processes import Client
from tests.integration.servers import free_port

pytestmark = [
    pytest.mark.skipif(not IN_CONTAINERS, reason="needs a Docker engine and the images: `just test-containers`"),
    pytest.mark.timeout(900),
]

READY_SECONDS_MAX = 300.0
LOCKED = ("nats", "clickhouse", "audit", "ssh-worker", "session-api")


class Stack:
    """`just compose` with a project, a home and a port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.project = f"vsay-test-{self.port}"
        own = {"VSAY_HOME": str(home), "VSAY_COMPOSE_PORT": str(self.port), "COMPOSE_PROJECT_NAME": self.project}
        self._environment = os.environ | own

    def compose(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.compose", *arguments],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspect(self, service: str) -> Any:
        """What the engine says of a service's container."""
        container = self.compose("ps", "-q", service).strip()
        return json.loads(subprocess.run(["docker", "inspect", container], check=True, capture_output=True).stdout)[0]

    def until_healthy(self, *services: str) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        for service in services:
            while (health := self.inspect(service)["State"]["Health"])["Status"] != "healthy":
                assert time.monotonic() < deadline, f"{service}: {health}"
                time.sleep(0.5)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("compose"))
    try:
        stack.compose("up", "-d")
        stack.until_healthy("clickhouse", "audit", "ssh-worker", "session-api")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "10")


@pytest.mark.parametrize("service", LOCKED)
def test_a_container_is_read_only_and_has_no_privileges(stack: Stack, service: str) -> None:
    about = stack.inspect(service)
    assert about["State"]["Running"]
    assert about["HostConfig"]["ReadonlyRootfs"]
    assert about["HostConfig"]["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in about["HostConfig"]["SecurityOpt"]
    user = Path(f"/proc/{about['State']['Pid']}/status").read_text().partition("\nUid:")[2].split()[:4]
    assert user == [about["Config"]["User"].partition(":")[0]] * 4
    assert user[0] != "0"


async def test_a_session_goes_through_and_is_recorded(stack: Stack) -> None:
    def vsay(*arguments: str, stdin: str | None = None) -> str:
        return stack.compose("exec", "-T", "session-api", "python3", "-m", "services.cli", *arguments, stdin=stdin)

    directory = (stack.home / "compose/directory.toml").read_text()
    assert "written mch_target" in await asyncio.to_thread(vsay, "directory", "apply", "/dev/stdin", stdin=directory)
    token = (await asyncio.to_thread(vsay, "token", "create", "--user", "usr_admin")).strip()
    client = Client(f"http://127.0.0.1:{stack.port}", token)
    ticket = await client.open("mch_target", cols=100, rows=30)
    async with client.terminal(ticket) as terminal:
        await terminal.type("id -un; stty size; echo mar''ker\n")
        await terminal.shows("deploy")
        await terminal.shows("30 100")
        await terminal.shows("marker")
        await terminal.type("exit 7\n")
        disconnect = await terminal.until("disconnect")
        assert (disconnect["reason"], disconnect["exit_status"]) == ("exited", 7)
    path = f"/v1/sessions/{ticket['session_id']}"
    deadline = time.monotonic() + READY_SECONDS_MAX
    while "marker" not in str(await client.call("GET", f"{path}/logs?format=text")):
        assert time.monotonic() < deadline, "ClickHouse never had the session's commands"
        await asyncio.sleep(0.5)
    session = await client.data("GET", path)
    assert (session["status"], session["reason"], session["exit_status"]) == ("ended", "exited", 7)


def test_nothing_of_ours_restarted(stack: Stack) -> None:
    for service in LOCKED:
        assert stack.inspect(service)["RestartCount"] == 0, service
