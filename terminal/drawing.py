"""The bytes that draw an emulator's screen again on an empty terminal: contents, colours, cursor and modes (ECMA-48, xterm)."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from par_term_emu_core_rust import Terminal

RESET: Final = "\x1bc"

_FLAGS: Final = (
    ("bold", 1),
    ("dim", 2),
    ("italic", 3),
    ("underline", 4),
    ("blink", 5),
    ("reverse", 7),
    ("hidden", 8),
    ("strikethrough", 9),
)

_MOUSE_MODES: Final = {"x10": 9, "normal": 1000, "button": 1002, "buttonevent": 1002, "any": 1003, "anyevent": 1003}

type Colour = tuple[int, int, int]
type Cell = tuple[str, Colour, Colour, Any]
"""Its character, foreground, background and attributes."""

type Look = tuple[Colour, Colour, tuple[bool, ...]]
"""Foreground, background, and whether each of `FLAGS` is set."""

FLAGS: Final = tuple(name for name, _ in _FLAGS)
_flags_of = attrgetter("wide_char_spacer", *FLAGS)


def draw(terminal: Terminal, cols: int, rows: int) -> bytes:
    """Bytes for a terminal of `cols` x `rows` in any state."""
    parts = [RESET]
    is_alternate = terminal.is_alt_screen_active()  # of which the emulator does not tell the wrapped rows
    if is_alternate:
        parts.append("\x1b[?1049h")
    default = (tuple(terminal.default_fg()), tuple(terminal.default_bg()))
    continues = False
    for row in range(rows):
        cells = terminal.get_line_cells(row) or []
        wraps = not is_alternate and bool(terminal.is_line_wrapped(row)) and row + 1 < rows
        runs = "".join(_runs(cells if wraps else _without_blank_end(cells, default), default))
        if runs or wraps:
            parts.append(runs if continues else f"\x1b[{row + 1}H{runs}")
        continues = wraps
    parts.extend(_modes(terminal, rows))
    col, row = terminal.cursor_position()
    parts.append(f"\x1b[{row + 1};{min(col, cols - 1) + 1}H")
    if terminal.origin_mode():
        parts.append("\x1b[?6h")
    if not terminal.cursor_visible():
        parts.append("\x1b[?25l")
    return "".join(parts).encode()


def looks(cells: Sequence[Cell]) -> Iterator[tuple[Look, str]]:
    """The characters of a row in runs of one look; a wide character is one character."""
    look: Look | None = None
    gathered: list[str] = []
    for char, foreground, background, attributes in cells:
        flags = _flags_of(attributes)
        if flags[0]:
            continue
        wanted = (foreground, background, flags[1:])
        if wanted != look:
            if look is not None:
                yield look, "".join(gathered)
            look, gathered = wanted, []
        gathered.append(char if char and char != "\0" else " ")
    if look is not None:
        yield look, "".join(gathered)


def _runs(cells: Sequence[Cell], default: tuple[Colour, Colour]) -> Iterator[str]:
    style = ""
    for look, text in looks(cells):
        wanted = _style(look, default)
        if wanted != style:
            yield f"\x1b[0{wanted}m"
            style = wanted
        yield text
    if style:
        yield "\x1b[0m"


def _style(look: Look, default: tuple[Colour, Colour]) -> str:
    foreground, background, flags = look
    codes = "".join(f";{code}" for (_, code), is_set in zip(_FLAGS, flags, strict=True) if is_set)
    if foreground != default[0]:
        codes += ";38;2;" + ";".join(map(str, foreground))
    if background != default[1]:
        codes += ";48;2;" + ";".join(map(str, background))
    return codes


def _without_blank_end(cells: Sequence[Cell], default: tuple[Colour, Colour]) -> Sequence[Cell]:
    foreground, background = default
    end = len(cells)
    while end:
        char, its_foreground, its_background, attributes = cells[end - 1]
        if char not in (" ", "", "\0") or its_foreground != foreground or its_background != background:
            break
        if any(_flags_of(attributes)):
            break
        end -= 1
    return cells[:end]


def _modes(terminal: Terminal, rows: int) -> Iterator[str]:
    top, bottom = terminal.scroll_region()
    if (top, bottom) != (0, rows - 1):
        yield f"\x1b[{top + 1};{bottom + 1}r"
    if terminal.application_cursor():
        yield "\x1b[?1h"
    if terminal.application_keypad():
        yield "\x1b="
    if terminal.bracketed_paste():
        yield "\x1b[?2004h"
    if terminal.focus_tracking():
        yield "\x1b[?1004h"
    if terminal.insert_mode():
        yield "\x1b[4h"
    if not terminal.auto_wrap_mode():
        yield "\x1b[?7l"
    if mouse := _MOUSE_MODES.get(str(terminal.mouse_mode()).lower().replace("_", "").replace("-", "")):
        yield f"\x1b[?{mouse}h"
        if "sgr" in str(terminal.mouse_encoding()).lower():
            yield "\x1b[?1006h"
