"""What programs tell a terminal beside the text: line editors, full screens and shell integration.

Sources: bracketed paste (mode 2004) and alternate screens (47, 1047, 1049) of xterm's ctlseqs; OSC 7 (working directory as a
`file:` URL); OSC 133 (FinalTerm's prompt marks, with `cmdline_url` of kitty and fish); OSC 633 (the marks of VS Code).
"""

import re
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Struct

MARK_BYTES_MAX: Final = 16 * 1024
"""Of one mark; what is longer is none."""

TOLD_CHARS_MAX: Final = 8 * 1024
"""Of a command line or a directory that a shell tells."""

_MARK: Final = re.compile(
    rb"\x1b\[\?(?P<modes>[0-9;]{1,32})(?P<on>[hl])|\x1b\](?P<code>7|133|633);(?P<body>[^\x07\x1b]{0,16384})(?:\x07|\x1b\\)"
)
_UNFINISHED: Final = re.compile(
    rb"\x1b(?:\[(?:\?[0-9;]{0,32})?)?\Z|\x1b\](?:|7|1|13|133|6|63|633)\Z|\x1b\](?:7|133|633);[^\x07\x1b]{0,16384}\x1b?\Z"
)
_VSCODE_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(\\))")
_ALTERNATE: Final = {b"47", b"1047", b"1049"}
_LINE_EDITOR: Final = b"2004"


class Kind(Enum):
    """What a mark means."""

    EDITOR_ON = auto()
    EDITOR_OFF = auto()
    FULL_SCREEN_ON = auto()
    FULL_SCREEN_OFF = auto()
    PROMPT = auto()
    PROMPT_END = auto()
    COMMAND_LINE = auto()
    EXECUTES = auto()
    EXECUTED = auto()
    DIRECTORY = auto()


class Mark(Struct, frozen=True):
    """`told`: the command line of `COMMAND_LINE`, and of `EXECUTES` when there; the path of `DIRECTORY`."""

    kind: Kind
    start: int
    end: int
    told: str = ""
    exit_status: int | None = None


def may_hold(data: bytes) -> bool:
    """Whether a mark can be in `data`; quick, for floods."""
    return b"\x1b[?" in data or b"\x1b]" in data


def find(data: bytes, start: int) -> Mark | None:
    """The first mark in `data` at or behind `start`."""
    for found in _MARK.finditer(data, start):
        if mark := _modes(found) if found["modes"] else _told(found):
            return mark
    return None


def unfinished(data: bytes) -> int:
    """Where a mark begins that `data` does not hold to its end; the length of `data` when there is none."""
    oldest = max(len(data) - MARK_BYTES_MAX - 8, 0)
    for opening in (b"\x1b]", b"\x1b"):
        start = data.rfind(opening, oldest)
        if start >= 0 and _UNFINISHED.match(data, start):
            return start
    return len(data)


def _modes(found: re.Match[bytes]) -> Mark | None:
    is_on = found["on"] == b"h"
    modes = found["modes"].split(b";")
    if _LINE_EDITOR in modes:
        return Mark(Kind.EDITOR_ON if is_on else Kind.EDITOR_OFF, found.start(), found.end())
    if _ALTERNATE.intersection(modes):
        return Mark(Kind.FULL_SCREEN_ON if is_on else Kind.FULL_SCREEN_OFF, found.start(), found.end())
    return None


def _told(found: re.Match[bytes]) -> Mark | None:
    code, body = found["code"], found["body"].decode("utf-8", "replace")
    if code == b"7":
        path = unquote(body.partition("://")[2].partition("/")[2])
        return Mark(Kind.DIRECTORY, found.start(), found.end(), f"/{path}"[:TOLD_CHARS_MAX]) if "://" in body else None
    letter, _, rest = body.partition(";")
    match letter:
        case "A":
            return Mark(Kind.PROMPT, found.start(), found.end())
        case "B":
            return Mark(Kind.PROMPT_END, found.start(), found.end())
        case "C":
            return Mark(Kind.EXECUTES, found.start(), found.end(), _command_line_of(rest))
        case "D":
            return Mark(Kind.EXECUTED, found.start(), found.end(), exit_status=_status(rest))
        case "E" if code == b"633":
            return Mark(Kind.COMMAND_LINE, found.start(), found.end(), _unescaped(rest.partition(";")[0]))
        case "P" if code == b"633" and rest.startswith("Cwd="):
            return Mark(Kind.DIRECTORY, found.start(), found.end(), _unescaped(rest.removeprefix("Cwd=")))
    return None


def _command_line_of(parameters: str) -> str:
    for parameter in parameters.split(";"):
        if parameter.startswith("cmdline_url="):
            return unquote_to_bytes(parameter.removeprefix("cmdline_url=")).decode("utf-8", "replace")[:TOLD_CHARS_MAX]
    return ""


def _status(parameters: str) -> int | None:
    first = parameters.partition(";")[0]
    return int(first) if re.fullmatch(r"-?[0-9]{1,9}", first, re.ASCII) else None


def _unescaped(told: str) -> str:
    return _VSCODE_ESCAPE.sub(lambda escape: escape[2] or chr(int(escape[1], 16)), told)[:TOLD_CHARS_MAX]
