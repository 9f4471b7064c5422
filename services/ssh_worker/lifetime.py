"""When a session has to end by itself: nobody has typed for too long, or it has run for too long. Pure."""

from typing import Final

from msgspec import Struct

from contracts.directory import Machine
from contracts.events import EndReason
from services.ssh_worker.session import EndIsNear, Stopped

LOOK_SECONDS_MAX: Final = 3600.0
"""From one look to the next, at most."""


class Limits(Struct, frozen=True):
    """In seconds; 0 means never. Viewers are warned `warn` seconds before, or half of a shorter limit before."""

    idle: float
    duration: float
    warn: float


class Lifetime:
    """Of one session whose shell has run since `now`. Times are seconds of one clock."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._began_at = self._typed_at = now
        self._warned: set[EndReason] = set()

    def typed(self, now: float) -> None:
        """A driver typed."""
        self._typed_at = now
        self._warned.discard(EndReason.IDLE_TIMEOUT)

    def look(self, now: float) -> tuple[EndIsNear | Stopped | None, float]:
        """What is due at `now`, and when to look again."""
        again_at = now + LOOK_SECONDS_MAX
        for reason, since, limit, message in (
            (EndReason.IDLE_TIMEOUT, self._typed_at, self._limits.idle, "nobody has typed"),
            (EndReason.MAX_DURATION, self._began_at, self._limits.duration, "the session has run"),
        ):
            if not limit:
                continue
            ends_at = since + limit
            warn_at = ends_at - min(self._limits.warn, limit / 2)
            if now >= ends_at:
                return Stopped(reason, f"{message} for {limit:.0f} s"), now
            if now >= warn_at and reason not in self._warned:
                self._warned.add(reason)
                left = round(ends_at - now)
                return EndIsNear(reason, f"the session ends in {left} s: {message} for {now - since:.0f} s", left), now
            again_at = min(again_at, ends_at if reason in self._warned else warn_at)
        return None, again_at


def limits(machine: Machine, idle_seconds: float, duration_seconds: float, warn_seconds: float) -> Limits:
    """The machine's own limits where it has some, else the given defaults."""
    idle, duration = machine.idle_timeout_seconds, machine.max_duration_seconds
    return Limits(
        idle=idle_seconds if idle is None else idle,
        duration=duration_seconds if duration is None else duration,
        warn=warn_seconds,
    )
