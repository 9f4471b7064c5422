"""The bytes that draw an emulator's screen again on an empty terminal: contents, colours, cursor and modes (ECMA-48, xterm)."""

from collections.abc import Iterator, Sequence
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

type Cell = tuple[str, tuple[int, int, int], tuple[int, int, int], Any]


def draw(terminal: Terminal, cols: int, rows: int) -> bytes:
    """Bytes for a terminal of `cols` x `rows` in any state."""
    parts = [RESET]
    is_alternate = terminal.is_alt_screen_active()  # of which the emulator does not tell the wrapped rows
    if is_alternate:
        parts.append("\x1b[?1049h")
    default = (terminal.default_fg(), terminal.default_bg())
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


def _runs(cells: Sequence[Cell], default: tuple[Any, Any]) -> Iterator[str]:
    style = ""
    for char, foreground, background, attributes in cells:
        if attributes.wide_char_spacer:
            continue
        wanted = _style(foreground, background, attributes, default)
        if wanted != style:
            yield f"\x1b[0{wanted}m"
            style = wanted
        yield char if char and char != "\0" else " "
    if style:
        yield "\x1b[0m"


def _style(foreground: Any, background: Any, attributes: Any, default: tuple[Any, Any]) -> str:
    codes = "".join(f";{code}" for name, code in _FLAGS if getattr(attributes, name))
    if tuple(foreground) != tuple(default[0]):
        codes += ";38;2;" + ";".join(map(str, foreground))
    if tuple(background) != tuple(default[1]):
        codes += ";48;2;" + ";".join(map(str, background))
    return codes


def _without_blank_end(cells: Sequence[Cell], default: tuple[Any, Any]) -> Sequence[Cell]:
    end = len(cells)
    while end and cells[end - 1][0] in (" ", "", "\0") and not _style(*cells[end - 1][1:], default):
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
