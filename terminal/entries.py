"""One line that is being typed, what becomes of it, and how it is found on the screen."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from terminal import keys as typed_keys
from terminal.keys import could_show, printable_runs, without_end
from terminal.prompts import Look, context, continued

TAIL_CHARS: Final = 40
"""Of a line whose beginning has left the screen, so much has to be on it."""


class Entry(Struct):
    """A line that is being typed: its keys so far, and the screen's line before them when that was a prompt."""

    prompt: str | None
    is_placed: bool
    """Whether that is sure; else the prompt may be drawn only later than the keys were typed."""
    started_seq: int
    keys: bytearray
    pieces: list[tuple[int, int]]
    """At which offset of `keys` those begin that were typed after which output event."""
    is_edited: bool = False
    """The prompt was seen after the line editor had come, so it is that of the editor."""
    is_entered: bool = False
    """Ended by Enter."""
    is_aborted: bool = False
    """Ended by Ctrl-C: nothing of it is entered."""
    told: int = 0
    """How many of the keys were seen on the screen, and told."""
    had_output: bool = False
    """Whether the machine has sent anything since."""


class Entered(Struct, frozen=True):
    """A line was entered: its text, and how it was found. `prompt` is what stands before it."""

    text: str
    confidence: str
    started_seq: int
    context: str
    continues: bool
    prompt: str
    is_sure: bool = True
    """Whether the prompt is one; else it may be only its beginning."""
    is_secret: bool = False
    """Shown, and yet the answer to a question for a secret."""
    is_ahead: bool = False
    """Echoed where no prompt stood: what reads it is not known yet."""
    echoed_seq: int = 0
    """Of such a line, the output event with which its echo was finished."""
    keys: bytes = b""
    """Of such a line, when keys are among them that do something else at a prompt than what the echo shows."""


class Seen(Struct, frozen=True):
    """What became of keys: `echoed` were shown, or show nothing; `masked` tells that others were not."""

    echoed: bytes = b""
    typed_after: tuple[tuple[int, int], ...] = ()
    masked: bool = False
    entered_after: int | None = None
    """With `masked`: after which output event Enter was typed."""
    entered: Entered | None = None
    finished: bool = False
    """The screen's line is done: it was a prompt and what was typed at it."""
    is_veiled: bool = False
    """What was entered is hidden by what reads it."""


def edited(entries: Sequence[Entry], look: Look, *, indents: bool) -> tuple[str, str, str]:
    """The text that a line editor was done with, how it was found, and its prompt."""
    expected = "\n".join(filter(None, (typed_keys.text(without_end(bytes(entry.keys))) or "" for entry in entries)))
    last = expected.rpartition("\n")[2].rstrip()
    if len(last) > TAIL_CHARS and look.lines[-1].endswith(last[-TAIL_CHARS:]) and not look.lines[-1].endswith(last):
        return expected, "input", look.prompt or ""  # longer than the screen
    if look.prompt is not None:
        rest = continued(look, indents=indents)
        shown = "\n".join([look.lines[0][len(look.prompt) :], *rest])
        same = "\n" in expected and not context(look.prompt) and expected.replace("\t", " ").split() == shown.split()
        if rest and _is_interrupted(expected, shown.split("\n")):
            return expected, "input", look.prompt
        return (expected if same else shown), "screen", look.prompt
    if last and look.lines[-1].endswith(last):
        is_whole = "\n" not in expected
        return expected, "screen" if is_whole else "input", look.lines[-1].removesuffix(last) if is_whole else ""
    runs = printable_runs(without_end(bytes(entries[0].keys))) if entries else []
    longest = max(runs, key=len, default="")
    if len(longest.strip()) > 1 and longest in look.lines[-1]:
        start = look.lines[-1].find(longest)
        return look.lines[-1][start:], "input", look.lines[-1][:start]
    return "", "input", ""


def _is_interrupted(expected: str, shown: Sequence[str]) -> bool:
    """Whether `shown` is what was typed, with the output of another program in its midst."""
    end = shown[-1].rstrip()
    return (
        bool(end)
        and "\n" not in expected
        and expected.rstrip().endswith(end)
        and shown[0].startswith(expected.rstrip()[: -len(end)])
    )


