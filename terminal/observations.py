"""What can be observed in a terminal's bytes."""

from msgspec import Struct


class InputEchoed(Struct, frozen=True):
    """Keys that the terminal showed, or that show nothing by their nature, like arrows and Enter.

    `typed_after` says when they were typed, which is before they were seen: (output event, how many bytes after it), in order.
    """

    data: bytes
    typed_after: tuple[tuple[int, int], ...] = ()


class InputMasked(Struct, frozen=True):
    """Keys that the terminal did not show: neither they nor their number are given.

    `entered_after`: the output event after which Enter was typed behind them; None when it was not.
    """

    entered_after: int | None = None


class CommandEntered(Struct, frozen=True):
    """Command line `n` (from 1) was entered. `confidence`: `exact` (told by the shell), `screen` (read from it) or `input`.

    `started_seq` is the output event in which its line began, `output_from_seq` the one after which its output follows.
    `context` names what read the line when that was not the login shell. `masked`: secrets are left out of `text`.
    """

    n: int
    text: str
    confidence: str
    started_seq: int
    output_from_seq: int
    context: str = ""
    cwd: str | None = None
    masked: bool = False


class TextShown(Struct, frozen=True):
    """What a person would have read after command `n` (0: before the first), in output events `from_seq` to `to_seq`."""

    n: int
    text: str
    from_seq: int
    to_seq: int
    omitted_chars: int = 0
    part: int = 0
    exit_status: int | None = None


class CommandFinished(Struct, frozen=True):
    """The output of command `n` ended in output event `output_to_seq`; `exit_status` is known only when the shell told it."""

    n: int
    output_to_seq: int
    exit_status: int | None = None


Observation = InputEchoed | InputMasked | CommandEntered | TextShown | CommandFinished
