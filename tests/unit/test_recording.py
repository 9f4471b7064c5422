"""Recordings: every byte comes back, whatever the output was and wherever events cut it."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from contracts.api import RecordingFormat, RecordingPart
from contracts.events import CommandEntered, Confidence, EndReason, KeyframeTaken, TerminalResized
from contracts.wire import Recorded
from services.session_api.recording import MARKER_CHARACTERS_MAX, rendering
from tests.integration.stories import Story

START = datetime(2024, 1, 1, 12, tzinfo=UTC)

ASCIICASTS = (RecordingFormat.ASCIICAST_V2, RecordingFormat.ASCIICAST_V3)

pieces = st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 10_000_000)), max_size=20)
texts = st.text(st.characters(codec="utf-8"), max_size=60)


def file(events: Iterable[Recorded], format_: RecordingFormat, part: RecordingPart = RecordingPart.DATA) -> bytes:
    """The whole recording."""
    writer = rendering(format_, part)
    return b"".join([*(writer.event(event) for event in events), writer.end()])


def lines(events: Iterable[Recorded], format_: RecordingFormat) -> tuple[dict[str, Any], list[tuple[float, str, str]]]:
    """An asciicast's header and lines, with times since the beginning in both versions."""
    header, *rest = [json.loads(line) for line in file(events, format_).split(b"\n")[:-1]]
    if format_ is RecordingFormat.ASCIICAST_V2:
        return header, [tuple(line) for line in rest]
    elapsed, timed = 0.0, []
    for interval, code, data in rest:
        elapsed += interval
        timed.append((round(elapsed, 6), code, data))
    return header, timed


def shown(timed: list[tuple[float, str, str]]) -> str:
    return "".join(data for _, code, data in timed if code == "o")


def story(outputs: Iterable[tuple[bytes, int]]) -> Story:
    """Outputs, each so many microseconds after what was before it."""
    told = Story("sess_1", at=START).claimed().later(seconds=1).started()
    for data, microseconds in outputs:
        told.later(microseconds=microseconds).output(data)
    return told


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


class Replayed(Struct):
    """What scriptreplay(1) would make of a timing file."""

    output: list[tuple[int, int]]
    """Microseconds since the beginning, bytes."""
    resizes: list[tuple[int, int]]
    header: dict[str, str]


