"""When the record gets a picture of the screen, so that a replay need not begin at the beginning."""

import codecs
import re
from typing import Final

KEYFRAME_OUTPUT_BYTES: Final = 8 * 1024 * 1024
"""Of output between two keyframes. An emulator draws this in about half a second."""

KEYFRAME_OUTPUTS: Final = 2000
"""Output events between two keyframes, for sessions of many small ones."""

KEYFRAME_BYTES_MAX: Final = 128 * 1024
"""A picture that takes more is not kept."""

KEYFRAME_CELLS_MAX: Final = 16_384
"""Of a larger terminal none is taken: drawing it takes tens of milliseconds, in which every terminal of the worker stands still."""


LOOKS_BACK_MAX: Final = 64
"""Control sequences that are looked at, from the end, for the last one that sets colours."""

UTF8_BYTES_MAX: Final = 4


class Keyframes:
    """Follows a session's output.

    A picture keeps what is on the screen, but not the colours that a program has set for what it writes next, nor a
    sequence that has begun: one is due only where there is nothing of either.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._outputs = 0
        self._plain = True

    def is_due(self, data: bytes, cols: int, rows: int) -> bool:
        """Whether one is due after this output, on a terminal of this size."""
        self._bytes += len(data)
        self._outputs += 1
        if (plain := leaves_plain(data)) is not None:
            self._plain = plain
        if self._bytes < KEYFRAME_OUTPUT_BYTES and self._outputs < KEYFRAME_OUTPUTS:
            return False
        return self._plain and ends_whole(data) and cols * rows <= KEYFRAME_CELLS_MAX

    def taken(self) -> None:
        """Begin to count anew."""
        self._bytes = self._outputs = 0


def leaves_plain(data: bytes) -> bool | None:
    """Whether what is written after this output has no colours or other looks; None when it changes nothing in that.

    Where that cannot be told soon, the answer is no.
    """
    start = data.rfind(b"\x1b")
    if start >= 0 and not _WHOLE.match(data, start):
        return False
    for _ in range(LOOKS_BACK_MAX):
        if start < 0:
            return None
        if look := _LOOK.match(data, start):
            return look[1] in (b"", b"0")
        start = data.rfind(b"\x1b", 0, start)
    return False


def ends_whole(data: bytes) -> bool:
    """Whether no character and no control sequence goes on after this output: a picture does not keep what has begun.

    Where that cannot be told, because it has neither a line's end nor a sequence, the answer is no.
    """
    if _decoder_state(data[-UTF8_BYTES_MAX:]):
        return False
    start = data.rfind(b"\x1b")
    return _WHOLE.match(data, start) is not None if start >= 0 else b"\n" in data


_WHOLE: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07]*\x07|(?![\[\]PX^_])[ -/]*[0-~])",
    re.DOTALL,
)
"""A control sequence from its ESC to its end (ECMA-48; a string that BEL ends as xterm has it, one that ST ends has ESC again)."""

_LOOK: Final = re.compile(rb"\x1b\[([0-9;:]*)m")


def _decoder_state(end: bytes) -> bytes:
    """The bytes of a character that has begun."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(end)
    return decoder.getstate()[0]
