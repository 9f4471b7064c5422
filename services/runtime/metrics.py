"""Prometheus metrics of a process: each service makes its own in one registry, and serves the text as `/metrics`.

Nothing is registered at import. `of` gives what `services.runtime.health.serve` takes.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""Of the text, as Prometheus asks for it."""

type Metrics = Callable[[], Awaitable[bytes]]
"""Gives the present text."""


def registry() -> CollectorRegistry:
    """A new registry that shows the process itself already: memory, CPU time, open files, garbage collections."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    GCCollector(registry=made)
    return made


def of(registry: CollectorRegistry) -> Metrics:
    """The text of what is in `registry`."""

    async def text() -> bytes:
        return generate_latest(registry)

    return text
