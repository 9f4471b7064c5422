"""Watches one terminal: gets every byte that is typed and shown, tells what a person would say has happened."""

from collections import deque
from typing import Final

from terminal.emulator import Emulator, Screen
from terminal.lines import Entered, Lines, Seen, is_continuation
from terminal.observations import CommandEntered, InputEchoed, InputMasked, Observation, TextShown
from terminal.text import Collector

AHEAD_COMMANDS_MAX: Final = 64
AHEAD_LINES_MAX: Final = 1000
"""So many lines of output are looked at for a command that was typed ahead; then it is not expected any more."""


class Observer:
    """Pure: the same calls give the same observations. Costs little while nothing is typed, however much is shown."""

    def __init__(self, cols: int, rows: int) -> None:
        self.commands_total = 0
        self._emulator = Emulator(cols, rows)
        self._lines = Lines()
        self._collector = Collector()
        self._seq = 0
        self._text_from_seq = 1
        self._parts = 0
        self._prompt = ""
        """The screen's line when typing last began."""
        self._carriage_returns = b""
        """They may belong to a newline, before which the cursor's place has to be looked at."""
        self._ahead: deque[str] = deque(maxlen=AHEAD_COMMANDS_MAX)
        self._ahead_lines = 0
        self._held: tuple[Entered, int] | None = None
        """A line that was entered, and the event with which it was: continuation lines may follow."""

    def typed(self, data: bytes) -> list[Observation]:
        """Keys on their way to the machine."""
        line = self._emulator.line()
        if not self._lines.has_keys:
            self._prompt = line
        return self._told(self._lines.typed(data, line, self._seq))

    def shown(self, data: bytes, seq: int) -> list[Observation]:
        """Output event `seq`."""
        self._seq = seq
        data, self._carriage_returns = self._carriage_returns + data, b""
        if not self._watches_lines():
            self._emulator.write(data)
            self._collector.add(data)
            return []
        observations: list[Observation] = []
        position = 0
        while self._watches_lines() and (newline := data.find(b"\n", position)) >= 0:
            line_end = len(data[:newline].rstrip(b"\r"))
            self._show(data[position:line_end])
            observations += self._finish_line()
            self._show(data[line_end : newline + 1])
            position = newline + 1
        rest = data[position:].rstrip(b"\r")
        self._show(rest)
        self._carriage_returns = data[position + len(rest) :]
        return observations

    def resized(self, cols: int, rows: int) -> list[Observation]:
        """The terminal has another size from here on."""
        self._emulator.resize(cols, rows)
        return []

    def settle(self) -> list[Observation]:
        """Nothing has happened for a moment: what is still open is decided."""
        self._show(self._carriage_returns)
        self._carriage_returns = b""
        if not self._lines.has_keys and self._held is None:
            return self._text(all_of_it=False)
        line = self._emulator.line()
        told = self._told(self._lines.settled(line))
        return told if is_continuation(line) else [*told, *self._release(), *self._text(all_of_it=False)]

    def finish(self) -> list[Observation]:
        """The session is over."""
        settled = [*self.settle(), *self._release()]
        if self._emulator.line() == self._prompt:
            self._collector.drop_line()
        return [*settled, *self._text(all_of_it=True)]

    def screen(self) -> Screen:
        """What is on the screen now."""
        return self._emulator.screen()

    def park(self) -> None:
        """Nobody looks for a while: give memory back."""
        self._emulator.park()

    def _show(self, data: bytes) -> None:
        self._emulator.write(data)
        self._collector.add(data)

    def _watches_lines(self) -> bool:
        """Whether what the next finished line reads can tell something."""
        return self._lines.is_waiting or self._held is not None or bool(self._ahead)

    def _finish_line(self) -> list[Observation]:
        line = self._emulator.line()
        if self._is_shown_again(line):
            self._collector.drop_line()
            return []
        seen = self._lines.finished(line, full_screen=self._emulator.is_full_screen)
        released = [] if any(each.entered and each.entered.continues for each in seen) else self._release()
        return [*released, *self._told(seen)]

    def _is_shown_again(self, line: str) -> bool:
        """Whether a command that was typed ahead stands in `line`, now at its prompt."""
        if not self._ahead:
            return False
        self._ahead_lines += 1
        if line != self._ahead[0] and line.endswith(self._ahead[0]):
            self._ahead.popleft()
            return True
        if self._ahead_lines > AHEAD_LINES_MAX:
            self._ahead.clear()
        return False

    def _told(self, seen: list[Seen]) -> list[Observation]:
        observations: list[Observation] = []
        for each in seen:
            if each.masked and not isinstance(observations[-1] if observations else None, InputMasked):
                observations.append(InputMasked())
            if each.echoed:
                observations.append(InputEchoed(each.echoed))
            if each.finished:
                self._collector.drop_line()
            if each.entered:
                observations += self._enter(each.entered)
        return observations

    def _enter(self, entered: Entered) -> list[Observation]:
        if entered.typed_ahead:
            self._ahead.append(entered.text)
            self._ahead_lines = 0
        if entered.continues and self._held is not None:
            first, _ = self._held
            joined = Entered(f"{first.text}\n{entered.text}", first.confidence, first.started_seq, first.context, continues=False)
            self._held = (joined, self._seq)
            return []
        observations = [*self._release(), *self._text(all_of_it=True)]
        self._held = (entered, self._seq)
        self._collector = Collector()
        self._parts, self._text_from_seq = 0, self._seq
        return observations

    def _release(self) -> list[Observation]:
        """The line that is held is a command: nothing continues it."""
        if self._held is None:
            return []
        (entered, seq), self._held = self._held, None
        self.commands_total += 1
        return [CommandEntered(self.commands_total, entered.text, entered.confidence, entered.started_seq, seq, entered.context)]

    def _text(self, *, all_of_it: bool) -> list[Observation]:
        text, omitted = self._collector.take(all_of_it=all_of_it)
        if not text:
            return []
        shown = TextShown(self.commands_total, text, self._text_from_seq, self._seq, omitted, self._parts)
        self._parts += 1
        self._text_from_seq = self._seq
        return [shown]
