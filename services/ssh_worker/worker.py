"""The worker's places: takes commands while it has free ones, owns a session in each, and drains when it is told to stop."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.aio.msg import Msg

from contracts.commands import OpenSession
from contracts.events import EndReason
from contracts.streams import SSH_WORKERS
from services.ssh_worker.lease import Lease
from services.ssh_worker.metrics import WorkerMetrics
from services.ssh_worker.owner import Bus, Owner
from services.ssh_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

LAST_SECONDS: Final = 10.0
"""How long sessions that are being ended may take to get their end stored when the process stops."""

_decoder = msgspec.msgpack.Decoder(OpenSession)


class Worker:
    """At most `worker_places` sessions at a time; `claim` returns only when there is a place for the next."""

    def __init__(self, bus: Bus, settings: WorkerSettings, metrics: WorkerMetrics, name: str) -> None:
        self.name = name
        self._bus = bus
        self._settings = settings
        self._metrics = metrics
        self._owners: dict[asyncio.Task[None], Owner] = {}
        self._place_free = asyncio.Event()
        self._place_free.set()
        self._stopping = False
        metrics.places.set(settings.worker_places)
        metrics.sessions.set_function(lambda: len(self._owners))

    def __len__(self) -> int:
        return len(self._owners)

    async def ready(self) -> None:
        """Raises when no commands are taken any more, or JetStream does not answer."""
        if self._stopping:
            raise DrainingError("the worker drains")
        await self._bus.jetstream.consumer_info(SSH_WORKERS.stream, SSH_WORKERS.durable)

    async def claim(self, message: Msg) -> None:
        """Take the command in `message` and own its session; what is no command is set aside."""
        if self._stopping:
            await message.nak()
            return
        try:
            command = _decoder.decode(message.data)
        except msgspec.MsgspecError as error:
            log.error("a command that cannot be decoded was set aside (%s): %s", error, message.data[:2000].hex())
            await message.term()
            return
        self._metrics.claimed.inc()
        self._metrics.waited_seconds.observe(max(0.0, (datetime.now(UTC) - command.requested_at).total_seconds()))
        stall_seconds = self._settings.stall_seconds
        lease = Lease(self._bus.nats, message.reply, self._metrics, clock=time.monotonic, stall_seconds=stall_seconds)
        owner = Owner(command, lease, self._bus, self._settings, self._metrics, self.name)
        task = asyncio.create_task(owner.run(), name=command.session_id)
        self._owners[task] = owner
        task.add_done_callback(self._ended)
        if len(self._owners) >= self._settings.worker_places:
            self._place_free.clear()
        await self._place_free.wait()

    def stop_claiming(self) -> None:
        """From now on commands go to other workers."""
        self._stopping = True
        self._metrics.draining.set(1)
        self._place_free.set()

    async def drain(self) -> None:
        """Let sessions go on for `drain_seconds`, then end the rest as `worker_drained` and see that this is stored."""
        if self._owners and self._settings.drain_seconds:
            log.info("draining: %d sessions, for up to %.0f s", len(self._owners), self._settings.drain_seconds)
            await asyncio.wait(self._owners, timeout=self._settings.drain_seconds)
        for owner in self._owners.values():
            owner.stop(EndReason.WORKER_DRAINED, "the worker stops")
        if self._owners:
            await asyncio.wait(self._owners, timeout=LAST_SECONDS)
        for task in list(self._owners):
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        owner = self._owners.pop(task)
        if not task.cancelled() and (error := task.exception()):
            self._metrics.abandoned.inc()
            log.error("session %s: its owner failed; another worker will end it", owner.session_id, exc_info=error)
        self._place_free.set()


class DrainingError(Exception):
    """The worker has been told to stop."""
