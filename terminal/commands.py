"""The log in the making: holds a command until it is whole, and tells what it printed and when that ended."""

import re
import shlex
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from terminal.entries import Entered
from terminal.masking import MASKED
from terminal.observations import CommandEntered, CommandFinished, Observation, TextShown
from terminal.text import FISH_SIGN, FULL_SCREEN, Collector

COMMAND_CHARS_MAX: Final = 64 * 1024
"""Of one command's text; what is longer is cut, and says so."""

KEY_LINES_MAX: Final = 200
"""Of a private key that is given line by line."""

_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")
_KEY_ENDS: Final = "-----END"

_WRAPPERS: Final = frozenset({"sudo", "doas", "env", "time", "nohup", "exec", "command", "nice", "builtin", "stdbuf", "ionice"})


class Commands:
    """Commands are numbered when they are told. `mask` leaves secrets out of a command's text."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self.total = 0
        self.cwd: str | None = None
        self._mask = mask
        self._collector = Collector()
        self._held: Entered | None = None
        self._held_seq = 0
        self._held_is_done = False
        self._running = ""
        self._is_fish = False
        self._key_lines = 0
        """How many more lines may belong to a private key that was begun."""
        self._text_from_seq = 1
        self._parts = 0
        self._is_open = False
        """Whether a command was told whose end was not."""
        self._exit_status: int | None = None
        self._is_marked = False
        """Whether the shell has said that it executes the last command."""
        self._is_unmarked = False
        """Whether a command was entered that it may still say so of."""
        self._ended_seq = 0
        """The output event with which the prompt was back; 0: it is not."""

    @property
    def is_held(self) -> bool:
        """Whether a line was entered that may be continued."""
        return self._held is not None

    @property
    def editor_indents(self) -> bool:
        """Whether the shell's line editor sets the lines of a command below each other."""
        return self._is_fish

    @property
    def running(self) -> str:
        """The program that was started last, and may be what reads now."""
        return self._running

    def show(self, output: bytes) -> None:
        """Output that a person reads."""
        self._collector.add(output)

    def drop_line(self) -> None:
        """The unfinished line of the output was a prompt and what was typed at it."""
        self._collector.drop_line()

    def full_screen(self) -> None:
        """A program takes the whole screen: what it draws is not read as text."""
        self._collector.add(f"\r\n{FULL_SCREEN}\r\n".encode())

    def prompt_returns(self, seq: int, *, is_prompt: Callable[[str], bool]) -> None:
        """With output event `seq` a line editor takes over.

        The unfinished line of the output is its prompt, or the end of what a program wrote.
        """
        self._is_fish = self._collector.end_before_prompt(is_prompt) == FISH_SIGN
        self._ended_seq = seq
        self._is_unmarked = False

    def enter(self, entered: Entered, seq: int) -> list[Observation]:
        """A line was entered at a prompt with output event `seq`."""
        told: list[Observation] = []
        held = self._held
        if entered.continues and held is not None and held.prompt != entered.prompt:
            self._held = replace(held, text=f"{held.text}\n{entered.text}"[: COMMAND_CHARS_MAX + 1])
            self._held_seq = seq
            return []
        told += self.release()
        told += self.end(seq)
        self._held, self._held_seq, self._is_marked = entered, seq, False
        self._is_unmarked = True
        self._collector = Collector()
        self._parts, self._text_from_seq, self._ended_seq, self._exit_status = 0, seq, 0, None
        if not entered.context:
            self._running = program(entered.text)
        return told

    def execute(self, told_text: str, seq: int, *, is_typed: bool) -> list[Observation]:
        """The shell says that it executes what was entered, and (when not empty) what that is."""
        if self._held is None:
            if self._is_unmarked:  # it was told already, before a silence
                self._is_marked, self._is_unmarked = True, False
                return []
            if not told_text.strip() or not is_typed:
                return []
            told = self.enter(Entered(told_text, "exact", seq, "", continues=False, prompt="told"), seq)
            self._is_marked, self._is_unmarked = True, False
            return [*told, *self.release()]
        self._is_marked, self._is_unmarked = True, False
        self._held = replace(self._held, text=told_text or self._held.text, confidence="exact", context="")
        self._running = program(self._held.text)
        return self.release()

    def release(self) -> list[Observation]:
        """The line that is held is a command: nothing continues it."""
        if self._held is None:
            return []
        entered, self._held = self._held, None
        self._is_open = True
        return [self._entered(entered, self._held_seq)]

    def executed(self, exit_status: int | None) -> None:
        """The shell says how what it executed has ended; within it, others may have read lines since."""
        if self._is_marked:
            self._exit_status = exit_status

    def text(self, seq: int) -> list[Observation]:
        """What can be told of the output so far, up to output event `seq`."""
        return self._text(seq, all_of_it=False)

    def end(self, seq: int) -> list[Observation]:
        """The output of the present command ended with output event `seq`."""
        seq = self._ended_seq or seq
        told = self._text(seq, all_of_it=True)
        if self._is_open:
            self._is_open = False
            told.append(CommandFinished(self.total, max(seq, self._text_from_seq), self._exit_status))
        return told

    def read(self, entered: Entered) -> list[Observation]:
        """A line was read that no prompt stood before: it is a command of its own, without output, as that is not told apart."""
        told = [*self.release(), *self.end(entered.echoed_seq)]
        told.append(self._entered(entered, entered.echoed_seq))
        self._parts = 0
        if not entered.context:
            self._running = program(entered.text)
        return [*told, CommandFinished(self.total, entered.echoed_seq)]

    def _entered(self, entered: Entered, seq: int) -> CommandEntered:
        self.total += 1
        text = self._without_secrets(entered)
        is_masked = text != entered.text
        if len(text) > COMMAND_CHARS_MAX:
            text = f"{text[:COMMAND_CHARS_MAX]}[… cut]"
        return CommandEntered(
            self.total, text, entered.confidence, entered.started_seq, seq, entered.context, self.cwd, masked=is_masked
        )

    def _without_secrets(self, entered: Entered) -> str:
        if self._key_lines:
            self._key_lines = 0 if _KEY_ENDS in entered.text else self._key_lines - 1
            return MASKED
        if (begins := _KEY_BEGINS.search(entered.text)) and _KEY_ENDS not in entered.text[begins.end() :]:
            self._key_lines = KEY_LINES_MAX
        return MASKED if entered.is_secret else self._mask(entered.text)

    def _text(self, seq: int, *, all_of_it: bool) -> list[Observation]:
        text, omitted = self._collector.take(all_of_it=all_of_it)
        if not text:
            return []
        status = self._exit_status if all_of_it else None
        shown = TextShown(self.total, text, self._text_from_seq, max(seq, self._text_from_seq), omitted, self._parts, status)
        self._parts += 1
        self._text_from_seq = shown.to_seq
        return [shown]


def program(command: str) -> str:
    """The name of the program that a command line starts first."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for word in words:
        if word in _WRAPPERS or word.startswith("-") or "=" in word:
            continue
        return word.rpartition("/")[2].strip("\"'();|&<>")[:64]
    return ""
