"""The record of every session is signed at its end, whoever ends it."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts import wire
from contracts.events import SessionEnded
from contracts.proof import Verdict
from contracts.streams import ACK_WAIT_SECONDS
from contracts.wire import Recorded
from services.runtime import signing
from services.runtime.signing import PublicKeys
from tests.integration.containers import share
from tests.integration.installation import Installation, installation

WAIT_SECONDS_MAX = 60.0


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path, VSAY_SIGNING_KEY="signing") as parts:
        yield parts


async def signed(parts: Installation, session_id: str) -> tuple[SessionEnded, Verdict]:
    """The end of a session, and whether its signature is good."""
    record = await parts.record(session_id)
    chain = wire.GENESIS
    for event in record[:-1]:
        assert event.follows(chain)
        chain = event.chain
    end: Recorded = record[-1]
    assert end.follows(chain)
    ended = end.event()
    assert isinstance(ended, SessionEnded)
    async with parts.jetstream() as jetstream:
        known = await PublicKeys.load(jetstream)
    return ended, known.verdict(ended.key_id, end.statement(chain), end.data)


async def test_ends_are_signed_with_the_key_that_is_there_then(parts: Installation) -> None:
    tokens = await parts.declare()
    async with parts.jetstream() as jetstream:
        first = await signing.create(jetstream, parts.secrets, "signing")
    parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    tickets = []
    for rotate in (False, True):
        if rotate:
            async with parts.jetstream() as jetstream:
                second = await signing.create(jetstream, parts.secrets, "signing", rotate=True)
            share(parts.secrets)
        ticket = await client.open("mch_456")
        async with client.terminal(ticket) as terminal:
            await terminal.type("exit 0\n")
            assert (await terminal.until("disconnect"))["reason"] == "exited"
        tickets.append(ticket)
    for ticket, signer in zip(tickets, (first, second), strict=True):
        ended, verdict = await signed(parts, ticket["session_id"])
        assert (ended.key_id, verdict) == (signer.key_id, Verdict.GOOD)
    assert first.key_id != second.key_id


async def test_the_end_of_a_lost_workers_session_is_signed_by_the_next(parts: Installation) -> None:
    tokens = await parts.declare()
    async with parts.jetstream() as jetstream:
        signer = await signing.create(jetstream, parts.secrets, "signing")
    worker = parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type("echo mar''ker\n")
        await terminal.shows("marker")
        parts.start("ssh_worker")
        await asyncio.to_thread(worker.stop, kill=True)
        deadline = time.monotonic() + ACK_WAIT_SECONDS + WAIT_SECONDS_MAX
        while (await client.data("GET", f"/v1/sessions/{ticket['session_id']}"))["status"] == "active":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    ended, verdict = await signed(parts, ticket["session_id"])
    assert (ended.reason.value, ended.key_id, verdict) == ("worker_lost", signer.key_id, Verdict.GOOD)


async def test_without_its_key_a_worker_records_on_and_does_not_sign(parts: Installation) -> None:
    tokens = await parts.declare()
    async with parts.jetstream() as jetstream:
        await signing.create(jetstream, parts.secrets, "signing")
    worker = parts.start("ssh_worker")
    client = parts.client(parts.start("session_api"), tokens["usr_123"])
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type("echo mar''ker\n")
        await terminal.shows("marker")
        (parts.secrets / "signing.signing.pem").unlink()
        await terminal.type("exit 0\n")
        assert (await terminal.until("disconnect"))["reason"] == "exited"
    ended, _ = await signed(parts, ticket["session_id"])
    assert ended.key_id == ""
    assert "the record is not signed" in worker.log
