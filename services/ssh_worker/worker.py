"""The worker's places: takes commands while it has free ones, owns a session in each, and drains when it is told to stop."""

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext

from contracts.commands import OpenSession
from contracts.events import EndReason
from contracts.streams import SSH_WORKERS
from contracts.workers import WorkerView
from services.runtime.version import VERSION
from services.ssh_worker.lease import Lease
from services.ssh_worker.metrics import WorkerMetrics
from services.ssh_worker.owner import Bus, Owner
from services.ssh_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

PULL_SECONDS: Final = 1.0
"""How long one request for a command waits at the server, and with it a stop; one that was lost is made again after this."""

BACK_OFF_SECONDS: Final = 1.0

HURRY_SECONDS: Final = 3.0
"""What is left of a drain after the second SIGTERM."""

LAST_SECONDS: Final = 10.0
"""How long sessions that are being ended may take to get their end stored when the process stops."""

_decoder = msgspec.msgpack.Decoder(OpenSession)


class DrainingError(Exception):
    """The worker has been told to stop."""


class Worker:
    """At most `worker_places` sessions at a time. `stop` it once, and again to make it hurry."""

    def __init__(self, bus: Bus, settings: WorkerSettings, metrics: WorkerMetrics, name: str) -> None:
        self.name = name
        self._bus = bus
        self._settings = settings
        self._metrics = metrics
        self._started_at = datetime.now(UTC)
        self._owners: dict[asyncio.Task[None], Owner] = {}
        self._changed = asyncio.Event()
        self._told = asyncio.Event()
        self._drain_until = math.inf
        metrics.places.set(settings.worker_places)
        metrics.sessions.set_function(lambda: len(self._owners))

    def view(self) -> WorkerView:
        """What the worker is like right now."""
        return WorkerView(
            name=self.name,
            places=self._settings.worker_places,
            sessions=len(self._owners),
            draining=self._told.is_set(),
            version=VERSION,
            started_at=self._started_at,
        )

    async def ready(self) -> None:
        """Raises when no commands are taken any more, or JetStream does not answer."""
        if self._told.is_set():
            raise DrainingError("the worker drains")
        await self._bus.jetstream.consumer_info(SSH_WORKERS.stream, SSH_WORKERS.durable)

    async def run(self) -> None:
        """Claim sessions until `stop`, then drain; returns when every session has ended or was left to another worker."""
        claiming, told = asyncio.create_task(self._claim_for_ever()), asyncio.create_task(self._told.wait())
        await asyncio.wait((claiming, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not self._told.is_set():  # claiming has failed
            self.stop()
        await self._drain()
        await claiming

    def stop(self) -> None:
        """Take no more commands from now on. The second time: let the drain take `HURRY_SECONDS` more at most."""
        seconds = HURRY_SECONDS if self._told.is_set() else self._settings.drain_seconds
        self._drain_until = min(self._drain_until, time.monotonic() + seconds)
        self._told.set()
        self._metrics.draining.set(1)
        self._changed.set()

    async def _claim_for_ever(self) -> None:
        """Ask for a command whenever there is a free place, until `stop`; what was on its way then goes to another worker.

        Not with a subscriber of FastStream 0.7: it leaves its last request at the server, and a command that is sent to it comes
        again only after `ack_wait`.
        """
        subscription = await self._bus.jetstream.pull_subscribe_bind(SSH_WORKERS.durable, SSH_WORKERS.stream)
        try:
            while not self._told.is_set():
                if len(self._owners) >= self._settings.worker_places:
                    await self._change()
                    continue
                for message in await _fetch(subscription):
                    await self._claim(message)
            while subscription.pending_msgs:
                for message in await _fetch(subscription):
                    await message.nak()
        finally:
            await subscription.unsubscribe()

    async def _drain(self) -> None:
        """Let sessions go on until `drain_seconds` after `stop`, then end the rest as `worker_drained`; all ends are stored."""
        left = self._drain_until - time.monotonic()
        if self._owners and left > 0:
            log.info("draining: %d sessions, for up to %.0f s", len(self._owners), left)
            for owner in self._owners.values():
                owner.warn(EndReason.WORKER_DRAINED, f"the worker stops: the session ends in {left:.0f} s", left)
        while self._owners and (left := self._drain_until - time.monotonic()) > 0:
            await self._change(left)
        for owner in self._owners.values():
            owner.stop(EndReason.WORKER_DRAINED, "the worker stops")
        if self._owners:
            await asyncio.wait(self._owners, timeout=LAST_SECONDS)
        for task in list(self._owners):
            task.cancel()

    async def _claim(self, message: Msg) -> None:
        """Take the command in `message` and own its session; what is no command is set aside."""
        if self._told.is_set():
            await message.nak()
            return
        try:
            command = _decoder.decode(message.data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("a command that cannot be decoded was set aside (%s): %s", error, message.data[:2000].hex())
            await message.term()
            return
        self._metrics.claimed.inc()
        self._metrics.waited_seconds.observe(max(0.0, (datetime.now(UTC) - command.requested_at).total_seconds()))
        lease = Lease(
            self._bus.nats,
            message.reply,
            self._metrics,
            clock=time.monotonic,
            renew_seconds=self._settings.lease_seconds / 6,
            stall_seconds=self._stall_seconds,
        )
        owner = Owner(command, lease, self._bus, self._settings, self._metrics, self.name, self._stall_seconds)
        task = asyncio.create_task(owner.run(), name=command.session_id)
        self._owners[task] = owner
        task.add_done_callback(self._ended)

    @property
    def _stall_seconds(self) -> float:
        """A session that cannot be sure of its lease or its record for so long ends itself, before another worker is given it."""
        return min(self._settings.stall_seconds, self._settings.lease_seconds * 2 / 3)

    async def _change(self, seconds_max: float | None = None) -> None:
        """Returns when a session has ended, when `stop` was called, or after `seconds_max`."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds_max):
                await self._changed.wait()
        except TimeoutError:
            pass  # long enough

    def _ended(self, task: asyncio.Task[None]) -> None:
        owner = self._owners.pop(task)
        if not task.cancelled() and (error := task.exception()):
            self._metrics.abandoned.inc()
            log.error("session %s: its owner failed; another worker will end it", owner.session_id, exc_info=error)
        self._changed.set()


async def _fetch(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    """One command, or none when none came."""
    try:
        return await subscription.fetch(1, timeout=PULL_SECONDS)
    except (NatsTimeoutError, TimeoutError):
        return []
    except NatsError as error:
        log.warning("the queue does not answer: %s", type(error).__name__)
        await asyncio.sleep(BACK_OFF_SECONDS)
        return []
