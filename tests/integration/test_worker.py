"""A worker's places, limits, drain, health and processes. Everything through real processes."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts import subjects
from contracts.commands import OpenSession
from contracts.directory import Machine
from contracts.events import Person
from contracts.streams import COMMANDS
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import Client, Service, Terminal
from tests.integration.proxy import proxy_to
from tests.integration.servers import free_port
from tests.integration.test_session import verify

pytestmark = [needs_openssh, pytest.mark.timeout(300)]

CONDITION_SECONDS_MAX = 60.0


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        yield parts


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(CONDITION_SECONDS_MAX):
        while not await condition():
            await asyncio.sleep(0.05)


async def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 when nothing listens there."""

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=CONDITION_SECONDS_MAX) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    return await asyncio.to_thread(ask)


async def metrics(port: int) -> dict[str, float]:
    """Samples by name, those of several processes added up."""
    status, text = await asked(port, "/metrics")
    assert status == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def ready(terminal: Terminal) -> None:
    await terminal.type("echo re''ady\n")
    await terminal.shows("ready")


async def waited_for(client: Client, ticket: dict[str, Any]) -> dict[str, Any]:
    """The session, once it has ended."""

    async def ended() -> bool:
        session = await client.data("GET", f"/v1/sessions/{ticket['session_id']}")
        return bool(session["status"] == "ended")

    await eventually(ended)
    return dict(await client.data("GET", f"/v1/sessions/{ticket['session_id']}"))


async def test_limits_warn_the_viewers_and_then_end_the_session(parts: Installation) -> None:
    idle = parts.machine("mch_idle", idle_timeout_seconds=4, max_duration_seconds=0)
    brief = parts.machine("mch_brief", idle_timeout_seconds=0, max_duration_seconds=3)
    tokens = await parts.declare(idle, brief)
    parts.start("ssh_worker", VSAY_WARN_SECONDS="1.5")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])

    async def watch(machine: Machine, reason: str) -> None:
        ticket = await client.open(machine.id)
        async with client.terminal(ticket) as terminal:
            warning = await terminal.until("warning")
            assert warning["reason"] == reason
            assert warning["seq"] > 0
            disconnect = await terminal.until("disconnect")
            assert disconnect["reason"] == reason
        record = await parts.record(ticket["session_id"])
        verify(record)
        assert [each.type for each in record].count("warned") == 1
        assert (await client.data("GET", f"/v1/sessions/{ticket['session_id']}"))["reason"] == reason

    await asyncio.gather(watch(idle, "idle_timeout"), watch(brief, "max_duration"))


async def test_the_queue_waits_for_a_place_and_gives_up_as_no_capacity(parts: Installation) -> None:
    tokens = await parts.declare()
    settings = {"VSAY_WAIT_FOR_PLACE_SECONDS": "8"}
    parts.start("ssh_worker", VSAY_WORKER_PLACES="1", **settings)
    client = parts.client(parts.start("session_api", **settings), tokens["usr_123"])
    first = await client.open("mch_456")
    async with client.terminal(first) as holder:
        await ready(holder)
        given_up, cancelled = await client.open("mch_456"), await client.open("mch_456")
        async with client.terminal(given_up) as waiter:
            assert (await waiter.next())["type"] == "waiting"
            status, answer = await client.call("DELETE", f"/v1/sessions/{cancelled['session_id']}")
            assert status == 200, answer
            assert (await waiter.until("error"))["code"] == "no_capacity"
            disconnect = await waiter.until("disconnect")
            assert (disconnect["reason"], disconnect["code"]) == ("connect_failed", "no_capacity")
        await ready(holder)  # nobody else was harmed
        served = await client.open("mch_456")
        await holder.type("exit\n")
        await holder.until("disconnect")
    async with client.terminal(served) as terminal:
        await ready(terminal)
        await terminal.type("exit\n")
        await terminal.until("disconnect")
    for ticket, code in ((given_up, "no_capacity"), (cancelled, "cancelled")):
        session = await waited_for(client, ticket)
        assert (session["reason"], session["code"]) == ("connect_failed", code)
        record = await parts.record(ticket["session_id"])
        verify(record)
        assert [each.type for each in record] == ["claimed", "ended"]


