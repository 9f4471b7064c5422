"""Whatever comes, in whatever pieces: nothing is raised, and what is kept stays within its bounds."""

import gc
import random
from types import FunctionType, ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terminal import CommandEntered, CommandFinished, InputEchoed, Observation, Observer, TextShown
from terminal.commands import COMMAND_CHARS_MAX
from terminal.text import TEXT_BYTES_MAX, readable

FRAGMENTS = (
    *(bytes([byte]) for byte in (*range(32), 0x7F, 0x80, 0x9B, 0xC3, 0xFF)),
    *(b"$ ", b"> ", b">>> ", b"Password: ", b"ls", b"x" * 200, "日本💾é".encode(), b"\r\n", b"\r\r\n"),
    *(b"\x1b[?2004h", b"\x1b[?2004l", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?1049;2004h"),
    *(
        b"\x1b]133;A\x07",
        b"\x1b]133;B\x07",
        b"\x1b]133;C\x1b\\",
        b"\x1b]133;D;7\x07",
        b"\x1b]633;E;ls\\x3b\\\\\x07",
        b"\x1b]7;file://h/%zz\x07",
    ),
    *(
        b"\x1b]",
        b"\x1b]133",
        b"\x1b]633;E;",
        b"\x1b[?20",
        b"\x1b[",
        b"\x1b[31m",
        b"\x1b[2A",
        b"\x1b[99999C",
        b"\x1b[5@",
        b"\x1b[H\x1b[2J",
        b"\x1b[K",
    ),
    *(b"\x1b[200~", b"\x1b[201~", b"\x1b[A", b"\x03", b"\x04", b"\x12", b"\r"),
)
BYTES = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("typed"), BYTES),
        st.tuples(st.just("shown"), BYTES),
        st.tuples(st.just("resized"), st.tuples(st.integers(1, 90), st.integers(1, 30))),
        st.tuples(st.sampled_from(("settle", "park", "screen")), st.none()),
    ),
    max_size=40,
)


def take(observer: Observer, steps: list[tuple[str, object]]) -> list[Observation]:
    told: list[Observation] = []
    for seq, (kind, what) in enumerate(steps, start=1):
        match kind, what:
            case "typed", bytes():
                told += observer.typed(what)
            case "shown", bytes():
                told += observer.shown(what, seq)
            case "resized", (int(cols), int(rows)):
                told += observer.resized(cols, rows)
            case "settle", _:
                told += observer.settle()
            case _:
                getattr(observer, kind)()
    return [*told, *observer.finish()]


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_anything_is_taken(steps: list[tuple[str, object]]) -> None:
    told = take(Observer(80, 24), steps)
    commands = [each for each in told if isinstance(each, CommandEntered)]
    assert [each.n for each in commands] == list(range(1, len(commands) + 1))
    ended = [each.n for each in told if isinstance(each, CommandFinished)]
    assert ended == sorted(set(ended))
    typed = b"".join(what for kind, what in steps if kind == "typed" and isinstance(what, bytes))
    echoed = b"".join(each.data for each in told if isinstance(each, InputEchoed))
    remaining = iter(typed)
    assert all(byte in remaining for byte in echoed), "what is echoed was typed, in this order"
    for each in told:
        if isinstance(each, InputEchoed):
            assert sum(count for _, count in each.typed_after) == len(each.data)
        if isinstance(each, TextShown):
            assert each.from_seq <= each.to_seq
            assert each.text


@settings(max_examples=200, deadline=None)
@given(output=BYTES)
def test_any_output_is_readable_and_holds_no_escape(output: bytes) -> None:
    assert not any(character < " " and character != "\n" for character in readable(output))


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"x" * 5000, id="one endless line"),
        pytest.param(b"line\r\n" * 99, id="lines"),
        pytest.param(b"\x1b[31mred\x1b[0m\r\n" * 99, id="colours"),
        pytest.param(b"\r50% ####" * 99, id="progress"),
        pytest.param(b"\x1b]633;E;" + b"x" * 6000, id="endless marks"),
        pytest.param(b"\x1b[?2004h$ a\r\nb", id="a line editor that never ends"),
        pytest.param(b"\x1b[?1049h" + b"x" * 6000, id="full screen"),
        pytest.param(b"\x1b[99999C\x1b[9999@y\x1b[9999B", id="far away"),
    ],
)
@pytest.mark.parametrize("typed", [b"", b"never shown ", b"never shown\r", b"\x1b[200~never shown\r"])
def test_memory_is_bounded(piece: bytes, typed: bytes) -> None:
    observer = Observer(80, 24)
    randomness = random.Random(7)
    held = []
    for seq in range(1, 301):
        observer.shown(piece, seq)
        if typed:
            observer.typed(typed * 5)
        if randomness.random() < 0.02:
            observer.settle()
        if seq % 100 == 0:
            held.append(bytes_held(observer))
    assert max(held) < 3_000_000
    for each in observer.finish():
        if isinstance(each, TextShown):
            assert len(each.text) < 2 * TEXT_BYTES_MAX
        if isinstance(each, CommandEntered):
            assert len(each.text) < COMMAND_CHARS_MAX + 20


def bytes_held(thing: object) -> int:
    """The size of all text and bytes that can be reached from `thing`."""
    seen: set[int] = set()
    waiting, total = [thing], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType):
            continue
        seen.add(id(each))
        total += len(each) if isinstance(each, bytes | bytearray | str) else 64
        waiting += gc.get_referents(each)
    return total
