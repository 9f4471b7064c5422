"""The screen as text and as HTML."""

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from terminal.emulator import Emulator


class Page(HTMLParser):
    """What a browser would show of it, and which elements it has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.styles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.styles += [value or "" for name, value in attrs if name == "style"]
        assert all(name == "style" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def emulator(output: bytes, cols: int = 20, rows: int = 4) -> Emulator:
    shown = Emulator(cols, rows)
    shown.write(output)
    return shown


def test_text_is_what_is_read() -> None:
    assert emulator("ab\x1b[1;31mcd\x1b[0m\r\n\r\n  日本 x".encode()).text() == "abcd\n\n  日本 x"
    assert emulator(b"").text() == ""


def test_markup_in_a_terminal_is_text_in_the_page() -> None:
    page = Page(emulator(b"<b>&amp;</pre>\r\n\"'\x1b[31m<script>").html())
    assert page.tags == {"pre", "span"}
    assert page.text.strip() == "<b>&amp;</pre>\n\"'<script>"


def test_colours_and_looks_are_styles() -> None:
    page = Page(emulator(b"\x1b[38;2;1;2;3ma\x1b[0;48;2;4;5;6mb\x1b[0;1;3;4mc\x1b[0;7md\x1b[0m e").html())
    assert page.text.strip() == "abcd e"
    assert page.styles[1:3] == ["color:#010203", "background:#040506"]
    assert page.styles[3] == "color:#ffffff;font-weight:bold;font-style:italic;text-decoration:underline"
    assert re.fullmatch(r"color:#[0-9a-f]{6};background:#[0-9a-f]{6}", page.styles[4]), "reverse"


@given(st.binary(max_size=300))
def test_no_output_breaks_the_page(output: bytes) -> None:
    shown = emulator(output)
    page = Page(shown.html())
    assert page.tags <= {"pre", "span"}
    rows = [row.rstrip() for row in page.text.strip("\n").split("\n")]
    assert "\n".join(rows).rstrip("\n").lstrip("\n") == shown.text().lstrip("\n")
