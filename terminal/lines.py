"""Command lines, read from the screen when they are entered: what stands between the prompt and the cursor.

Keys are kept until the screen has shown them, and no longer; keys that it does not show are forgotten.
"""

import re
from collections import deque
from typing import Final

from msgspec import Struct

from terminal.keys import ENTER, plain_text, printable_runs

KEYS_BYTES_MAX: Final = 256 * 1024
"""Of keys that wait to be shown; what is typed beyond is taken as not shown."""

_ZSH_CONSTRUCTS: Final = "quote|dquote|bquote|heredoc|cmdsubst|for|while|if|then|else|pipe|cmdand|cmdor|function|case|subsh|cursh"
_CONTINUATION: Final = re.compile(rf"(?:(?:{_ZSH_CONSTRUCTS})(?: (?:{_ZSH_CONSTRUCTS}))*)?> |\.\.\. ")
"""Secondary prompts: PS2 of POSIX shells, PROMPT2 of zsh, sys.ps2 of Python."""

_CONTEXTS: Final = (
    (re.compile(r">>> $|In \[\d+\]: $"), "python"),
    (re.compile(r"(?:mysql|MariaDB \[[^\]]*\])> $"), "mysql"),
    (re.compile(r"[\w.-]+[=-][#>] $"), "psql"),
    (re.compile(r"[\w.-]+:\d+(?:\[\d+\])?> $"), "redis"),
    (re.compile(r"sqlite> $"), "sqlite"),
)

ABORT: Final = b"\x03"
"""Ctrl-C: what stands in the line is not entered."""


class Entry(Struct):
    """A line that is being typed: its keys so far, and the screen's line before them when that was known."""

    prompt: str | None
    started_seq: int
    keys: bytearray
    is_aborted: bool = False
    """Ended by Ctrl-C: nothing of it is entered."""
    shown_keys: int = 0
    """How many of the keys were seen on the screen, and told."""


class Entered(Struct, frozen=True):
    """A line was entered: its text, and how it was found."""

    text: str
    confidence: str
    started_seq: int
    context: str
    continues: bool
    typed_ahead: bool = False
    """No prompt stood before it: it was echoed before its reader was ready, which may show it once more."""


class Seen(Struct, frozen=True):
    """What became of keys: `echoed` were shown, or show nothing; `masked` tells that others were not."""

    echoed: bytes = b""
    masked: bool = False
    entered: Entered | None = None
    finished: bool = False
    """The screen's line is done: it was a prompt and what was typed at it."""


class Lines:
    """The lines that are typed but not entered yet, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Entry] = deque()
        self._typing: Entry | None = None
        self._bytes = 0

    @property
    def is_waiting(self) -> bool:
        """Whether a line was finished by Enter that the screen has not finished yet."""
        return bool(self._waiting)

    @property
    def has_keys(self) -> bool:
        """Whether any keys have not been told of yet."""
        return bool(self._waiting or self._typing)

    def typed(self, data: bytes, line: str, seq: int) -> list[Seen]:
        """Keys were typed while the cursor's line was `line`, after output event `seq`."""
        seen: list[Seen] = []
        position = 0
        for enter in ENTER.finditer(data):
            seen += self._press(data[position : enter.end()], line, seq)
            position = enter.end()
            if self._typing is not None:
                self._waiting.append(self._typing)
                self._typing = None
        if position < len(data):
            seen += self._press(data[position:], line, seq)
        return seen

    def finished(self, line: str, *, full_screen: bool) -> list[Seen]:
        """The screen finishes a line, which reads `line`: the newline of an Enter came back, or a program wrote one."""
        for number, entry in enumerate(self._waiting):
            text = None if full_screen else _command(entry, line)
            if text is not None:
                seen = [self._forget(self._waiting.popleft()) for _ in range(number)]
                return [*seen, self._accept(self._waiting.popleft(), text, line)]
        return []

    def settled(self, line: str) -> list[Seen]:
        """It has been quiet: whatever of the keys is to be shown is shown by now, in `line`."""
        seen = [self._forget(entry) for entry in self._waiting]
        self._waiting.clear()
        if self._typing is not None:
            seen += self._look_at(self._typing, line)
        return [each for each in seen if each != Seen()]

    def _press(self, keys: bytes, line: str, seq: int) -> list[Seen]:
        entry = self._typing
        if entry is None:
            # With lines still waiting, the screen does not stand at this line's prompt yet.
            entry = self._typing = Entry(None if self._waiting else line, seq, bytearray())
        if self._bytes + len(keys) > KEYS_BYTES_MAX:
            self._typing = None
            self._bytes -= len(entry.keys)
            return [Seen(masked=True)]
        entry.keys += keys
        self._bytes += len(keys)
        if keys.endswith(ABORT):
            entry.is_aborted = True
            self._typing = None
            self._waiting.append(entry)
        return []

    def _look_at(self, entry: Entry, line: str) -> list[Seen]:
        """Tell of the keys of an unfinished line as far as they are on the screen."""
        untold = bytes(entry.keys[entry.shown_keys :])
        if not untold or not _is_shown(entry, line):
            return []
        entry.shown_keys = len(entry.keys)
        return [Seen(echoed=untold)]

    def _accept(self, entry: Entry, text: str, line: str) -> Seen:
        self._bytes -= len(entry.keys)
        untold = bytes(entry.keys[entry.shown_keys :])
        if not text.strip() or entry.is_aborted:
            return Seen(echoed=untold, finished=True)
        before = line[: len(line) - len(text)]
        context = next((name for pattern, name in _CONTEXTS if pattern.search(before)), "")
        continues = is_continuation(before)
        return Seen(
            echoed=untold,
            entered=Entered(text.rstrip(), "screen", entry.started_seq, context, continues, not before),
            finished=True,
        )

    def _forget(self, entry: Entry) -> Seen:
        """Nothing of it was shown, as at a password prompt."""
        self._bytes -= len(entry.keys)
        untold = bytes(entry.keys[entry.shown_keys :])
        return Seen(masked=True) if printable_runs(untold) else Seen(echoed=untold)


def is_continuation(line: str) -> bool:
    """Whether `line` is a secondary prompt, so that the line before it is not a whole command."""
    return _CONTINUATION.fullmatch(line) is not None


def _command(entry: Entry, line: str) -> str | None:
    """What was entered, when `line` is the line of `entry`; None when it is not."""
    if entry.is_aborted:
        return "" if _is_shown(entry, line.removesuffix("^C")) else None
    keys = bytes(ENTER.sub(b"", bytes(entry.keys)))
    plain = plain_text(keys)
    if plain is not None and plain:
        return plain if line.endswith(plain) else None
    if entry.prompt is None:
        return "" if not keys else None
    if not keys:
        return "" if line == entry.prompt else None
    if not line.startswith(entry.prompt) or line == entry.prompt:
        return "" if line == entry.prompt and not printable_runs(keys) else None
    text = line[len(entry.prompt) :]
    runs = printable_runs(keys)
    return text if not runs or runs[0] in text or runs[-1] in text else None


def _is_shown(entry: Entry, line: str) -> bool:
    """Whether what was typed so far stands in `line`, where the prompt ends."""
    keys = bytes(entry.keys).removesuffix(ABORT)
    runs = printable_runs(keys)
    if not runs:
        return True
    if entry.prompt is None or not line.startswith(entry.prompt):
        return False
    text = line[len(entry.prompt) :]
    plain = plain_text(keys)
    if plain is not None:
        return text.endswith(plain)
    return runs[0] in text or runs[-1] in text
