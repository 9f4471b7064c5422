"""Lines that are being typed: their keys are kept until the screen has shown them, and no longer.

What the screen does not show is forgotten, which is how passwords stay out of every event. A line ends in one of two ways:
a newline finishes it (`finished`: the terminal driver's own line editing, and editors that say nothing), or a line editor
that switches bracketed paste on for its prompt switches it off again (`accepted`: bash, zsh, fish, readline, Python).
"""

from collections import deque
from itertools import islice
from typing import Final

from terminal import keys as typed_keys
from terminal.entries import (
    Entered,
    Entry,
    Seen,
    before_keys,
    could_be_edited,
    edited,
    entered_text,
    is_part,
    is_shown,
    is_unshown,
    masked,
    typed_after,
)
from terminal.keys import ABORT, could_show, printable_runs, without_end
from terminal.prompts import Look, context, is_continuation, is_for_secret, is_veiled

KEYS_BYTES_MAX: Final = 256 * 1024
"""Of keys that wait to be shown; what is typed beyond is taken as not shown."""

ENTRIES_MAX: Final = 1024
"""Of lines that wait to be shown."""

ENTRIES_LOOKED_MAX: Final = 8
"""Of these, so many are looked for in a line of the screen; one that is shown later is taken as not shown."""

PROMPTS_MAX: Final = 8
"""So many of the last different prompts are known again where one was not seen before the keys came."""

PIECES_MAX: Final = 512
"""Of one line: so many times is told when which of its keys were typed."""

END_OF_INPUT: Final = b"\x04"

UNKNOWN: Final = "\ufdd0\ufdd0\ufdd0\r"
"""In place of keys that were not kept: characters that Unicode has set aside, so that no screen shows them."""


