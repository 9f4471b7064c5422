"""The lease on a session: its un-acknowledged command, kept by telling JetStream that work is in progress.

JetStream answers a `+WPI` that has a reply subject once it has noted it, so each renewal is confirmed. A lease that
could not be confirmed for `stall_seconds` is given up before the server would give the command to another worker.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from contracts.streams import ACK_WAIT_SECONDS
from services.ssh_worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = ACK_WAIT_SECONDS / 6

IN_PROGRESS: Final = b"+WPI"
ACKNOWLEDGED: Final = b"+ACK"


class LeaseLostError(Exception):
    """The command may have been given to another worker by now."""


class Lease:
    """One command's lease. `clock` counts seconds and must not stand still while the process does."""

    def __init__(
        self, nats: Client, acknowledge_subject: str, metrics: WorkerMetrics, *, clock: Callable[[], float], stall_seconds: float
    ) -> None:
        self._nats = nats
        self._metrics = metrics
        self._subject = acknowledge_subject
        self._clock = clock
        self._stall_seconds = stall_seconds
        self._confirmed_at = clock()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have been given the command yet."""
        return self._clock() - self._confirmed_at < self._stall_seconds

    async def keep(self) -> None:
        """Renew until cancelled. Raises `LeaseLostError` once renewals went unconfirmed for too long."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            while not await self._say(IN_PROGRESS):
                if not self.is_held:
                    raise LeaseLostError(f"the lease was not confirmed for {self._stall_seconds:.0f} s")
                await asyncio.sleep(1)

    async def release(self) -> None:
        """The session has ended and that is stored: the command is done. When this is lost, the next worker finds the end."""
        if not await self._say(ACKNOWLEDGED):
            log.warning("the end of a lease was not confirmed; its command will come again and be found done")

    async def _say(self, word: bytes) -> bool:
        asked_at = self._clock()
        if not self.is_held:
            return False
        try:
            await self._nats.request(self._subject, word, timeout=2)
        except (NatsError, TimeoutError) as error:
            log.warning("lease: %s not confirmed: %s", word.decode(), type(error).__name__)
            self._metrics.unconfirmed_renewals.inc()
            return False
        self._confirmed_at = asked_at
        return True