async def test_a_drain_lets_sessions_go_on_tells_their_viewers_and_is_hurried_by_a_second_sigterm(parts: Installation) -> None:
    tokens = await parts.declare()
    port = free_port()
    worker = parts.start("ssh_worker", VSAY_DRAIN_SECONDS="3600", VSAY_HEALTH_PORT=str(port), VSAY_WORKER_NAME="first")
    api = parts.start("session_api")
    client, admin = parts.client(api, tokens["usr_123"]), parts.client(api, tokens["usr_admin"])
    tickets = [await client.open("mch_456") for _ in range(2)]
    async with client.terminal(tickets[0]) as goes_on, client.terminal(tickets[1]) as ends:
        await ready(goes_on)
        await ready(ends)
        assert (await asked(port, "/readyz"))[0] == 200
        os.kill(worker.pid, signal.SIGTERM)
        for terminal in (goes_on, ends):
            warning = await terminal.until("warning")
            assert (warning["reason"], warning["ends_in_seconds"]) == ("worker_drained", 3600)
        assert (await asked(port, "/readyz"))[0] == 503
        assert (await asked(port, "/healthz"))[0] == 200
        assert (await metrics(port))["vsay_worker_draining"] == 1

        async def seen_draining() -> bool:
            listed = (await admin.data("GET", "/v1/workers"))["workers"]
            return [(each["name"], each["sessions"], each["draining"]) for each in listed] == [("first", 2, True)]

        await eventually(seen_draining)
        await ready(goes_on)
        later = await client.open("mch_456")
        parts.start("ssh_worker", VSAY_WORKER_NAME="second")
        async with client.terminal(later) as elsewhere:
            await ready(elsewhere)
            await goes_on.type("exit 3\n")
            assert (await goes_on.until("disconnect"))["exit_status"] == 3
            os.kill(worker.pid, signal.SIGTERM)
            assert (await ends.until("disconnect"))["reason"] == "worker_drained"
            await ready(elsewhere)
    await eventually(lambda: asyncio.sleep(0, worker.exit_status is not None))
    assert worker.exit_status == 0
    for ticket in tickets:
        verify(await parts.record(ticket["session_id"]))

    async def gone() -> bool:
        return [each["name"] for each in (await admin.data("GET", "/v1/workers"))["workers"]] == ["second"]

    await eventually(gone)


async def test_terminating_hangs_up_even_on_a_machine_that_does_not_answer_any_more(parts: Installation) -> None:
    async with proxy_to(parts.openssh.port) as network:
        tokens = await parts.declare(parts.machine(), parts.machine("mch_stuck", port=network.port))
        parts.start("ssh_worker")
        client = parts.client(parts.start("session_api"), tokens["usr_123"])
        sign = parts.directory / "hung-up"
        tickets = [await client.open(id_) for id_ in ("mch_456", "mch_stuck")]
        async with client.terminal(tickets[0]) as plain, client.terminal(tickets[1]) as stuck:
            await ready(stuck)
            await plain.type(f"trap 'touch {sign}; exit' HUP; echo re''ady; while :; do sleep 0.1; done\n")
            await plain.shows("ready")
            network.freeze()
            for ticket, terminal in zip(tickets, (plain, stuck), strict=True):
                assert await client.call("DELETE", f"/v1/sessions/{ticket['session_id']}") == (
                    200,
                    {"success": True, "message": "Session terminated successfully"},
                )
                assert (await terminal.until("disconnect"))["reason"] == "terminated"
            await eventually(lambda: asyncio.sleep(0, sign.exists()))
    for ticket in tickets:
        verify(await parts.record(ticket["session_id"]))


async def test_a_request_that_is_too_old_when_it_is_claimed_is_not_carried_out(parts: Installation) -> None:
    await parts.declare()
    command = OpenSession(
        session_id="sess_old",
        org_id="org_acme",
        user=Person("usr_123", "John Doe", "john@example.com"),
        machine=parts.machine(),
        cols=80,
        rows=24,
        ip_address="",
        user_agent="",
        requested_at=datetime.now(UTC) - timedelta(hours=1),
    )
    async with parts.jetstream() as jetstream:
        await jetstream.publish(subjects.OPEN_SESSION, msgspec.msgpack.encode(command))
        await jetstream.publish(subjects.OPEN_SESSION, b"no command at all")
    parts.start("ssh_worker")

    async def empty() -> bool:
        async with parts.jetstream() as jetstream:
            return (await jetstream.stream_info(COMMANDS.name)).state.messages == 0

    await eventually(empty)
    record = await parts.record("sess_old")
    verify(record)
    assert [each.type for each in record] == ["claimed", "ended"]
    assert record[-1].event().code == "no_capacity"


async def test_only_admins_see_the_workers(parts: Installation) -> None:
    tokens = await parts.declare()
    parts.start("ssh_worker", VSAY_WORKER_NAME="first", VSAY_WORKER_PLACES="7")
    api = parts.start("session_api")

    async def listed() -> bool:
        workers = (await parts.client(api, tokens["usr_admin"]).data("GET", "/v1/workers"))["workers"]
        return [(each["name"], each["places"], each["sessions"], each["draining"]) for each in workers] == [("first", 7, 0, False)]

    await eventually(listed)
    for user in ("usr_123", "usr_auditor"):
        status, answer = await parts.client(api, tokens[user]).call("GET", "/v1/workers")
        assert (status, answer["error"]["code"]) == (403, "forbidden")


