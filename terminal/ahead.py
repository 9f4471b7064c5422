"""Lines that were typed before anything asked for them, until it is known what has read them.

The terminal's driver echoes such a line at once, where no prompt stands, so its echo does not say what it was: the next command,
what a running program is given, or a secret for a question that has not been asked yet. A line editor shows it once more at its
prompt. A shell without one draws a prompt for each line that it takes, and no more. What nothing of this is known of is not told.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from itertools import islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from terminal.commands import program
from terminal.entries import Entered, Seen
from terminal.keys import could_show

LINES_MAX: Final = 64
"""Of lines that wait; the oldest is decided when there are more."""

BYTES_MAX: Final = 64 * 1024
"""Of their keys and of those behind them."""

LOOKED_MAX: Final = 8
"""Of these lines, so many are looked for at a prompt."""

OUTPUT_LINES_MAX: Final = 1000
"""So many lines of output are searched for prompts."""

OUTPUT_CHARS_MAX: Final = 80
"""Of each of them, from its beginning."""

_LEAVES: Final = frozenset({"exit", "logout", "exec"})


class Fate(Enum):
    """What became of a line. `LATER`: it was none of these lines, but its keys were typed behind one."""

    AGAIN = auto()
    GIVEN = auto()
    RAN = auto()
    UNKNOWN = auto()
    LATER = auto()


class Line(Struct):
    """`given_to`: how many lines had been entered at prompts then, which says what program ran; None: it cannot be given to any."""

    seen: Seen
    entered: Entered
    given_to: int | None
    is_first: bool
    """Nothing had been entered before it."""


class Ahead:
    """In the order in which they were typed. `entered` counts the lines that were entered at prompts so far."""

    def __init__(self) -> None:
        self._items: deque[Line | Seen] = deque()
        self._bytes = 0
        self._output: list[str] = []
        """The beginnings of lines of output since the oldest was typed."""

    def __bool__(self) -> bool:
        return bool(self._items)

    def again(self, line: str, *, known: Sequence[str]) -> Entered | None:
        """Which of these lines reads `line` at a prompt: the next one at any, those behind it at a `known` one."""
        for number, each in enumerate(islice(self._lines(), LOOKED_MAX)):
            entered = each.entered
            if not entered.keys:
                prompt = line.removesuffix(entered.text)
                if prompt not in ("", line) and (not number or prompt in known):
                    return _at(entered, prompt)
            for prompt in known:
                if entered.keys and line.startswith(prompt) and could_show(entered.keys, text := line[len(prompt) :]):
                    return _at(entered, prompt, text)
        return None

    def hold(self, seen: Seen, entered: Entered, number: int, seq: int) -> list[tuple[Fate, Seen]]:
        """A line was echoed with output event `seq` where no prompt stands, after `number` were entered.

        Returns what became of those that are too many.
        """
        entered = replace(entered, echoed_seq=seq)
        self._items.append(Line(replace(seen, entered=entered), entered, number or None, not number))
        self._bytes += len(seen.echoed)
        return self._shortened(number)

    def defer(self, seen: Seen, number: int) -> list[tuple[Fate, Seen]]:
        """Keys that were typed behind these lines are not told before them."""
        self._items.append(seen)
        self._bytes += len(seen.echoed)
        return self._shortened(number)

    def passes(self, line: str) -> None:
        """A line of output is finished."""
        if len(self._output) < OUTPUT_LINES_MAX:
            self._output.append(line[:OUTPUT_CHARS_MAX])

    def doubt(self) -> None:
        """Something is read that is not shown, so none of these lines can be told as what the present program was given."""
        for line in self._lines():
            line.given_to = None

    def entered(self, text: str, prompt: str, number: int, *, has_editor: bool) -> list[tuple[Fate, Seen]]:
        """`text` was entered at `prompt`; when it is one of these lines, those before it were read by something else."""
        lines = list(self._lines())
        found = next((place for place, line in enumerate(lines) if _reads(line.entered, text)), None)
        fates = self._fates(lines[:found], prompt, number, has_editor=has_editor)
        return self._decided([*fates, *([Fate.AGAIN] if found is not None else [])])

    def has(self, text: str) -> bool:
        """Whether one of these lines reads `text`."""
        return any(_reads(line.entered, text) for line in islice(self._lines(), LOOKED_MAX))

    def settled(self, number: int) -> list[tuple[Fate, Seen]]:
        """The shell's line editor is back and shows none of them: what was given to the program that ran, was read by it."""
        given = 0
        for line in self._lines():
            if not number or line.given_to != number:
                break
            given += 1
        return self._decided([Fate.GIVEN] * given)

    def finish(self, line: str, number: int, *, has_editor: bool) -> list[tuple[Fate, Seen]]:
        """The session is over, with the cursor in `line`."""
        return self._decided(self._fates(list(self._lines()), line, number, has_editor=has_editor, is_end=True))

    def _lines(self) -> Iterator[Line]:
        return (item for item in self._items if isinstance(item, Line))

    def _fates(self, lines: Sequence[Line], prompt: str, number: int, *, has_editor: bool, is_end: bool = False) -> list[Fate]:
        """Of lines that were not shown at a prompt, now that a line was entered at `prompt` that is behind them."""
        if not lines:
            return []
        given = [Fate.GIVEN if number and line.given_to == number else Fate.UNKNOWN for line in lines]
        unit = _unit(prompt)
        if has_editor or not unit.strip():
            return given
        if len(self._output) >= OUTPUT_LINES_MAX:
            return [Fate.UNKNOWN] * len(lines)
        taken = sum(_count(each, unit) for each in self._output) + _count(prompt, unit) - 1
        if is_end and taken + 1 == len(lines) and program(lines[-1].entered.text) in _LEAVES:
            taken += 1
        if taken == len(lines):
            return [Fate.RAN] * taken
        if not taken:
            return given
        return [Fate.RAN if line.is_first and line is lines[0] else Fate.UNKNOWN for line in lines]

    def _shortened(self, number: int) -> list[tuple[Fate, Seen]]:
        decided: list[tuple[Fate, Seen]] = []
        while len(self._items) > LINES_MAX or self._bytes > BYTES_MAX:
            oldest = next(self._lines())
            decided += self._decided([Fate.GIVEN if number and oldest.given_to == number else Fate.UNKNOWN])
        return decided

    def _decided(self, fates: Sequence[Fate]) -> list[tuple[Fate, Seen]]:
        """The first lines with these fates, and the keys that were typed behind the last of them."""
        decided: list[tuple[Fate, Seen]] = []
        left = list(fates)
        while self._items and (left or isinstance(self._items[0], Seen)):
            item = self._items.popleft()
            seen = item.seen if isinstance(item, Line) else item
            self._bytes -= len(seen.echoed)
            decided.append((left.pop(0) if isinstance(item, Line) else Fate.LATER, seen))
        if fates:
            self._output = []
        return decided


def _at(entered: Entered, prompt: str, text: str = "") -> Entered:
    return Entered(text or entered.text, "screen", 0, "", continues=False, prompt=prompt)


def _reads(entered: Entered, text: str) -> bool:
    return could_show(entered.keys, text) if entered.keys else entered.text == text


def _unit(prompt: str) -> str:
    """`prompt` once, where it was drawn several times in a row because nothing was echoed at it."""
    for size in range(2, len(prompt) // 2 + 1):
        if prompt[size - 1] == " " and prompt == prompt[:size] * (len(prompt) // size):
            return prompt[:size]
    return prompt


def _count(line: str, unit: str) -> int:
    """How many times `line` begins with `unit`."""
    count = 0
    while line.startswith(unit, count * len(unit)):
        count += 1
    return count
