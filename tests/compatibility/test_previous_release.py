"""Processes of the release before run beside those of this one, in every mixture that a rolling upgrade passes through."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compatibility.previous import VARIABLE, PreviousService, previous, unpack
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX, Client, Service
from tests.integration.test_session import verify

PREVIOUS = previous()

pytestmark = [
    needs_openssh,
    pytest.mark.skipif(PREVIOUS is None, reason=f"nothing has been released yet: no tag v*, and {VARIABLE} names no commit"),
]

SERVICES = ("audit", "ssh_worker", "session_api")
"""In the order of an upgrade."""


class Mixture:
    """An installation whose processes are of either version."""

    def __init__(self, parts: Installation, tree: Path) -> None:
        self.parts = parts
        self._tree = tree
        self._count = 0

    def start(self, name: str, *, old: bool, **settings: str) -> Service:
        if not old:
            return self.parts.start(name, **settings)
        self._count += 1
        directory = self.parts.directory / f"old-{name}-{self._count}"
        service = PreviousService(self._tree, directory, name, self.parts.settings | settings)
        return self.parts._running.enter_context(service)


@pytest.fixture
def mixture(tmp_path: Path) -> Iterator[Mixture]:
    assert PREVIOUS
    tree = unpack(PREVIOUS, tmp_path / "tree")
    with installation(tmp_path) as parts:
        parts.clickhouse()
        yield Mixture(parts, tree)


async def complete_logs(client: Client, session_id: str) -> list[dict[str, str]]:
    """Once ClickHouse has all of it."""
    async with asyncio.timeout(WAIT_SECONDS_MAX * 2):
        while True:
            answer = await client.data("GET", f"/v1/sessions/{session_id}/logs")
            if answer.get("complete", True) and answer["logs"]:
                return list(answer["logs"])
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("upgraded", range(len(SERVICES) + 1), ids=lambda count: f"new: {', '.join(SERVICES[:count]) or 'none'}")
async def test_each_step_of_an_upgrade_serves_a_session(mixture: Mixture, upgraded: int) -> None:
    tokens = await mixture.parts.declare()
    new = SERVICES[:upgraded]
    running = {name: mixture.start(name, old=name not in new) for name in SERVICES}
    client = mixture.parts.client(running["session_api"], tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type("echo mar''ker\n")
        await terminal.shows("marker")
        await terminal.type("exit 3\n")
        disconnect = await terminal.until("disconnect")
        assert (disconnect["reason"], disconnect["exit_status"]) == ("exited", 3)
    verify(await mixture.parts.record(ticket["session_id"]))
    entries = await complete_logs(client, ticket["session_id"])
    assert any(entry["type"] == "command" and "echo" in entry["content"] for entry in entries)


@pytest.mark.parametrize("old_worker", [True, False], ids=["old worker", "new worker"])
async def test_a_session_goes_on_while_its_worker_drains_beside_one_of_the_other_version(
    mixture: Mixture, *, old_worker: bool
) -> None:
    tokens = await mixture.parts.declare()
    leaving = mixture.start("ssh_worker", old=old_worker, VSAY_DRAIN_SECONDS="120")
    api = mixture.start("session_api", old=old_worker)
    client = mixture.parts.client(api, tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type("echo fir''st\n")
        await terminal.shows("first")
        mixture.start("ssh_worker", old=not old_worker)
        os.kill(leaving.pid, signal.SIGTERM)
        await terminal.type("echo sec''ond\n")
        await terminal.shows("second")
        await terminal.type("exit\n")
        assert (await terminal.until("disconnect"))["reason"] == "exited"
    await asyncio.to_thread(leaving.stop)
    verify(await mixture.parts.record(ticket["session_id"]))
