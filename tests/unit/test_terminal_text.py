"""Readable text is what a person would have read."""

import pytest

from terminal.text import TEXT_BYTES_MAX, Collector, readable


@pytest.mark.parametrize(
    ("output", "text"),
    [
        pytest.param(b"plain\r\ntext\r\n", "plain\ntext\n", id="lines"),
        pytest.param(b"10%\r20%\r100%\r\ndone", "100%\ndone", id="progress bar"),
        pytest.param(b"longer line\rshort\x1b[K\n", "short\n", id="erased to the end"),
        pytest.param(b"abc\x08\x08X\n", "aXc\n", id="backspace"),
        pytest.param(b"\x1b[1;31mred\x1b[0m and \x1b]8;;http://x\x07link\x1b]8;;\x07", "red and link", id="colours and links"),
        pytest.param(
            b"one: 1\r\ntwo: 1\r\n\x1b[2Aone: 9\x1b[K\r\ntwo: 9\x1b[K\r\nend", "one: 9\ntwo: 9\nend", id="several progress bars"
        ),
        pytest.param(b"a\tb\r\n", "a       b\n", id="tab"),
        pytest.param(b"before\r\n\x1b[H\x1b[2Jafter", "before\nafter", id="clear"),
        pytest.param("caf\u00e9 日本".encode() + b"\xff!", "café 日本\ufffd!", id="UTF-8"),
        pytest.param(b"ab\x1b[3Dx\x1b[2Cy", "xb y", id="cursor left and right"),
        pytest.param(b"hello\x1b[2K\rbye", "bye", id="line erased"),
        pytest.param(b"\x1bPq#0;2;0;0;0#0~~@@\x1b\\text", "text", id="graphics"),
    ],
)
def test_readable(output: bytes, text: str) -> None:
    assert readable(output) == text


def test_what_is_too_long_keeps_its_beginning_and_its_end() -> None:
    collector = Collector()
    lines = [f"line {number}\r\n".encode() for number in range(100_000)]
    for line in lines:
        collector.add(line)
    first, omitted = collector.take(all_of_it=False)
    assert omitted == 0
    assert first.startswith("line 0\nline 1\n")
    rest, omitted = collector.take(all_of_it=True)
    assert rest.endswith("line 99998\nline 99999")
    assert f"[… {omitted} characters left out …]" in rest
    assert len(first) + len(rest) < 2 * TEXT_BYTES_MAX
    kept = first.count("\n") + rest.count("\n")
    assert omitted > sum(map(len, lines)) - 2 * TEXT_BYTES_MAX
    assert kept > 4000


def test_the_unfinished_line_is_the_prompt() -> None:
    collector = Collector()
    collector.add(b"output\r\n$ ls")
    collector.drop_line()
    assert collector.take(all_of_it=True) == ("output", 0)
