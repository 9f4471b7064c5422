"""Readable text: what a person would have read of terminal output, within a bound."""

import re
from typing import Final

TEXT_BYTES_MAX: Final = 64 * 1024
"""Of one command's output, before cleaning; half of it is its beginning, half its end."""

LINE_CELLS_MAX: Final = 4096
"""Of one line; a program that moves further right is not made room for."""

FULL_SCREEN: Final = "[full-screen program]"

_ALTERNATE: Final = re.compile(rb"\x1b\[\?(?:1049|1047|47)h.*?(?:\x1b\[\?(?:1049|1047|47)l|\Z)", re.DOTALL)
_TOKEN: Final = re.compile(
    r"\x1b\[(?P<parameters>[0-9;:<=>?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b[\]PX^_](?:[^\x07\x1b]|\x1b(?!\\))*(?:\x07|\x1b\\|\Z)"
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<control>[\x00-\x1f\x7f\x80-\x9f])"
    r"|(?P<plain>[^\x00-\x1f\x7f-\x9f]+)",
    re.DOTALL,
)


def readable(output: bytes) -> str:
    """`output` with carriage returns, backspaces and movements within a line applied, and other escapes removed."""
    marked = _ALTERNATE.sub(f"\r\n{FULL_SCREEN}\r\n".encode(), output)
    lines, line, col = [], list[str](), 0
    for token in _TOKEN.finditer(marked.decode("utf-8", "replace")):
        if plain := token["plain"]:
            line[col : col + len(plain)] = plain
            col += len(plain)
        elif token["control"] == "\n":
            lines.append("".join(line).rstrip())
            line, col = [], 0
        elif token["control"] == "\r":
            col = 0
        elif token["control"] == "\b":
            col = max(col - 1, 0)
        elif token["control"] == "\t":
            col = _move(line, (col // 8 + 1) * 8)
        elif token["final"]:
            col = _edit(line, col, token["final"], token["parameters"])
    lines.append("".join(line).rstrip())
    return "\n".join(lines)


def _edit(line: list[str], col: int, final: str, parameters: str) -> int:
    """The cursor's column after a control sequence, whose erasures are applied to `line`."""
    first = parameters.partition(";")[0]
    count = int(first) if first.isdecimal() and len(first) < 6 else 0
    match final:
        case "C":
            return _move(line, col + max(count, 1))
        case "D":
            return max(col - max(count, 1), 0)
        case "G":
            return _move(line, max(count, 1) - 1)
        case "K" if count == 0:
            del line[col:]
        case "K" if count == 1:
            line[:col] = " " * min(col, len(line))
        case "K" | "J":
            line[:] = " " * col
        case "P":
            del line[col : col + max(count, 1)]
        case "@":
            line[col:col] = " " * min(max(count, 1), LINE_CELLS_MAX)
    return col


def _move(line: list[str], col: int) -> int:
    col = min(col, max(LINE_CELLS_MAX, len(line)))
    line.extend(" " * (col - len(line)))
    return col


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
