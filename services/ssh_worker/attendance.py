"""Who watches a session, how far each has been sent the output, and how much more may be produced for them. Pure."""

from collections import deque
from typing import Final

from msgspec import Struct

from contracts.events import Role

CREDIT_BYTES_MAX: Final = 64 * 1024
"""Output that may be on its way to the driver: published, stored, and not yet written to its socket.

Measured (`benchmarks/terminal`): twice as much is no faster, and keys of other sessions wait longer behind a flood.
"""

SILENCE_SECONDS_MAX: Final = 20.0
"""A viewer whose gateway has said nothing for this long is gone."""


class Viewer(Struct):
    """One attached viewer: `seq` and `bytes_total` are how far it has been sent the output."""

    role: Role
    heard_at: float
    seq: int
    bytes_total: int


class Attendance:
    """The viewers of one session. The driver that is furthest ahead sets the pace; observers never do."""

    def __init__(self) -> None:
        self._viewers: dict[str, Viewer] = {}
        self._frames: deque[tuple[int, int]] = deque()
        """(seq, bytes_total) of the output events that some driver may still lack, and always of the last one."""
        self._bytes_total = 0

    def __len__(self) -> int:
        return len(self._viewers)

    def __contains__(self, viewer_id: str) -> bool:
        return viewer_id in self._viewers

    def role_of(self, viewer_id: str) -> Role | None:
        """What the viewer may do; None when it is not attached."""
        viewer = self._viewers.get(viewer_id)
        return viewer.role if viewer else None

    def attach(self, viewer_id: str, role: Role, *, seq: int, now: float) -> None:
        """A viewer that is sent everything after event `seq`. A driver that begins further back is waited for."""
        reached = self._bytes_up_to(seq)
        self._viewers[viewer_id] = Viewer(role, now, seq, self._bytes_total - CREDIT_BYTES_MAX if reached is None else reached)

    def detach(self, viewer_id: str) -> None:
        """The viewer has gone."""
        self._viewers.pop(viewer_id, None)

    def produced(self, seq: int, bytes_total: int) -> None:
        """Output event `seq` was recorded; the session's output now has `bytes_total` bytes."""
        self._bytes_total = bytes_total
        if not self._has_driver():
            self._frames.clear()
        self._frames.append((seq, bytes_total))

    def credited(self, viewer_id: str, seq: int, *, now: float) -> None:
        """The viewer has been sent everything up to and with event `seq`."""
        viewer = self._viewers.get(viewer_id)
        if viewer is None:
            return
        viewer.heard_at = now
        viewer.seq = max(viewer.seq, seq)
        viewer.bytes_total = max(viewer.bytes_total, self._bytes_up_to(viewer.seq) or 0)
        if viewer.role is Role.DRIVER:
            self._forget_frames_up_to(max(each.seq for each in self._viewers.values() if each.role is Role.DRIVER))

    def may_produce(self) -> bool:
        """Whether more output may be made now; without a driver always."""
        furthest = max((viewer.bytes_total for viewer in self._viewers.values() if viewer.role is Role.DRIVER), default=None)
        return furthest is None or self._bytes_total - furthest < CREDIT_BYTES_MAX

    def silent(self, now: float) -> list[str]:
        """The viewers that have not been heard of for too long."""
        return [viewer_id for viewer_id, viewer in self._viewers.items() if now - viewer.heard_at > SILENCE_SECONDS_MAX]

    def _has_driver(self) -> bool:
        return any(viewer.role is Role.DRIVER for viewer in self._viewers.values())

    def _bytes_up_to(self, seq: int) -> int | None:
        """How much output a viewer has that was sent everything up to `seq`; None when that is further back than is known."""
        reached = None if self._frames else self._bytes_total
        for frame_seq, bytes_total in self._frames:
            if frame_seq > seq:
                break
            reached = bytes_total
        return reached

    def _forget_frames_up_to(self, seq: int) -> None:
        while len(self._frames) > 1 and self._frames[1][0] <= seq:
            self._frames.popleft()