def could_be_edited(entry: Entry, look: Look, shown: str) -> bool:
    """Whether the line editor may have made of the keys what it shows, from its prompt on: `shown`."""
    if look.prompt is None:
        return is_part(entry, shown)
    text = shown[len(look.prompt) :]
    return could_show(without_end(bytes(entry.keys)), text.removesuffix("^C") if entry.is_aborted else text) or (
        len(look.lines) > 1 and is_part(entry, shown)
    )


def is_part(entry: Entry, shown: str) -> bool:
    """Whether what was typed stands somewhere in `shown`."""
    keys = without_end(bytes(entry.keys))
    expected = typed_keys.text(keys)
    if expected is not None:
        return all(line.strip() in shown for line in expected.split("\n")) and bool(expected.strip())
    longest = max(printable_runs(keys), key=len, default="")
    return len(longest) > 1 and longest in shown


def entered_text(entry: Entry, line: str) -> str | None:
    """What was entered, when `line` is the line of `entry`; None when it is not."""
    if entry.is_aborted:
        return "" if is_shown(entry, line.removesuffix("^C")) else None
    keys = without_end(bytes(entry.keys))
    expected = typed_keys.text(keys)
    if expected is not None and expected.strip():
        if entry.prompt is not None and line.startswith(entry.prompt):
            if could_show(keys, line[len(entry.prompt) :]):
                return expected
            between = line[len(entry.prompt) :].removesuffix(expected.rstrip())  # the rest of the prompt was drawn later
            return expected if between != line[len(entry.prompt) :] and not between[-1:].isalnum() else None
        return expected.rstrip() if line.endswith(expected.rstrip()) else None
    if entry.prompt is None:
        if expected is not None:
            return ""
        echoed = typed_keys.as_driver_echoes(keys)
        return echoed if line.split() == echoed.split() else None
    if expected is not None or not printable_runs(keys):
        text = line[len(entry.prompt) :] if line.startswith(entry.prompt) else ""
        if expected is not None:
            return "" if line.rstrip() == entry.prompt.rstrip() else None
        return text if text or line.rstrip() == entry.prompt.rstrip() else None
    if not line.startswith(entry.prompt) or line == entry.prompt:
        return None
    text = line[len(entry.prompt) :]
    return text if could_show(keys, text) else None


def is_shown(entry: Entry, line: str) -> bool:
    """Whether what was typed so far stands in `line`, where the prompt ends."""
    keys = without_end(bytes(entry.keys)) if entry.is_aborted else bytes(entry.keys)
    if not printable_runs(keys):
        return True
    if entry.prompt is None or not line.startswith(entry.prompt):
        return False
    return could_show(keys, line[len(entry.prompt) :])


def is_unshown(entry: Entry, line: str) -> bool:
    """Whether the line of `entry` is finished and shows nothing of it, as after a password."""
    return entry.prompt is not None and line.rstrip() == entry.prompt.rstrip() and bool(printable_runs(bytes(entry.keys)))


def before_keys(line: str, entry: Entry) -> str | None:
    """What of `line` was there before the keys of `entry` were echoed, as far as they are."""
    keys = without_end(bytes(entry.keys))
    run = next(iter(printable_runs(keys)), "")
    if "".join(typed_keys.as_driver_echoes(keys).split()).startswith("".join(line.split())):
        return None
    for size in range(min(len(run), len(line)), 0, -1):
        before = line[:-size]
        if line.endswith(run[:size]) and not before[-1:].isalnum():
            return before if before.strip() else None
    return line


def masked(entry: Entry) -> Seen:
    """That keys were not shown."""
    return Seen(masked=True, entered_after=entry.pieces[-1][1] if entry.is_entered else None)


def typed_after(entry: Entry) -> tuple[tuple[int, int], ...]:
    """Of the keys that were not told yet: after which output event how many were typed."""
    ends = [offset for offset, _ in entry.pieces[1:]] + [len(entry.keys)]
    after = []
    for (start, seq), end in zip(entry.pieces, ends, strict=True):
        if end > max(start, entry.told):
            after.append((seq, end - max(start, entry.told)))
    return tuple(after)
