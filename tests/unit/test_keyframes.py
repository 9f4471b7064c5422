"""When keyframes are due, and that a replay that begins at one shows the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ssh_worker.keyframes import (
    KEYFRAME_CELLS_MAX,
    KEYFRAME_OUTPUT_BYTES,
    KEYFRAME_OUTPUTS,
    Keyframes,
    ends_whole,
    leaves_plain,
)
from terminal.emulator import Emulator

LINE = b"line\r\n"

TOKENS = st.sampled_from(
    [
        LINE,
        b"word ",
        b"\r",
        "日本".encode(),
        "é".encode(),
        b"\x1b[31;1m",
        b"\x1b[0m",
        b"\x1b[2;5H",
        b"\x1b[K",
        b"\x1b[2J",
        b"\x1b]0;title\x07",
        b"\x1b]0;a title\x1b\\",
        b"\x1b[?25l",
        b"\x1b=",
    ]
)


def emulator(data: bytes) -> Emulator:
    shown = Emulator(20, 6)
    shown.write(data)
    return shown


def due(frames: Keyframes, *outputs: bytes) -> list[bool]:
    """Of each of these outputs, whether one is due after it; then it is taken."""
    found = []
    for data in outputs:
        found.append(frames.is_due(data, 80, 24))
        if found[-1]:
            frames.taken()
    return found


def test_one_is_due_after_much_output_and_after_many_outputs() -> None:
    frames = Keyframes()
    half = b"x" * (KEYFRAME_OUTPUT_BYTES // 2 - 1) + b"\n"
    assert due(frames, *[half] * 6) == [False, True, False, True, False, True]
    assert due(frames, *[LINE] * 2 * KEYFRAME_OUTPUTS).count(True) == 2


def test_none_of_a_huge_terminal() -> None:
    frames, much = Keyframes(), b"\n" * KEYFRAME_OUTPUT_BYTES
    assert not frames.is_due(much, 1000, KEYFRAME_CELLS_MAX // 1000 + 1)
    assert frames.is_due(b"\n", 80, 24)


def test_it_stays_due_until_it_is_taken() -> None:
    frames, much = Keyframes(), b"\n" * KEYFRAME_OUTPUT_BYTES
    assert [frames.is_due(data, 80, 24) for data in (much, LINE, LINE)] == [True, True, True]


def test_it_waits_for_an_output_that_ends_whole_and_plain() -> None:
    much = b"\n" * KEYFRAME_OUTPUT_BYTES
    outputs = (much + b"\x1b[3", b"1mred", LINE, b"\x1b[0m", b"\x1b[44m" + LINE, LINE)
    assert due(Keyframes(), *outputs) == [False, False, False, True, False, False]
    assert due(Keyframes(), b"\x1b[1m", much, b"\x1b[mx", LINE) == [False, False, True, False]


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (LINE, None),
        (b"", None),
        (b"\x1b[2;5H", None),
        (b"\x1b[31m", False),
        (b"\x1b[31mred\x1b[0m", True),
        (b"\x1b[31mred\x1b[mx\x1b[K", True),
        (b"\x1b[0;1m", False),
        (b"\x1b[0m\x1b[3", False),
        (b"\x1b[0m" + b"\x1b[C" * 1000, False),
    ],
)
def test_leaves_plain(data: bytes, plain: bool | None) -> None:
    assert leaves_plain(data) is plain


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"text\n", True),
        (b"text\nand on", True),
        (b"text", False),
        (b"", False),
        (b"\n\xe6", False),
        (b"\n\xe6\x97", False),
        (b"\n\xe6\x97\xa5", True),
        (b"\n\xff", True),
        (b"\n\x1b", False),
        (b"\n\x1b[", False),
        (b"\n\x1b[31", False),
        (b"\n\x1b[31m", True),
        (b"\x1b[31mred", True),
        (b"\n\x1b]0;title", False),
        (b"\n\x1b]0;title\x07", True),
        (b"\n\x1b]0;title\x1b", False),
        (b"\n\x1b]0;title\x1b\\", True),
        (b"\n\x1bP", False),
        (b"\n\x1b(", False),
        (b"\n\x1b(B", True),
        (b"\n\x1b7", True),
    ],
)
def test_ends_whole(data: bytes, whole: bool) -> None:
    assert ends_whole(data) is whole


@given(st.lists(TOKENS, max_size=40), st.lists(TOKENS, max_size=20), st.integers(0, 50))
def test_a_replay_from_a_picture_shows_the_same(before: list[bytes], after: list[bytes], cut: int) -> None:
    output = b"".join(before)
    first, rest = output[: len(output) - cut % (len(output) + 1)], output[len(output) - cut % (len(output) + 1) :] + b"".join(after)
    picture = emulator(first).screen()
    if not ends_whole(first) or leaves_plain(first) is False or picture.is_at_edge:
        return
    replayed, whole = emulator(picture.data), emulator(first)
    replayed.write(rest)
    whole.write(rest)
    assert replayed.screen() == whole.screen()
    assert replayed.html() == whole.html()
