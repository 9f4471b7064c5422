"""Watches one terminal: gets every byte that is typed and shown, tells what a person would say has happened."""

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from msgspec.structs import replace

from terminal import marks
from terminal.ahead import Ahead, Fate
from terminal.commands import Commands
from terminal.emulator import Emulator, Screen
from terminal.entries import Entered, Seen
from terminal.lines import Lines
from terminal.marks import Kind, Mark
from terminal.observations import InputEchoed, InputMasked, Observation
from terminal.prompts import Look, asks_for_secret, is_continuation, look

DETECTION: Final = 2
"""Counts up when what is told of the same bytes changes; logs that were rebuilt say by which they were."""

LOOKS_MAX: Final = 1000
"""So many lines of output are looked at for what was typed last; then it is not expected among them any more."""

SINCE_BYTES_MAX: Final = 4096

_SHOWS_NOTHING: Final = re.compile(
    rb"(?:\x1b\[[0-9;:<=>?]*[ -/]*[@-~]|\x1b[()][0-9A-Za-z]|\x1b[=>]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r)*"
)


class Observer:
    """Pure: the same calls give the same observations. Costs little while nothing is typed, however much is shown."""

    def __init__(self, cols: int, rows: int, mask: Callable[[str], str] = str) -> None:
        """`mask` gives a command's text without the secrets that it contains."""
        self._emulator = Emulator(cols, rows)
        self._lines = Lines()
        self._commands = Commands(mask)
        self._ahead = Ahead()
        self._entered = 0
        """How many lines were entered at prompts."""
        self._is_quiet = False
        """Whether nothing was shown for a moment."""
        self._seq = 0
        self._carry = b""
        """The end of the output that may be the beginning of a mark or a newline."""
        self._editing = False
        """Whether a line editor has the terminal."""
        self._has_editor = False
        """Whether one was seen, which is then taken for the shell's: what reads lines without one is another program."""
        self._full_screen = False
        self._masked_there = False
        """Whether keys to the present full-screen program were told of as masked."""
        self._looks = 0
        self._look: Look | None = None
        """What the line editor showed before the last newline, and what came since."""
        self._since = b""
        self._edited_lines = 0
        """How many lines it can show above the cursor's."""
        self._newline_follows = False
        """Whether the next newline is that of the line which was accepted, as zsh sends it."""
        self._prompt_hint = ""
        """The screen's line where the shell said that its prompt ends."""
        self._told_text = ""

    @property
    def commands_total(self) -> int:
        """How many commands were told."""
        return self._commands.total

    def typed(self, data: bytes) -> list[Observation]:
        """Keys on their way to the machine."""
        self._looks = 0
        if self._full_screen:  # what its keys show, if anything, cannot be told
            was_masked, self._masked_there = self._masked_there, True
            return [] if was_masked else [InputMasked()]
        line = "" if self._newline_follows else self._emulator.line()
        self._doubt_ahead(line)
        return self._told(self._lines.typed(data, line, self._seq, is_quiet=self._is_quiet))

    def typed_unseen(self) -> None:
        """A line was typed that was not shown, and so was not kept: what a record can tell of it."""
        if not self._full_screen:
            self._lines.unseen(self._emulator.line(), self._seq)

    def shown(self, data: bytes, seq: int) -> list[Observation]:
        """Output event `seq`."""
        self._seq, self._is_quiet = seq, False
        self._lines.output_came()
        if self._carry:
            data, self._carry = self._carry + data, b""
        end = marks.unfinished(data)
        if end < len(data):
            data, self._carry = data[:end], data[end:]
        told: list[Observation] = []
        if self._watches() or marks.may_hold(data):
            told = self._walk(data)
        else:
            self._show(data)
        if self._lines.has_keys and not self._full_screen and self._looks <= LOOKS_MAX:
            self._looks += 1
            self._lines.stands_at("" if self._newline_follows else self._emulator.line(), editing=self._editing)
        return told

    def resized(self, cols: int, rows: int) -> list[Observation]:
        """The terminal has another size from here on."""
        self._emulator.resize(cols, rows)
        return []

    def settle(self) -> list[Observation]:
        """Nothing has happened for a moment: what is still open is decided."""
        self._flush()
        self._is_quiet = True
        if not self._lines.has_keys and not self._commands.is_held and not self._editing and not self._ahead:
            return self._commands.text(self._seq)
        line = self._emulator.line()
        is_open = is_continuation(line)
        self._doubt_ahead(line)
        told = self._fated(self._ahead.settled(self._entered)) if self._editing and not is_open else []
        told += self._told(self._lines.settled(line, editing=self._editing))
        if is_open:
            return told
        told += self._commands.release()
        if self._editing:
            return [*told, *self._commands.end(self._seq)]
        return [*told, *self._commands.text(self._seq)]

    def finish(self) -> list[Observation]:
        """The session is over."""
        self._flush()
        line = self._emulator.line()
        self._doubt_ahead(line)
        told = self._fated(self._ahead.finish(line, self._entered, has_editor=self._has_editor))
        told += self._told([*self._lines.settled(line, editing=False), *self._lines.forget_all()])
        told += self._commands.release()
        if self._lines.is_prompt(line):
            self._commands.drop_line()
        return [*told, *self._commands.end(self._seq)]

    def screen(self) -> Screen:
        """What is on the screen now."""
        return self._emulator.screen()

    def park(self) -> None:
        """Nobody looks for a while: give memory back."""
        self._emulator.park()

    def _watches(self) -> bool:
        """Whether what the next finished line reads can tell something."""
        if self._full_screen or self._looks > LOOKS_MAX:
            return False
        if self._editing:
            return self._is_enter_due()
        return self._lines.is_waiting or self._commands.is_held or bool(self._ahead)

    def _is_enter_due(self) -> bool:
        """Whether Enter was typed that no line was seen to be entered by, at the line editor's prompt."""
        return self._lines.enters > 0 or bool(self._ahead)

    def _walk(self, data: bytes) -> list[Observation]:
        """Show `data`, looking at the screen before every newline and at every mark that can tell something."""
        told: list[Observation] = []
        position = 0
        mark = marks.find(data, 0)
        while True:
            end = mark.start if mark else len(data)
            newline = data.find(b"\n", position, end) if self._watches() else -1
            if newline >= 0:
                line_end = position + len(data[position:newline].rstrip(b"\r"))
                self._show(data[position:line_end])
                told += self._newline()
                self._show(data[line_end : newline + 1])
                position = newline + 1
            elif mark:
                self._show(data[position : mark.start])
                told += self._marked(mark)
                self._show(data[mark.start : mark.end])
                position = mark.end
                mark = marks.find(data, position)
            else:
                break
        rest = data[position:]
        if self._watches() and not self._carry:  # a carriage return may belong to a newline, before which one has to look
            kept = rest.rstrip(b"\r")
            rest, self._carry = kept, rest[len(kept) :]
        self._show(rest)
        return told

    def _show(self, data: bytes) -> None:
        if not data:
            return
        self._emulator.write(data)
        if self._full_screen:
            return
        if self._editing:
            self._edited_lines += data.count(b"\n")
            if len(self._since) < SINCE_BYTES_MAX:
                self._since += data
        else:
            self._commands.show(data)

    def _flush(self) -> None:
        data, self._carry = self._carry, b""
        self._show(data)

    # Lines end.

    def _newline(self) -> list[Observation]:
        self._looks += 1
        if self._editing:
            self._look, self._since = self._looked(), b""
            return []
        if self._newline_follows:
            self._newline_follows = False
            return []
        line = self._emulator.line()
        seen = self._lines.finished(line)
        if not seen and self._lines.is_waiting and (longer := self._emulator.line_over_full_rows()) != line:
            seen = self._lines.finished(longer)
        if self._ahead:
            seen += self._ahead_of(line, seen)
        released = [] if any(each.entered and each.entered.continues for each in seen) else self._commands.release()
        return [*released, *self._told(seen)]

    def _doubt_ahead(self, line: str) -> None:
        """What was typed before the question for a secret in `line` may be the answer."""
        if self._ahead and asks_for_secret(line):
            self._ahead.doubt()

    def _ahead_of(self, line: str, seen: list[Seen]) -> list[Seen]:
        """What a finished `line`, in which `seen` was seen, tells of the lines that were typed ahead."""
        self._doubt_ahead(line)
        if any(each.entered for each in seen):
            return []
        if again := self._ahead.again(line, known=self._lines.prompts()):
            return [Seen(entered=replace(again, started_seq=self._seq, continues=is_continuation(again.prompt)), finished=True)]
        self._ahead.passes(line)
        return []

    def _looked(self) -> Look:
        prompts = self._lines.prompts()
        if self._prompt_hint:
            prompts.insert(0, self._prompt_hint)
        return look(self._emulator.line(), islice(self._emulator.lines_above(), self._edited_lines), prompts)

    def _accepted(self) -> list[Observation]:
        """The line editor gives the terminal back: what it shows was entered."""
        before_newline, since = self._look, self._since
        is_newest = before_newline is not None and _SHOWS_NOTHING.fullmatch(since.removeprefix(b"\r").removeprefix(b"\n"))
        look = before_newline if is_newest and before_newline else self._looked()
        again = self._ahead.again(look.lines[-1], known=self._lines.prompts()) if self._ahead else None
        if again is None and not self._lines.enters and not self._lines.is_waiting:
            self._leave_editor()
            return self._told(self._lines.abandoned())
        seen = self._lines.accepted(look, again=again, indents=self._commands.editor_indents)
        told = self._told(seen)
        self._leave_editor()
        self._newline_follows = not is_newest
        return told

    def _enter_editor(self) -> None:
        if self._ahead:
            self._doubt_ahead(self._emulator.line())
        self._commands.prompt_returns(self._seq, is_prompt=self._lines.is_prompt)
        self._lines.editor_comes()
        self._editing = self._has_editor = True
        self._look, self._since, self._edited_lines = None, b"", 0

    def _leave_editor(self) -> None:
        self._editing = False
        self._look, self._since, self._prompt_hint = None, b"", ""

    # Marks.

    def _marked(self, mark: Mark) -> list[Observation]:
        if self._full_screen and mark.kind is not Kind.FULL_SCREEN_OFF:
            return []
        match mark.kind:
            case Kind.EDITOR_ON if not self._editing:
                self._enter_editor()
            case Kind.EDITOR_OFF if self._editing:
                if self._is_enter_due() or self._lines.is_waiting:
                    return self._accepted()
                self._leave_editor()
                return self._told(self._lines.abandoned())
            case Kind.FULL_SCREEN_ON:
                self._full_screen, self._masked_there = True, False
                self._ahead.doubt()
                self._commands.full_screen()
                return [*self._commands.release(), *self._told(self._lines.forget_all())]
            case Kind.FULL_SCREEN_OFF:
                self._full_screen = False
            case Kind.PROMPT_END:
                self._prompt_hint = self._emulator.line_to_cursor()
                self._lines.knows(self._prompt_hint)
            case Kind.COMMAND_LINE:
                self._told_text = mark.told
            case Kind.EXECUTES:
                return self._executes(mark)
            case Kind.EXECUTED:
                self._commands.executed(mark.exit_status)
            case Kind.DIRECTORY:
                self._commands.cwd = mark.told
            case _:
                pass
        return []

    def _executes(self, mark: Mark) -> list[Observation]:
        told_text, self._told_text = mark.told or self._told_text, ""
        is_typed = self._lines.enters > 0
        told = self._accepted() if self._editing and self._is_enter_due() else []  # fish says it before it lets go
        if is_typed and told_text.strip() and not self._commands.is_held:
            told += self._passed(Entered(told_text, "exact", self._seq, "", continues=False, prompt="told"))
        return [*told, *self._commands.execute(told_text, self._seq, is_typed=is_typed)]

    # What was seen becomes observations.

    def _told(self, seen: list[Seen]) -> list[Observation]:
        told: list[Observation] = []
        for each in seen:
            entered = each.entered
            if entered and entered.is_ahead:
                told += self._fated(self._ahead.hold(each, entered, self._entered, self._seq))
                continue
            if each.masked or each.is_veiled:
                self._ahead.doubt()
            if entered:
                told += self._passed(entered)
            told += self._keys_told(each, told)
            if each.finished:
                self._commands.drop_line()
            if entered:
                told += self._commands.enter(self._in_context(entered), self._seq)
        return told

    def _keys_told(self, seen: Seen, told: Sequence[Observation]) -> list[Observation]:
        """What became of keys: not before those that were typed ahead of them."""
        if self._ahead and (seen.masked or seen.echoed):
            return self._fated(self._ahead.defer(replace(seen, entered=None), self._entered))
        return self._observed(seen, told)

    def _observed(self, seen: Seen, told: Sequence[Observation]) -> list[Observation]:
        """What became of keys, behind what is `told` already."""
        observed: list[Observation] = []
        if seen.masked and list(told[-1:]) != [masked := InputMasked(seen.entered_after)]:
            observed.append(masked)
        if seen.echoed:
            observed.append(InputEchoed(seen.echoed, seen.typed_after))
        return observed

    def _passed(self, entered: Entered) -> list[Observation]:
        """A line was entered at a prompt: it is one that was typed ahead, or behind them."""
        told: list[Observation] = []
        if self._ahead and (not entered.continues or self._ahead.has(entered.text)):
            has_editor = self._editing or self._has_editor
            told = self._fated(self._ahead.entered(entered.text, entered.prompt, self._entered, has_editor=has_editor))
        self._entered += 1
        return told

    def _fated(self, decided: list[tuple[Fate, Seen]]) -> list[Observation]:
        """What became of lines that were typed ahead, and of keys behind them."""
        told: list[Observation] = []
        for fate, seen in decided:
            match fate:
                case Fate.UNKNOWN:
                    told += self._observed(Seen(masked=True, entered_after=seen.entered_after), told)
                case Fate.GIVEN | Fate.RAN if seen.entered:
                    reader = self._commands.running if fate is Fate.GIVEN else ""
                    told += [*self._observed(seen, told), *self._commands.read(replace(seen.entered, context=reader))]
                case _:
                    told += self._observed(seen, told)
        return told

    def _in_context(self, entered: Entered) -> Entered:
        """What reads lines without the shell's line editor, at a prompt that is not the shell's, is the program that runs."""
        is_shell = self._editing or not self._has_editor
        reader = entered.context or ("" if is_shell else self._commands.running)
        if entered.is_sure:
            reader = self._lines.knows(entered.prompt, reader)
        return replace(entered, context=reader)
