"""When the record gets a picture of the screen, so that a replay need not begin at the beginning."""

from typing import Final

KEYFRAME_OUTPUT_BYTES: Final = 8 * 1024 * 1024
"""Of output between two keyframes. An emulator draws this in about half a second."""

KEYFRAME_OUTPUTS: Final = 2000
"""Output events between two keyframes, for sessions of many small ones."""

KEYFRAME_BYTES_MAX: Final = 128 * 1024
"""A picture that takes more is not kept."""

KEYFRAME_CELLS_MAX: Final = 16_384
"""Of a larger terminal none is taken: drawing it takes tens of milliseconds, in which every terminal of the worker stands still."""


class Keyframes:
    """Counts a session's output; costs nothing else."""

    def __init__(self) -> None:
        self._bytes = 0
        self._outputs = 0

    def is_due(self, output_bytes: int, cols: int, rows: int) -> bool:
        """Whether one is due after this output event, on a terminal of this size; then it begins to count anew."""
        self._bytes += output_bytes
        self._outputs += 1
        if self._bytes < KEYFRAME_OUTPUT_BYTES and self._outputs < KEYFRAME_OUTPUTS:
            return False
        self._bytes = self._outputs = 0
        return cols * rows <= KEYFRAME_CELLS_MAX