def replayed(timing: bytes) -> Replayed:
    found, now = Replayed([], [], {}), timedelta()
    for line in timing.decode().splitlines():
        kind, delay, rest = line.split(" ", 2)
        now += timedelta(seconds=float(delay))
        if kind == "O":
            found.output.append((now // timedelta(microseconds=1), int(rest)))
        elif kind == "S":
            _, rows, cols = rest.split(" ")
            found.resizes.append((int(cols.removeprefix("COLS=")), int(rows.removeprefix("ROWS="))))
        else:
            name, value = rest.split(" ", 1)
            found.header[name] = value
    return found


@given(pieces)
def test_raw_is_the_bytes(outputs: list[tuple[bytes, int]]) -> None:
    assert file(story(outputs).ended().events, RecordingFormat.RAW) == b"".join(data for data, _ in outputs)


@pytest.mark.parametrize("format_", ASCIICASTS)
@given(text=texts, places=st.lists(st.integers(0, 1000), max_size=8))
def test_an_asciicast_gives_back_text_however_it_was_cut(format_: RecordingFormat, text: str, places: list[int]) -> None:
    events = story((piece, 1000) for piece in cut(text.encode(), places)).ended().events
    assert shown(lines(events, format_)[1]) == text


@pytest.mark.parametrize("format_", ASCIICASTS)
@given(outputs=pieces)
def test_bytes_that_are_no_text_become_replacement_characters(format_: RecordingFormat, outputs: list[tuple[bytes, int]]) -> None:
    data = b"".join(data for data, _ in outputs)
    assert shown(lines(story(outputs).ended().events, format_)[1]) == data.decode("utf-8", "replace")
    assert shown(lines(story(outputs).events, format_)[1]) == data.decode("utf-8", "replace"), "of a session that runs"


@given(pieces)
def test_both_asciicasts_have_the_same_times(outputs: list[tuple[bytes, int]]) -> None:
    events = story(outputs).events
    assert lines(events, ASCIICASTS[0])[1] == lines(events, ASCIICASTS[1])[1]


@given(pieces)
def test_a_typescript_is_cut_by_its_timing_as_the_events_were(outputs: list[tuple[bytes, int]]) -> None:
    events = story(outputs).ended(exit_status=0).events
    typescript = file(events, RecordingFormat.TYPESCRIPT)
    first_line, _, rest = typescript.partition(b"\n")
    assert first_line.startswith(b"Script started on ")
    played = replayed(file(events, RecordingFormat.TYPESCRIPT, RecordingPart.TIMING)).output
    elapsed, expected = 0, list[tuple[int, int]]()
    for data, microseconds in outputs:
        elapsed += microseconds
        expected.append((elapsed, len(data)))
    assert played == expected
    total = sum(count for _, count in played)
    assert rest[:total] == b"".join(data for data, _ in outputs)
    assert rest[total:].startswith(b"\nScript done on 2024-01-01 ")


@pytest.mark.parametrize("format_", ASCIICASTS)
def test_resizes_and_commands_are_in_an_asciicast(format_: RecordingFormat) -> None:
    told = story([(b"$ ", 500_000)])
    told.record(TerminalResized(100, 30))
    told.later(seconds=1).record(CommandEntered(1, 'echo "ü"', Confidence.SCREEN, 4, 4))
    told.record(CommandEntered(2, "x" * 1000, Confidence.SCREEN, 4, 4))
    told.record(KeyframeTaken(100, 30, 4), b"\x1bckeyframe")
    told.output(b"\xc3").later(seconds=2).ended(exit_status=7)
    header, timed = lines(told.events, format_)
    size = {"term": {"cols": 80, "rows": 24}} if format_ is RecordingFormat.ASCIICAST_V3 else {"width": 80, "height": 24}
    version = 3 if format_ is RecordingFormat.ASCIICAST_V3 else 2
    assert header == {"version": version, **size, "timestamp": 1704110401, "title": "John Doe on Web"}
    assert timed[:3] == [(0.5, "o", "$ "), (0.5, "r", "100x30"), (1.5, "m", 'echo "ü"')]
    assert timed[3][2] == "x" * (MARKER_CHARACTERS_MAX - 1) + "…"
    assert timed[4] == (3.5, "o", "\ufffd")
    assert timed[5:] == ([(3.5, "x", "7")] if version == 3 else [])


def test_a_typescript_tells_sizes_and_the_end() -> None:
    told = story([(b"$ ", 500_000)])
    told.later(seconds=1).record(TerminalResized(100, 30))
    told.later(seconds=1).ended(exit_status=7)
    found = replayed(file(told.events, RecordingFormat.TYPESCRIPT, RecordingPart.TIMING))
    assert found.resizes == [(100, 30)]
    assert found.header == {
        "START_TIME": "2024-01-01 12:00:00+00:00",
        "COLUMNS": "80",
        "LINES": "24",
        "DURATION": "2.500000",
        "EXIT_CODE": "7",
    }
    assert file(told.events, RecordingFormat.TYPESCRIPT) == (
        b'Script started on 2024-01-01 12:00:01+00:00 [COLUMNS="80" LINES="24"]\n'
        b'$ \nScript done on 2024-01-01 12:00:03+00:00 [COMMAND_EXIT_CODE="7"]\n'
    )


@pytest.mark.parametrize("format_", ASCIICASTS)
def test_a_clock_that_was_set_back_turns_no_recording_back(format_: RecordingFormat) -> None:
    told = story([(b"1", 2_000_000)]).later(seconds=-1).output(b"2").later(seconds=3).output(b"3")
    assert [time for time, _, _ in lines(told.events, format_)[1]] == [2.0, 2.0, 4.0]


@pytest.mark.parametrize("format_", RecordingFormat)
def test_a_session_that_never_had_a_shell_has_a_recording_without_output(format_: RecordingFormat) -> None:
    told = Story("sess_1", at=START).claimed().later(seconds=1).ended(EndReason.CONNECT_FAILED)
    whole = file(told.events, format_)
    if format_ in ASCIICASTS:
        assert lines(told.events, format_)[1] == []
    elif format_ is RecordingFormat.RAW:
        assert whole == b""
    else:
        assert whole.count(b"\n") == 3
