"""Sessions that go on and on, and the publisher's own account of what it published."""

import asyncio
import hashlib
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from benchmarks.audit.history import sessions
from contracts import subjects, wire
from contracts.wire import Recorded

AT_ONCE = 256
"""Events on their way to the stream."""

RETRY_SECONDS = 0.5
DAYS = 0.2
ENDLESS = 2**31


class Account(Struct):
    """One session, as far as the stream has confirmed it: what ClickHouse is to have."""

    events: int = 0
    commands: int = 0
    texts: int = 0
    chains: bytes = b""
    """SHA-256 over all chains so far, one after the other in order: each chain is over its whole event."""


class Producer:
    """Events of `at_once` sessions, mixed, `per_second` altogether; 0: as fast as the stream takes them."""

    def __init__(self, jetstream: JetStreamContext, seed: int, at_once: int, per_second: float) -> None:
        self.published = 0
        self._jetstream = jetstream
        self._randomness = random.Random(seed)
        self._open: list[Iterator[Recorded]] = []
        self._sessions = sessions(seed, ENDLESS, datetime.now(UTC), DAYS)
        self._at_once = at_once
        self._per_second = per_second
        self._accounts: dict[str, Account] = {}
        self._digests: dict[str, hashlib._Hash] = {}
        self._stopping = False

    def stop(self) -> None:
        """Publish no more; `run` returns when what is on its way is confirmed."""
        self._stopping = True

    async def run(self, events: int = ENDLESS) -> None:
        """Publish until `stop`, or so many."""
        began, due = time.monotonic(), self.published
        until = self.published + events
        while not self._stopping and self.published < until:
            if self._per_second:
                due_now = due + (time.monotonic() - began) * self._per_second
                if self.published >= due_now:
                    await asyncio.sleep((self.published + 1 - due_now) / self._per_second)
                    continue
            # Of each session one event at a time, in order, as its worker would.
            batch = self._next(min(AT_ONCE, until - self.published) if not self._per_second else 1)
            await asyncio.gather(*(self._publish(event) for event in batch))
            for event in batch:
                self._note(event)

    def accounts(self) -> dict[str, Account]:
        """By session; final once `run` has returned."""
        for session_id, digest in self._digests.items():
            self._accounts[session_id].chains = digest.digest()
        return self._accounts

    def write(self, path: Path) -> None:
        """The accounts as JSON, one session a line."""
        with path.open("wb") as file:
            for session_id, account in sorted(self.accounts().items()):
                line = {"session_id": session_id, **msgspec.structs.asdict(account), "chains": account.chains.hex()}
                file.write(msgspec.json.encode(line) + b"\n")

    def _next(self, count: int) -> list[Recorded]:
        while len(self._open) < self._at_once:
            self._open.append(iter(next(self._sessions)))
        found: list[Recorded] = []
        for number in self._randomness.sample(range(len(self._open)), min(count, len(self._open))):
            event = next(self._open[number], None)
            if event is None:
                self._open[number] = iter(next(self._sessions))
                event = next(self._open[number])
            found.append(event)
        return found

    async def _publish(self, event: Recorded) -> None:
        """Until the stream has it; its id keeps a repeated publish from being stored twice."""
        headers = {"Nats-Msg-Id": f"{event.session_id}:{event.seq}"}
        while True:
            try:
                await self._jetstream.publish(
                    subjects.event(event.session_id, event.type), wire.encode(event), timeout=10, headers=headers
                )
            except (NatsError, TimeoutError):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _note(self, event: Recorded) -> None:
        account = self._accounts.setdefault(event.session_id, Account())
        if event.seq != account.events + 1:
            raise AssertionError(f"{event.session_id}: {event.seq} follows {account.events}")
        account.events += 1
        account.commands += event.type == "command"
        account.texts += event.type == "text"
        self._digests.setdefault(event.session_id, hashlib.sha256()).update(event.chain)
        self.published += 1
