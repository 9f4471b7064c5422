"""This process's entry in bucket `workers`: there while it runs, and up to date within seconds."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from contracts.workers import WorkerView

REFRESH_SECONDS: Final = 5.0
"""A quarter of what the bucket keeps an entry for."""

log = logging.getLogger(__name__)


class Presence:
    """Written by this process alone."""

    def __init__(self, bucket: KeyValue, view: Callable[[], WorkerView]) -> None:
        """`view` says what the process is like right now."""
        self._bucket = bucket
        self._view = view
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Write soon, not only at the next refresh."""
        self._changed.set()

    async def keep(self) -> None:
        """Write until cancelled; then the entry is removed."""
        try:
            while True:
                self._changed.clear()
                await self._write()
                try:
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    pass  # it is time to refresh
        finally:
            await self._remove()

    async def _write(self) -> None:
        view = self._view()
        try:
            await self._bucket.put(view.name, view.encode())
        except (NatsError, TimeoutError) as error:
            log.warning("the entry in bucket workers was not refreshed: %s", type(error).__name__)

    async def _remove(self) -> None:
        try:
            await self._bucket.delete(self._view().name)
        except (NatsError, TimeoutError) as error:
            log.warning("the entry in bucket workers ages out by itself: %s", type(error).__name__)
