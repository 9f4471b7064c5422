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

from services.ssh_worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

ANSWER_SECONDS_MAX: Final = 2.0
RETRY_SECONDS: Final = 1.0

IN_PROGRESS: Final = b"+WPI"
ACKNOWLEDGED: Final = b"+ACK"


class LeaseLostError(Exception):
    """The command may have been given to another worker by now."""


class Lease:
    """One command's lease. `clock` counts seconds and must not stand still while the process does."""

    def __init__(
        self,
        nats: Client,
        acknowledge_subject: str,
        metrics: WorkerMetrics,
        *,
        clock: Callable[[], float],
        renew_seconds: float,
        stall_seconds: float,
    ) -> None:
        """`renew_seconds` between renewals; unconfirmed for `stall_seconds`, the lease is given up."""
        self._nats = nats
        self._metrics = metrics
        self._subject = acknowledge_subject
        self._clock = clock
        self._renew_seconds = renew_seconds
        self._stall_seconds = stall_seconds
        self._confirmed_at = clock()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have been given the command yet."""
        return self._clock() - self._confirmed_at < self._stall_seconds

    @property
    def _left_seconds(self) -> float:
        return max(0.0, self._confirmed_at + self._stall_seconds - self._clock())

    async def keep(self) -> None:
        """Renew until cancelled. Raises `LeaseLostError` once renewals went unconfirmed for too long."""
        while True:
            await asyncio.sleep(self._renew_seconds)
            while not await self._say(IN_PROGRESS):
                if not self.is_held:
                    raise LeaseLostError(f"the lease was not confirmed for {self._stall_seconds:.0f} s")
                await asyncio.sleep(min(RETRY_SECONDS, self._left_seconds))

    async def release(self) -> None:
        """The session has ended and that is stored: the command is done. When this is lost, the next worker finds the end."""
        if not await self._say(ACKNOWLEDGED):
            log.warning("the end of a lease was not confirmed; its command will come again and be found done")

    async def _say(self, word: bytes) -> bool:
        asked_at = self._clock()
        if not self.is_held:
            return False
        try:
            await self._nats.request(self._subject, word, timeout=min(ANSWER_SECONDS_MAX, self._left_seconds))
        except (NatsError, TimeoutError) as error:
            log.warning("lease: %s not confirmed: %s", word.decode(), type(error).__name__)
            self._metrics.unconfirmed_renewals.inc()
            return False
        self._confirmed_at = asked_at
        return True
