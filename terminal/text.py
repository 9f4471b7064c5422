"""Readable text: what a person would have read of terminal output, within a bound."""

import re
from collections.abc import Callable
from typing import Final

from terminal.prompts import is_continuation

TEXT_BYTES_MAX: Final = 64 * 1024
"""Of one command's output, before cleaning; half of it is its beginning, half its end."""

LINE_CELLS_MAX: Final = 4096
"""Of one line; a program that moves further right is not made room for."""

FULL_SCREEN: Final = "[full-screen program]"

_TOKEN: Final = re.compile(
    r"\x1b\[(?P<parameters>[0-9;:<=>?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b[\]PX^_](?:[^\x07\x1b]|\x1b(?!\\))*(?:\x07|\x1b\\|\Z)"
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<control>[\x00-\x1f\x7f\x80-\x9f])"
    r"|(?P<plain>[^\x00-\x1f\x7f-\x9f]+)",
    re.DOTALL,
)
FISH_SIGN: Final = "⏎".encode()
"""Of fish, before a prompt; zsh's is % or #."""

_STYLE: Final = rb"(?:\x1b\[[0-9;]*m|\x1b\(B)*"
_END_OF_PARTIAL_LINE: Final = re.compile(_STYLE + rb"(?P<sign>[%#]|\xe2\x8f\x8e)" + _STYLE + rb" {8,}\r")
"""What zsh and fish write before a prompt: a sign, and blanks up to the edge, that wrap when the output left a line open."""


class Page:
    """Lines that grow downwards; the cursor moves among them."""

    def __init__(self) -> None:
        self._lines: list[list[str]] = [[]]
        self._row = 0
        self._col = 0

    def text(self) -> str:
        """What the page reads."""
        return "\n".join("".join(line).rstrip() for line in self._lines)

    def write(self, plain: str) -> None:
        """Characters at the cursor."""
        line = self._lines[self._row]
        if self._col > len(line):
            line.extend(" " * (self._col - len(line)))
        line[self._col : self._col + len(plain)] = plain
        self._col += len(plain)

    def control(self, character: str) -> None:
        """A C0 control character."""
        match character:
            case "\n" | "\v" | "\f":
                self._row += 1
                self._col = 0
                if self._row == len(self._lines):
                    self._lines.append([])
            case "\r":
                self._col = 0
            case "\b":
                self._col = max(self._col - 1, 0)
            case "\t":
                self._move_to((self._col // 8 + 1) * 8)

    def sequence(self, final: str, parameters: str) -> None:
        """A control sequence of ECMA-48."""
        first = parameters.partition(";")[0]
        count = int(first) if first.isascii() and first.isdecimal() and len(first) < 6 else 0
        line = self._lines[self._row]
        match final:
            case "A" | "F":
                self._row = max(self._row - max(count, 1), 0)
                self._col = 0 if final == "F" else self._col
            case "B" | "E":
                self._row = min(self._row + max(count, 1), len(self._lines) - 1)
                self._col = 0 if final == "E" else self._col
            case "C":
                self._move_to(self._col + max(count, 1))
            case "D":
                self._col = max(self._col - max(count, 1), 0)
            case "G":
                self._move_to(max(count, 1) - 1)
            case "H" | "f":
                self._begin_anew()
            case "J" if count == 0:
                del line[self._col :]
                del self._lines[self._row + 1 :]
            case "K" if count == 0:
                del line[self._col :]
            case "K" if count == 1:
                line[: self._col] = " " * min(self._col, len(line))
            case "K":
                line.clear()
            case "P":
                del line[self._col : self._col + max(count, 1)]
            case "@" if len(line) < LINE_CELLS_MAX:
                line[self._col : self._col] = " " * min(max(count, 1), LINE_CELLS_MAX)

    def _begin_anew(self) -> None:
        """Where on the screen that is, is not known here: what follows is below everything."""
        if self._lines[-1]:
            self._lines.append([])
        self._row, self._col = len(self._lines) - 1, 0

    def _move_to(self, col: int) -> None:
        self._col = min(col, max(LINE_CELLS_MAX, len(self._lines[self._row])))


def readable(output: bytes) -> str:
    """`output` with carriage returns, backspaces, erasures and movements of the cursor applied, and other escapes removed."""
    page = Page()
    for token in _TOKEN.finditer(output.decode("utf-8", "replace")):
        if plain := token["plain"]:
            page.write(plain)
        elif control := token["control"]:
            page.control(control)
        elif final := token["final"]:
            page.sequence(final, token["parameters"])
    return page.text()


class Collector:
    """Output since the last command, as parts of readable text; the unfinished last line waits, because it may be a prompt."""

    def __init__(self) -> None:
        self._head_room = TEXT_BYTES_MAX // 2
        self._head: list[bytes] = []
        self._tail = b""
        self._omitted = 0
        self._line = b""

    def add(self, data: bytes) -> None:
        """More output."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._line = (self._line + data)[-TEXT_BYTES_MAX:]
            return
        self._keep(self._line + data[:end])
        self._line = data[end:][-TEXT_BYTES_MAX:]

    def drop_line(self) -> None:
        """The unfinished line was a prompt and what was typed at it."""
        self._line = b""

    def end_before_prompt(self, is_prompt: Callable[[str], bool]) -> bytes:
        """A prompt follows the unfinished line, or is it, for which `is_prompt` is asked.

        Returns the sign that zsh or fish writes before its prompt, else nothing.
        """
        if mark := _END_OF_PARTIAL_LINE.search(self._line):
            self._keep(self._line[: mark.start()])
            self._line = b""
            return mark["sign"]
        if is_prompt(readable(self._line)) or is_prompt(f"{readable(self._line)} "):
            self._line = b""
        elif not is_continuation(readable(self._line)):
            self._keep(self._line)
            self._line = b""
        return b""

    def take(self, *, all_of_it: bool) -> tuple[str, int]:
        """Text that is complete and was not taken before, and how many characters of it are left out in its middle.

        `all_of_it`: also the end of what was too long and the unfinished line, because nothing follows any more.
        """
        complete = b"".join(self._head)
        self._head = []
        if not all_of_it:
            return readable(complete).strip("\n"), 0
        omitted, self._omitted = self._omitted, 0
        if omitted:
            end = readable(self._tail + self._line)
            text = f"{readable(complete).rstrip(chr(10))}\n[… {omitted} characters left out …]\n{end}"
        else:
            text = readable(complete + self._tail + self._line)
        self._tail = self._line = b""
        return text.strip("\n"), omitted

    def _keep(self, data: bytes) -> None:
        if self._head_room > 0:
            if len(data) <= self._head_room:
                self._head.append(data)
                self._head_room -= len(data)
                return
            cut = data.rfind(b"\n", 0, self._head_room) + 1
            self._head.append(data[:cut])
            data, self._head_room = data[cut:], 0
        if len(self._tail) + len(data) > TEXT_BYTES_MAX:  # cut only now and then, so that a flood costs little
            joined = (self._tail + data) if len(data) < TEXT_BYTES_MAX else data
            dropped = len(self._tail) + len(data) - TEXT_BYTES_MAX // 2
            self._tail = joined[-(TEXT_BYTES_MAX // 2) :]
            self._omitted += dropped
        else:
            self._tail += data
