"""Keys as a terminal sends them: which text they type, and which of them a screen could show."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

ABORT: Final = b"\x03"
"""Ctrl-C: what stands in the line is not entered."""

_PASTE_BEGIN: Final = b"\x1b[200~"
_PASTE_END: Final = b"\x1b[201~"

_SPLIT: Final = re.compile(rb"\x1b\[20[01]~|\r\n|\r|\n|\x03")

_SILENT: Final = re.compile(
    rb"\x1b\[20[01]~"  # bracketed paste
    rb"|\x1b\[[IO]"  # focus
    rb"|\x1b\[\d+;\d+R|\x1b\[[?>=][\d;]*[cny]|\x1b\[\?[\d;]+\$y"  # what a terminal answers when it is asked
    rb"|\x1b[\]P][^\x07\x1b]*(?:\x07|\x1b\\)"
)
"""What is sent with the keys and types nothing."""

_NOT_PRINTABLE: Final = re.compile(rb"\x1b\[[0-9;:<=>?]*[ -/]*[@-~]|\x1bO[ -~]|\x1b[^\[O]|\x1b|[\x00-\x1f\x7f]")
_EDITING: Final = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
"""What a program that knows no UTF-8 shows as question marks."""

LETTERS_MIN: Final = 2
"""So many letters have to be seen somewhere in a line to know it by them."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_LINE_ENDS: Final = re.compile(rb"\r\n|\r")


def lines(data: bytes, *, pasting: bool) -> Iterator[tuple[bytes, bool, bool]]:
    """`data` cut after every key that ends a line: (keys, whether they end one, whether a bracketed paste is open behind them)."""
    position = 0
    for key in _SPLIT.finditer(data):
        if key[0] in (_PASTE_BEGIN, _PASTE_END):
            pasting = key[0] == _PASTE_BEGIN
        elif not pasting:
            yield data[position : key.end()], True, pasting
            position = key.end()
    if position < len(data):
        yield data[position:], False, pasting


def without_end(keys: bytes) -> bytes:
    """`keys` less the key that ended the line."""
    if keys.endswith(b"\r\n"):
        return keys[:-2]
    return keys[:-1] if keys.endswith((b"\r", b"\n", ABORT)) else keys


def printable_runs(keys: bytes) -> list[str]:
    """The pieces of text between control keys, in order."""
    return [run.decode("utf-8", "replace") for run in _NOT_PRINTABLE.split(_SILENT.sub(b"", keys)) if run]


def text(keys: bytes) -> str | None:
    """The line that these keys type when nothing but backspace and Ctrl-U edits it; None when other keys do."""
    typed = _LINE_ENDS.sub(b"\n", _SILENT.sub(b"", keys))
    characters: list[str] = []
    position = 0
    for key in _EDITING.finditer(typed):
        characters += typed[position : key.start()].decode("utf-8", "replace")
        position = key.end()
        match key[0]:
            case b"\x7f" | b"\x08":
                del characters[-1:]
            case b"\x15":
                characters.clear()
            case _:
                return None
    return "".join(characters) + typed[position:].decode("utf-8", "replace")


def as_driver_echoes(keys: bytes) -> str:
    """What the terminal's driver shows of `keys` when no program reads them yet: control characters as ^A, tabs as they are."""
    shown = _CONTROL.sub(lambda key: b"^" + bytes([key[0][0] ^ 0x40]), keys)
    return shown.decode("utf-8", "replace")


def could_show(keys: bytes, shown: str) -> bool:
    """Whether `shown` is what a line looks like at which these keys were typed and shown.

    Keys that edit in a way only the program knows (completion, history, motions) are judged by their characters: each is there,
    or the longest run of them is there in one piece.
    """
    expected = text(keys)
    if expected is not None:
        expected, shown = expected.rstrip(), shown.rstrip()
        return expected == shown or (expected.isascii() is False and _NOT_ASCII.sub("?", expected) == _NOT_ASCII.sub("?", shown))
    runs = printable_runs(keys)
    longest = max(runs, key=len, default="")
    if len(longest) < LETTERS_MIN:
        return shown.startswith(longest)
    return longest in shown or Counter("".join("".join(runs).split())) <= Counter(shown)