async def test_several_processes_are_one_worker_to_the_outside(parts: Installation) -> None:
    tokens = await parts.declare()
    port = free_port()
    settings = {"VSAY_WORKER_PROCESSES": "2", "VSAY_WORKER_PLACES": "3", "VSAY_WORKER_NAME": "many"}
    worker = parts.start("ssh_worker", VSAY_DRAIN_SECONDS="3600", VSAY_HEALTH_PORT=str(port), **settings)
    api = parts.start("session_api")
    client, admin = parts.client(api, tokens["usr_123"]), parts.client(api, tokens["usr_admin"])

    async def both_ready() -> bool:
        return (await asked(port, "/readyz"))[0] == 200

    await eventually(both_ready)
    tickets = [await client.open("mch_456") for _ in range(3)]  # as many as there are places: both processes must take some
    terminals = [client.terminal(ticket) for ticket in tickets]
    async with terminals[0] as first, terminals[1] as second, terminals[2] as third:
        for terminal in (first, second, third):
            await ready(terminal)
        found = await metrics(port)
        assert (found["vsay_worker_places"], found["vsay_worker_sessions"], found["vsay_sessions_claimed_total"]) == (3, 3, 3)

        async def both_listed() -> bool:
            listed = (await admin.data("GET", "/v1/workers"))["workers"]
            return [(each["name"], each["places"], each["sessions"]) for each in listed] == [("many-1", 2, 2), ("many-2", 1, 1)]

        await eventually(both_listed)
        os.kill(worker.pid, signal.SIGTERM)
        for terminal in (first, second, third):
            assert (await terminal.until("warning"))["reason"] == "worker_drained"
        status, body = await asked(port, "/readyz")
        assert status == 503
        assert set(json.loads(body)["checks"]) == {"process-1", "process-2"}
        assert (await asked(port, "/healthz"))[0] == 200
        os.kill(worker.pid, signal.SIGTERM)
        for terminal in (first, second, third):
            assert (await terminal.until("disconnect"))["reason"] == "worker_drained"
    await eventually(lambda: asyncio.sleep(0, worker.exit_status is not None))
    assert worker.exit_status == 0


async def test_a_process_that_dies_is_started_again_and_none_outlives_its_parent(parts: Installation) -> None:
    await parts.declare()
    port = free_port()
    worker = parts.start("ssh_worker", VSAY_WORKER_PROCESSES="2", VSAY_HEALTH_PORT=str(port), VSAY_WORKER_NAME="many")

    async def both_ready() -> bool:
        return (await asked(port, "/readyz"))[0] == 200

    await eventually(both_ready)
    before = children(worker)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)

    async def another() -> bool:
        return len(children(worker) - before) == 1 and await both_ready()

    await eventually(another)
    assert (await metrics(port))["vsay_worker_process_restarts_total"] == 1
    orphans = children(worker)
    worker.stop(kill=True)

    async def all_gone() -> bool:
        return not any(runs(pid) for pid in orphans)

    await eventually(all_gone)


async def test_a_first_use_is_pinned_and_recorded_and_a_changed_key_refused(parts: Installation) -> None:
    tokens = await parts.declare(parts.machine(host_keys=(), trust_on_first_use=True))
    parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    counts = []
    for _ in range(2):
        ticket = await client.open("mch_456")
        async with client.terminal(ticket) as terminal:
            await ready(terminal)
            await terminal.type("exit\n")
            await terminal.until("disconnect")
        record = await parts.record(ticket["session_id"])
        verify(record)
        pinned = [each.event() for each in record if each.type == "host_key_pinned"]
        assert all(each.host_key == parts.openssh.host_key for each in pinned)
        counts.append(len(pinned))
    assert counts == [1, 0]
    await asyncio.to_thread(parts.openssh.stop)
    parts.openssh.new_host_key()
    await asyncio.to_thread(parts.openssh.start)
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        assert (await terminal.until("disconnect"))["code"] == "host_key_mismatch"


async def test_the_way_leads_through_the_declared_jump_host_with_the_clients_environment(parts: Installation) -> None:
    jump = parts.machine("mch_jump")
    behind = parts.machine("mch_behind", jump="mch_jump", environment_allowed=("LC_*",))
    tokens = await parts.declare(jump, behind)
    parts.openssh.settings.append("AcceptEnv LC_*")
    await asyncio.to_thread(parts.openssh.restart)
    parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    body = {"machine_id": "mch_behind", "terminal_size": {"cols": 80, "rows": 24}, "environment": {"LC_TIME": "marked"}}
    ticket = await client.data("POST", "/v1/sessions", body)
    async with client.terminal(ticket) as terminal:
        await terminal.type("echo $LC_TIME; exit\n")
        await terminal.shows("marked")
        await terminal.until("disconnect")
    record = await parts.record(ticket["session_id"])
    assert record[0].event().environment == {"LC_TIME": "marked"}
    started = next(each.event() for each in record if each.type == "started")
    assert started.jumps == ("mch_jump",)
    status, answer = await client.call("POST", "/v1/sessions", body | {"environment": {"LD_PRELOAD": "x"}})
    assert (status, answer["error"]["code"], list(answer["error"]["fields"])) == (
        422,
        "invalid_request",
        ["environment.LD_PRELOAD"],
    )


def children(service: Service) -> set[int]:
    """Process ids of the running processes that it started."""
    listed = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    return {int(pid) for pid in listed if runs(int(pid))}


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
