"""Workers that are killed, stopped or cut off: at no time do two hold a session, and each session ends exactly once.

`VSAY_CHAOS_SEED` repeats a run.
"""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from contracts.wire import Recorded
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import Client, Service, Terminal
from tests.integration.proxy import Proxy, proxy_to
from tests.integration.servers import free_port
from tests.integration.test_session import verify
from tests.integration.test_worker import eventually, metrics

pytestmark = [needs_openssh, pytest.mark.timeout(400)]

LEASE_SECONDS = 12
SESSIONS_EACH = 2
CALM_SECONDS_MAX = 2.0
"""From the last preparation to a fault, at most: at any point between two renewals of the lease."""


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path, VSAY_LEASE_SECONDS=str(LEASE_SECONDS)) as parts:
        yield parts


class Held:
    """A session that a worker holds: its shell works, and says when it was hung up."""

    def __init__(self, ticket: dict[str, Any], terminal: Terminal, sign: Path) -> None:
        self.session_id: str = ticket["session_id"]
        self.terminal = terminal
        self._sign = sign

    async def work(self) -> None:
        """Trap the hang-up, and print for ever."""
        await self.terminal.type(
            f"trap 'date +%s%N > {self._sign}.new; mv {self._sign}.new {self._sign}; exit' HUP; echo re''ady\n"
        )
        await self.terminal.shows("ready")
        await self.terminal.type("while :; do echo $RANDOM; sleep 0.1; done\n")

    async def hung_up_at(self) -> int:
        """Microseconds since the epoch; returns once it is known."""

        async def known() -> bool:
            return self._sign.exists()

        await eventually(known)
        return int(self._sign.read_text()) // 1000


class Victim:
    """A worker to which something will happen, and what it holds by then."""

    def __init__(self, service: Service, health_port: int) -> None:
        self.service = service
        self.health_port = health_port
        self.held: list[Held] = []

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.service.pid, number)

    async def lets_go(self) -> None:
        """Returns once it holds nothing any more."""

        async def empty() -> bool:
            return (await metrics(self.health_port))["vsay_worker_sessions"] == 0

        await eventually(empty)


async def test_no_session_has_two_owners_or_two_ends(parts: Installation) -> None:
    seed = int(os.environ.get("VSAY_CHAOS_SEED") or random.randrange(2**32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    tokens = await parts.declare()
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(proxy_to(parts.nats.port))
        victims = {
            fault: await _worker_with_sessions(parts, client, stack, fault, url)
            for fault, url in (
                ("killed", parts.nats.url),
                ("stopped", parts.nats.url),
                ("cut-off", f"nats://127.0.0.1:{network.port}"),
            )
        }
        survivor_port = free_port()
        parts.start("ssh_worker", VSAY_HEALTH_PORT=str(survivor_port))
        waits = {fault: chance.uniform(0, CALM_SECONDS_MAX) for fault in victims}
        print(f"faults after {waits}")
        await asyncio.gather(*(_befall(fault, victims[fault], network, waits[fault]) for fault in victims))
        for victim in victims.values():
            for held in victim.held:
                assert (await held.terminal.until("disconnect"))["reason"] == "worker_lost"
        at_the_end = {held.session_id: await parts.record(held.session_id) for victim in victims.values() for held in victim.held}
        await _who_was_gone_lets_go_and_writes_nothing(parts, victims, network, at_the_end)
        assert (await metrics(survivor_port))["vsay_sessions_ended_total"] == len(victims) * SESSIONS_EACH
        # What a dead or cut-off worker held was hung up before the next one ended it. A stopped process cannot hang up.
        for fault in ("killed", "cut-off"):
            for held in victims[fault].held:
                assert await held.hung_up_at() < at_the_end[held.session_id][-1].at, fault


async def _worker_with_sessions(parts: Installation, client: Client, stack: AsyncExitStack, name: str, nats_url: str) -> Victim:
    """A worker whose places are all taken, so that the next session is another one's."""
    port = free_port()
    settings = {"VSAY_NATS_URL": nats_url, "VSAY_WORKER_NAME": name, "VSAY_HEALTH_PORT": str(port)}
    places = str(SESSIONS_EACH)
    service = await asyncio.to_thread(
        parts.start, "ssh_worker", VSAY_WORKER_PLACES=places, **settings
    )  # the proxy runs in this loop
    victim = Victim(service, port)
    for number in range(SESSIONS_EACH):
        ticket = await client.open("mch_456")
        terminal = await stack.enter_async_context(client.terminal(ticket))
        held = Held(ticket, terminal, parts.directory / f"hung-up-{name}-{number}")
        await held.work()
        victim.held.append(held)
    assert (await metrics(port))["vsay_worker_sessions"] == SESSIONS_EACH
    return victim


async def _befall(fault: str, victim: Victim, network: Proxy, seconds: float) -> None:
    await asyncio.sleep(seconds)
    match fault:
        case "killed":
            victim.signal(signal.SIGKILL)
        case "stopped":
            victim.signal(signal.SIGSTOP)
        case "cut-off":
            network.freeze()


async def _who_was_gone_lets_go_and_writes_nothing(
    parts: Installation, victims: dict[str, Victim], network: Proxy, at_the_end: dict[str, list[Recorded]]
) -> None:
    victims["stopped"].signal(signal.SIGCONT)
    network.thaw()
    await asyncio.gather(victims["stopped"].lets_go(), victims["cut-off"].lets_go())
    for victim in victims.values():
        for held in victim.held:
            await held.hung_up_at()
    for session_id, record in at_the_end.items():
        verify(record)
        assert await parts.record(session_id) == record