class Lines:
    """The lines that are typed but not entered yet, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Entry] = deque()
        self._typing: Entry | None = None
        self._bytes = 0
        self._pasting = False
        self._prompts: dict[str, str] = {}
        """The newest last, each with what read the lines there."""
        self.enters = 0
        """How many lines were ended by Enter and not seen entered: without one, nothing can be."""

    @property
    def is_waiting(self) -> bool:
        """Whether a line was finished by Enter that the screen has not finished yet."""
        return bool(self._waiting)

    @property
    def has_keys(self) -> bool:
        """Whether any keys have not been told of yet."""
        return bool(self._waiting or self._typing)

    def prompts(self) -> list[str]:
        """Prompts at which a line may end now, the likeliest first."""
        entries = [*islice(self._waiting, PROMPTS_MAX), *([self._typing] if self._typing else [])]
        placed = [entry.prompt for entry in entries if entry.prompt and entry.is_placed]
        others = [entry.prompt for entry in entries if entry.prompt and not entry.is_placed]
        return list(dict.fromkeys([*placed, *reversed(self._prompts), *others]))

    def knows(self, prompt: str, reader: str = "") -> str:
        """`prompt` is one, at which `reader` reads unless it was known before; returns what reads there."""
        if not prompt.strip():
            return reader
        reader = self._prompts.pop(prompt, reader)
        self._prompts[prompt] = reader
        if len(self._prompts) > PROMPTS_MAX:
            del self._prompts[next(iter(self._prompts))]
        return reader

    def is_prompt(self, line: str) -> bool:
        """Whether a line was entered at this prompt lately."""
        return line in self._prompts

    def typed(self, data: bytes, line: str, seq: int, *, is_quiet: bool = False) -> list[Seen]:
        """Keys were typed while the cursor's line was `line`, after output event `seq`; `is_quiet`: long after it."""
        seen: list[Seen] = []
        for keys, is_end, pasting in typed_keys.lines(data, pasting=self._pasting):
            self._pasting = pasting
            seen += self._press(keys, line, seq, is_end=is_end, is_quiet=is_quiet)
        return seen

    def unseen(self, line: str, seq: int) -> None:
        """A line was typed that was not shown; what it was is not known any more."""
        self.typed(UNKNOWN.encode(), line, seq)

    def output_came(self) -> None:
        """The machine sent something, so what it shows of the keys so far may have come."""
        for entry in self._waiting:
            entry.had_output = True

    def editor_comes(self) -> None:
        """A line editor takes over: the prompt is what it draws, whatever stood there when keys were typed."""
        for entry in (*islice(self._waiting, 1), *([self._typing] if self._typing else [])):
            entry.is_placed = entry.is_edited = False

    def stands_at(self, line: str, *, editing: bool) -> None:
        """The output goes up to the cursor's `line`: a prompt, perhaps, that was drawn later than keys were typed at it.

        `editing`: a line editor has the terminal, which shows its prompt once, and what is typed in lines below it.
        """
        entry = self._waiting[0] if self._waiting else self._typing
        if entry is None or entry.is_placed or entry.told:
            return
        known = max((prompt for prompt in self._prompts if line.startswith(prompt)), key=len, default=None)
        prompt = entry.prompt
        if prompt is not None and line.startswith(prompt):
            entry.is_edited = editing
            if known is not None and known.startswith(prompt):
                entry.prompt = known
            elif printable_runs(keys := without_end(bytes(entry.keys))) == [typed_keys.text(keys)]:
                entry.prompt = before_keys(line, entry)
                entry.is_placed = line != entry.prompt
        elif known is not None:
            entry.prompt, entry.is_placed = known, True
        elif editing and entry.is_edited:
            return
        elif not line.strip():
            entry.prompt = None
        elif prompt is None or not prompt.startswith(line):
            entry.prompt = before_keys(line, entry)
            entry.is_edited = editing

    def finished(self, line: str) -> list[Seen]:
        """The screen finishes a line, which reads `line`: the newline of an Enter came back, or a program wrote one."""
        for number, entry in enumerate(islice(self._waiting, ENTRIES_LOOKED_MAX)):
            text = entered_text(entry, line)
            if text is not None:
                seen = [self._forget(self._waiting.popleft()) for _ in range(number)]
                return [*seen, self._accept(self._waiting.popleft(), text, line)]
        if self._waiting and (self._waiting[0].is_placed or is_for_secret(line)) and is_unshown(self._waiting[0], line):
            return [self._forget(self._waiting.popleft())]
        return []

    def accepted(self, look: Look, *, again: Entered | None = None, indents: bool = False) -> list[Seen]:
        """A line editor is done with what it shows in `look`; it need not be what the keys say.

        `again`: a line that was typed before, and is read only now. `indents`: the editor is one that sets the lines
        of a command below each other, as fish does.
        """
        self._pasting = False
        if not self._waiting and self._typing is not None and self._typing.keys:
            self._waiting.append(self._typing)
            self._typing = None
        look, is_sure = self._with_sure_prompt(look)
        seen, entries = self._entries_of(look, or_the_oldest=again is None)
        self.enters = max(self.enters - (sum(entry.is_entered for entry in entries) if entries else 1), 0)
        if look.prompt is None and not entries and again is not None:
            text, confidence, prompt = again.text, "screen", again.prompt
        else:
            text, confidence, prompt = edited(entries, look, indents=indents)
        seen += [self._told(entry, text) for entry in entries]
        if entries and entries[-1].is_aborted:
            text = ""
        if is_sure:
            self.knows(prompt, context(prompt))
        if not text.strip() or is_veiled(text):
            return [*seen, Seen(finished=True, is_veiled=bool(text.strip()))]
        started_seq = entries[0].started_seq if entries else 0
        entered = Entered(text.rstrip(), confidence, started_seq, context(prompt), is_continuation(prompt), prompt, is_sure=is_sure)
        return [*seen, Seen(entered=entered, finished=True)]

    def settled(self, line: str, *, editing: bool) -> list[Seen]:
        """It has been quiet: whatever of the keys is to be shown is shown by now, in `line`. A line editor may take its time."""
        seen: list[Seen] = []
        while self._waiting and self._waiting[0].had_output and not editing:
            seen.append(self._forget(self._waiting.popleft()))
        if self._typing is not None and not self._waiting:
            seen += self._look_at(self._typing, line)
        return [each for each in seen if each != Seen()]

    def abandoned(self) -> list[Seen]:
        """The line editor has gone without anything entered, as after Ctrl-D: the keys that did it belong to no line."""
        entry = self._typing
        if entry is None or self._waiting or printable_runs(bytes(entry.keys)):
            return []
        self._typing = None
        return [self._forget(entry)]

    def forget_all(self) -> list[Seen]:
        """Nothing will be shown any more."""
        entries = [*self._waiting, *([self._typing] if self._typing else [])]
        self._waiting.clear()
        self._typing = None
        return [each for each in map(self._forget, entries) if each != Seen()]

    def _press(self, keys: bytes, line: str, seq: int, *, is_end: bool, is_quiet: bool) -> list[Seen]:
        entry = self._typing
        if entry is None:
            # With lines still waiting, the screen does not stand at this line's prompt yet; a blank line is none.
            prompt = None if self._waiting or not line.strip() else line
            is_placed = prompt is not None and (is_quiet or prompt in self._prompts)
            entry = self._typing = Entry(prompt, is_placed, seq, bytearray(), [])
        if self._bytes + len(keys) > KEYS_BYTES_MAX or len(self._waiting) >= ENTRIES_MAX:
            self._typing = None
            self._bytes -= len(entry.keys)
            return [Seen(masked=True)]
        if (not entry.pieces or entry.pieces[-1][1] != seq) and len(entry.pieces) < PIECES_MAX:
            entry.pieces.append((len(entry.keys), seq))
        entry.keys += keys
        self._bytes += len(keys)
        if entry.keys == END_OF_INPUT and not self._waiting:  # in an empty line it ends what reads, and is no part of the next line
            self._typing = None
            self._bytes -= len(entry.keys)
            return [self._echoed(entry)]
        if is_end:
            entry.is_aborted = keys.endswith(ABORT)
            entry.is_entered = not entry.is_aborted
            self.enters += entry.is_entered
            self._waiting.append(entry)
            self._typing = None
        return []

    def _with_sure_prompt(self, look: Look) -> tuple[Look, bool]:
        """`look` with the prompt that the keys leave over, where keys came before their prompt; and whether it is sure."""
        line, entries = look.lines[-1], list(islice(self._waiting, ENTRIES_LOOKED_MAX))
        is_known = look.prompt in self._prompts or any(each.is_placed and each.prompt == look.prompt for each in entries)
        if look.prompt is not None and (is_known or len(look.lines) > 1):
            return look, is_known
        for each in entries:
            text = (typed_keys.text(without_end(bytes(each.keys))) or "").rstrip()
            prompt = line.removesuffix(text)
            if text and not each.is_placed and prompt not in ("", line) and not prompt[-1].isalnum():
                return Look((line,), prompt), True
        return look, look.prompt is None or line == look.prompt

    def _entries_of(self, look: Look, *, or_the_oldest: bool) -> tuple[list[Seen], list[Entry]]:
        """The lines that were typed for what a line editor was done with, at most as many as it has lines.

        Those before them were typed for something else that did not show them.
        """
        shown = "\n".join(look.lines)
        for number, entry in enumerate(islice(self._waiting, ENTRIES_LOOKED_MAX)):
            if could_be_edited(entry, look, shown):
                seen = [self._forget(self._waiting.popleft()) for _ in range(number)]
                taken = [self._waiting.popleft()]
                while self._waiting and len(taken) < len(look.lines) and is_part(self._waiting[0], shown):
                    taken.append(self._waiting.popleft())
                return seen, taken
        # None that could be: of several, the oldest was meant, and the editor has made something else of it.
        return [], [self._waiting.popleft()] if self._waiting and or_the_oldest else []

    def _look_at(self, entry: Entry, line: str) -> list[Seen]:
        """Tell of the keys of an unfinished line as far as they are on the screen."""
        if entry.told == len(entry.keys) or not is_shown(entry, line):
            return []
        return [self._echoed(entry)]

    def _echoed(self, entry: Entry) -> Seen:
        untold = bytes(entry.keys[entry.told :])
        after = typed_after(entry)
        entry.told = len(entry.keys)
        return Seen(echoed=untold, typed_after=after)

    def _told(self, entry: Entry, text: str) -> Seen:
        """What became of the keys of a line that an editor was done with as `text`."""
        self._bytes -= len(entry.keys)
        keys = without_end(bytes(entry.keys))
        is_shown = not printable_runs(keys) or could_show(keys, text) or is_part(entry, text)
        return self._echoed(entry) if is_shown else masked(entry)

    def _accept(self, entry: Entry, text: str, line: str) -> Seen:
        self._bytes -= len(entry.keys)
        self.enters = max(self.enters - entry.is_entered, 0)
        echoed = self._echoed(entry)
        if not text.strip() or entry.is_aborted:
            is_line = not entry.is_aborted or bool(printable_runs(bytes(entry.keys)))
            return Seen(echoed=echoed.echoed, typed_after=echoed.typed_after, finished=is_line)
        keys = without_end(bytes(entry.keys))
        is_edited = entry.prompt is None and typed_keys.text(keys) is None
        before = "" if is_edited else line[: len(line) - len(text)]
        entered = Entered(
            text=text.rstrip(),
            confidence="screen",
            started_seq=entry.started_seq,
            context=context(before),
            continues=is_continuation(before),
            prompt=before,
            is_secret=is_for_secret(before),
            is_ahead=not before,
            keys=keys if is_edited else b"",
        )
        after = entry.pieces[-1][1] if entry.is_entered else None
        return Seen(echoed.echoed, echoed.typed_after, entered_after=after, entered=entered, finished=True)

    def _forget(self, entry: Entry) -> Seen:
        """Nothing of it was shown, as at a password prompt."""
        self._bytes -= len(entry.keys)
        self.enters = max(self.enters - entry.is_entered, 0)
        if printable_runs(bytes(entry.keys[entry.told :])):
            return masked(entry)
        return self._echoed(entry)
