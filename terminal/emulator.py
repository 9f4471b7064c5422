"""The screen that the output has drawn: a VT emulator that is fed only when somebody looks, and parked when nobody does."""

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from par_term_emu_core_rust import Terminal

from terminal import drawing, page

PENDING_BYTES_MAX: Final = 64 * 1024
"""Output that waits to be drawn; beyond this it is drawn, or skipped where its tail alone decides what the screen shows.

Drawing so much takes some 3 ms, in which a worker's other sessions wait.
"""

TAIL_BYTES_MAX: Final = 32 * 1024
"""The lines that decide it are looked for in so much of the end."""

SCROLLBACK_ROWS: Final = 1
"""Nobody looks at it; without any, the emulator (0.69) forgets on scrolling which rows were wrapped."""

COLOURS_MAX: Final = 64
"""Of a skipped flood, so many of the last colour changes are kept: what they say together is the colour at its end."""

RIGHT_PROMPT_INDENT_MAX: Final = 1
"""Cells between a right prompt and the edge, as zsh leaves them."""

_RIGHT_PROMPT: Final = re.compile(r" {4,}\S(?:.{0,60}\S)?$")
_COLOUR: Final = re.compile(rb"\x1b\[[0-9;:]*m")


class Screen(Struct, frozen=True):
    """`data` draws the screen on a terminal of `cols` x `rows`. `is_at_edge`: the cursor stands in the last column."""

    data: bytes
    cols: int
    rows: int
    is_at_edge: bool = False


class Emulator:
    """Feed it with `write`; every other method looks at the screen as it is after all of that."""

    def __init__(self, cols: int, rows: int) -> None:
        self.cols = cols
        self.rows = rows
        self._terminal: Terminal | None = None
        self._parked = b""
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def write(self, data: bytes) -> None:
        """Output, in pieces of any size."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > PENDING_BYTES_MAX:
            self._shorten()
            if self._pending_bytes > PENDING_BYTES_MAX:
                self._drawn()

    def resize(self, cols: int, rows: int) -> None:
        """The terminal has another size from here on."""
        self._drawn().resize(cols, rows)
        self.cols, self.rows = cols, rows

    def line(self) -> str:
        """The logical line in which the cursor stands, rows that were wrapped joined; without blanks behind the cursor.

        What stands at the right edge, away from the cursor, is a right prompt and does not belong to it.
        """
        terminal = self._drawn()
        col, row = terminal.cursor_position()
        first, last = self._rows_of_line(row)
        above = "".join(_text(terminal, each, 0, self.cols) for each in range(first, row))
        behind = "".join(_text(terminal, each, col if each == row else 0, self.cols) for each in range(row, last + 1))
        return above + _text(terminal, row, 0, col) + self._without_right_prompt(behind)

    def line_to_cursor(self) -> str:
        """As `line`, without what stands behind the cursor."""
        terminal = self._drawn()
        col, row = terminal.cursor_position()
        first, _ = self._rows_of_line(row)
        return "".join(_text(terminal, each, 0, col if each == row else self.cols) for each in range(first, row + 1))

    def line_over_full_rows(self) -> str:
        """As `line`; rows above that are full are taken for its beginning, as of an editor that wraps its line by itself."""
        line, row = self.line(), self._rows_of_line(self._drawn().cursor_position()[1])[0]
        while row > 0 and not (above := _text(self._drawn(), row - 1, 0, self.cols))[-1:].isspace() and above:
            line, row = above + line, row - 1
        return line

    def lines_above(self) -> Iterator[str]:
        """The logical lines above the one in which the cursor stands, upwards, as far as the screen goes."""
        terminal = self._drawn()
        row, _ = self._rows_of_line(terminal.cursor_position()[1])
        while row > 0:
            first, last = self._rows_of_line(row - 1)
            yield self._without_right_prompt("".join(_text(terminal, each, 0, self.cols) for each in range(first, last + 1)))
            row = first

    @property
    def is_full_screen(self) -> bool:
        """Whether a program has the alternate screen."""
        return bool(self._drawn().is_alt_screen_active())

    def screen(self) -> Screen:
        """The present screen."""
        terminal = self._drawn()
        is_at_edge = terminal.cursor_position()[0] >= self.cols - 1
        return Screen(drawing.draw(terminal, self.cols, self.rows), self.cols, self.rows, is_at_edge)

    def text(self) -> str:
        """The present screen's rows as text, without blanks at their ends and without the blank rows at the end."""
        terminal = self._drawn()
        rows = [_text(terminal, row, 0, self.cols).replace("\0", " ").rstrip() for row in range(self.rows)]
        return "\n".join(rows).rstrip("\n")

    def html(self) -> str:
        """The present screen as an HTML element that needs no style sheet and no script."""
        return page.element(self._drawn(), self.rows)

    def park(self) -> None:
        """Keep only what draws the screen anew; an emulator takes some 0.4 MB."""
        if self._terminal is not None:
            self._parked = self.screen().data
            self._terminal = None

    def _drawn(self) -> Terminal:
        if self._terminal is None:
            self._terminal = Terminal(self.cols, self.rows, scrollback=SCROLLBACK_ROWS)
            self._terminal.process(self._parked)
            self._parked = b""
        if self._pending:
            self._shorten()
            self._terminal.process(b"".join(self._pending))
            self._pending, self._pending_bytes = [], 0
        return self._terminal

    def _rows_of_line(self, row: int) -> tuple[int, int]:
        """First and last row of the logical line that has `row`."""
        terminal = self._drawn()
        first, last = row, row
        while first > 0 and terminal.is_line_wrapped(first - 1):
            first -= 1
        while last + 1 < self.rows and terminal.is_line_wrapped(last):
            last += 1
        return first, last

    def _without_right_prompt(self, cells: str) -> str:
        text = cells.rstrip()
        reaches_the_edge = len(cells) - len(text) <= RIGHT_PROMPT_INDENT_MAX
        return (_RIGHT_PROMPT.sub("", text) if reaches_the_edge else text).rstrip()

    def _shorten(self) -> None:
        """Of lines that scroll by, those that are still on the screen at the end are enough; colours of dropped ones are kept."""
        if self._pending_bytes < self.cols * self.rows:
            return
        joined = b"".join(self._pending)
        self._pending = [joined]
        end = len(joined)
        for _ in range(2 * self.rows + 2):
            end = joined.rfind(b"\n", max(len(joined) - TAIL_BYTES_MAX, 0), end)
            if end < 0:
                return
        dropped, tail = joined[: end + 1], joined[end + 1 :]
        colours = _COLOUR.findall(dropped) if b"\x1b" in dropped else []
        if len(colours) == dropped.count(b"\x1b"):
            kept = b"".join(colours[-COLOURS_MAX:])
            self._pending = [kept + b"\r\n", tail]
            self._pending_bytes = len(kept) + 2 + len(tail)


def _text(terminal: Terminal, row: int, start: int, end: int) -> str:
    """Cells `start` to `end` of a row; the second half of a wide character is no character."""
    text = terminal.get_line(row) or ""
    if text.isascii():  # each cell has one character: ten times as quick
        return str(text[start:end])
    cells = terminal.get_line_cells(row) or []
    return "".join(char for char, _, _, attributes in cells[start:end] if not attributes.wide_char_spacer)
