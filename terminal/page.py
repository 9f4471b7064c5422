"""A screen as one HTML element: its text escaped, its colours and other looks as inline styles."""

from html import escape
from typing import Final

from par_term_emu_core_rust import Terminal

from terminal.drawing import FLAGS, Colour, Look, looks

_LOOKS: Final = {
    "bold": "font-weight:bold",
    "dim": "opacity:.6",
    "italic": "font-style:italic",
    "hidden": "visibility:hidden",
}
_LINES: Final = {"underline": "underline", "strikethrough": "line-through"}


def element(terminal: Terminal, rows: int) -> str:
    """A `pre` with a line for each row."""
    foreground, background = _hex(terminal.default_fg()), _hex(terminal.default_bg())
    lines = [_line(terminal, row) for row in range(rows)]
    style = f"color:{foreground};background:{background};font-family:monospace;line-height:1.2"
    return f'<pre style="{style}">\n' + "\n".join(lines) + "\n</pre>"


def _line(terminal: Terminal, row: int) -> str:
    plain = (tuple(terminal.default_fg()), tuple(terminal.default_bg()), (False,) * len(FLAGS))
    parts = [(_style(look, plain), text) for look, text in looks(terminal.get_line_cells(row) or [])]
    if parts and not parts[-1][0]:
        parts[-1] = ("", parts[-1][1].rstrip())
    return "".join(f'<span style="{style}">{escape(text)}</span>' if style else escape(text) for style, text in parts)


def _style(look: Look, plain: Look) -> str:
    foreground, background, flags = look
    names = {name for name, is_set in zip(FLAGS, flags, strict=True) if is_set}
    if "reverse" in names:
        foreground, background = background, foreground
    styles = []
    if tuple(foreground) != plain[0]:
        styles.append(f"color:{_hex(foreground)}")
    if tuple(background) != plain[1]:
        styles.append(f"background:{_hex(background)}")
    styles += [style for name, style in _LOOKS.items() if name in names]
    if lines := [line for name, line in _LINES.items() if name in names]:
        styles.append(f"text-decoration:{' '.join(lines)}")
    return ";".join(styles)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
