"""A session through real processes: API, worker, NATS and an OpenSSH server."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from contracts import wire
from contracts.streams import ACK_WAIT_SECONDS
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX

pytestmark = needs_openssh


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        yield parts


def verify(record: list[wire.Recorded]) -> None:
    """The record is complete and unaltered: numbers without a gap, one chain, one end, which is last."""
    chain = wire.GENESIS
    for seq, recorded in enumerate(record, start=1):
        assert recorded.seq == seq
        assert recorded.follows(chain)
        chain = recorded.chain
    assert [recorded.type for recorded in record].count("ended") == 1
    assert record[-1].type == "ended"
    assert record[0].type == "claimed"


async def test_a_session_is_recorded_from_the_claim_to_the_exit_status(parts: Installation) -> None:
    tokens = await parts.declare()
    parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    ticket = await client.open("mch_456", cols=100, rows=30)
    async with client.terminal(ticket) as terminal:
        await terminal.type("stty size; echo mar''ker\n")
        await terminal.shows("30 100")
        await terminal.shows("marker")
        await terminal.send("resize", cols=91, rows=19)
        await terminal.type("stty size\n")
        await terminal.shows("19 91")
        await terminal.type("exit 7\n")
        disconnect = await terminal.until("disconnect")
        assert (disconnect["reason"], disconnect["exit_status"]) == ("exited", 7)
        await terminal.socket.wait_closed()
        assert terminal.socket.close_code == 1000
    record = await parts.record(ticket["session_id"])
    verify(record)
    shown = "".join(message["data"] for message in terminal.messages if message["type"] == "output")
    assert shown == b"".join(each.data for each in record if each.type == "output").decode()
    claimed = record[0].event()
    started = next(each.event() for each in record if each.type == "started")
    assert (claimed.user.id, claimed.machine.id, claimed.cols, claimed.rows) == ("usr_123", "mch_456", 100, 30)
    assert started.host_key == asyncssh.import_public_key(parts.openssh.host_key).get_fingerprint()
    assert started.authentication == "publickey"


async def test_nothing_is_shown_that_the_stream_refused_to_store(tmp_path: Path) -> None:
    with installation(tmp_path, VSAY_STREAM_BYTES_MAX="1000000", VSAY_STALL_SECONDS="10") as parts:
        tokens = await parts.declare()
        parts.start("ssh_worker")
        client = parts.client(parts.start("session_api"), tokens["usr_123"])
        ticket = await client.open("mch_456")
        async with client.terminal(ticket) as terminal:
            await terminal.type("seq 1 10000000\n")
            try:
                while True:
                    async with asyncio.timeout(15):  # by then the session has decided to end, which it cannot record either
                        await terminal.next()
            except TimeoutError:
                pass  # the stream is full: nothing more is stored, so nothing more may come
            stored = await parts.record(ticket["session_id"])
            stored_output = b"".join(each.data for each in stored if each.type == "output").decode()
            shown = "".join(message["data"] for message in terminal.messages if message["type"] == "output")
            assert len(stored_output) > 100_000
            assert stored[-1].type != "ended"
            assert shown == stored_output
            async with parts.jetstream() as jetstream:
                await jetstream.purge_stream("SESSIONS", keep=1)
            assert (await terminal.until("disconnect"))["reason"] == "audit_unavailable"


async def test_the_session_of_a_killed_worker_ends_as_worker_lost(parts: Installation) -> None:
    tokens = await parts.declare()
    worker = parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type("echo mar''ker\n")
        await terminal.shows("marker")
        parts.start("ssh_worker")
        worker.stop(kill=True)
        killed_at = time.monotonic()
        while (await client.data("GET", f"/v1/sessions/{ticket['session_id']}"))["status"] == "active":
            assert time.monotonic() - killed_at < ACK_WAIT_SECONDS + WAIT_SECONDS_MAX
            await asyncio.sleep(0.2)
        assert (await terminal.until("disconnect"))["reason"] == "worker_lost"
    record = await parts.record(ticket["session_id"])
    verify(record)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"port": 1}, "unreachable", id="nothing listens"),
        pytest.param({"login": "nobody-of-this-name"}, "auth_failed", id="login refused"),
        pytest.param({"credential": "no-such-secret"}, "auth_failed", id="no credential"),
        pytest.param({"host_keys": ()}, "host_key_unknown", id="no host key pinned"),
        pytest.param(
            {"host_keys": (f"ssh-ed25519 {'AAAAC3NzaC1lZDI1NTE5AAAAI' + 'A' * 43}",)}, "host_key_mismatch", id="host key changed"
        ),
    ],
)
async def test_why_there_is_no_shell_is_told_and_recorded(parts: Installation, changed: dict[str, object], code: str) -> None:
    tokens = await parts.declare(parts.machine(**changed))
    parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        assert (await terminal.until("error"))["code"] == code
        disconnect = await terminal.until("disconnect")
        assert (disconnect["reason"], disconnect["code"]) == ("connect_failed", code)
    session = await client.data("GET", f"/v1/sessions/{ticket['session_id']}")
    assert (session["status"], session["reason"], session["code"]) == ("ended", "connect_failed", code)
    record = await parts.record(ticket["session_id"])
    verify(record)
    secret = parts.openssh.client_key.splitlines()[1]
    assert all(secret not in str(each) for each in record)
