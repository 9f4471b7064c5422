"""Recordings and screens over the API."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import subjects
from contracts.events import KeyframeTaken, TerminalResized
from contracts.streams import SESSIONS
from contracts.wire import Recorded
from tests.integration.reader import Reader, output, poem
from tests.integration.stories import Story

pytestmark = pytest.mark.timeout(300)


def shown(asciicast: bytes) -> str:
    """All output of an asciicast."""
    return "".join(line[2] for line in map(json.loads, asciicast.splitlines()[1:]) if line[1] == "o")


ON_A_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(["sh", "-c", 'stty raw; exec "$@"', "sh", *sys.argv[1:]])))
"""


def on_a_terminal(*command: str) -> bytes:
    """What a program prints on a terminal of its own, which changes nothing of it."""
    run = subprocess.run([sys.executable, "-c", ON_A_TERMINAL, *command], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert run.returncode == 0, run
    return run.stdout


# Recordings.


async def test_a_recording_in_every_format(reader: Reader, id_: str) -> None:
    story = poem(id_)
    await reader.tell(story)
    path = f"/v1/sessions/{id_}/recording"
    status, headers, raw = await reader.get(path, format="raw")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert headers["content-disposition"] == 'attachment; filename="' + f'{id_}.raw"'
    assert raw == output(story)
    for format_ in ("asciicast-v2", "asciicast-v3"):
        _, headers, cast = await reader.get(path, format=format_)
        assert headers["content-type"] == "application/x-asciicast"
        assert shown(cast) == output(story).decode("utf-8", "replace")
        assert [json.loads(line)[2] for line in cast.splitlines()[1:] if b'"m"' in line or b'"r"' in line] == ["ls -la", "100x30"]
    assert (await reader.body(path)).startswith(b'{"version":2,'), "the default"
    typescript = await reader.body(path, format="typescript")
    assert output(story) in typescript
    timing = await reader.body(path, format="typescript", part="timing")
    assert timing.count(b"\nO ") == 3


async def test_the_end_of_a_running_session_comes_from_the_stream(reader: Reader, id_: str) -> None:
    story = poem(id_)
    story.events.pop()
    stored, waiting = story.events[:4], story.events[4:]
    story.events = stored
    await reader.tell(story)
    await asyncio.to_thread(reader.audit.stop)
    try:
        await the_end_from_the_stream(reader, story, stored, waiting)
    finally:
        await asyncio.to_thread(reader.audit.start)


async def the_end_from_the_stream(reader: Reader, story: Story, stored: list[Recorded], waiting: list[Recorded]) -> None:
    path = f"/v1/sessions/{story.session_id}"
    story.events = waiting
    await reader.tell(story, stored=False)
    story.events = stored + waiting
    assert await reader.body(f"{path}/recording", format="raw") == output(story)
    status, headers, screen = await reader.get(f"{path}/screen")
    assert (status, headers["screen-seq"], screen.decode()) == (200, str(len(story.events)), "$ 日 ls -la\nred <b>\ufffd\n")


async def test_what_the_stream_has_dropped_comes_from_clickhouse(reader: Reader, id_: str) -> None:
    story = poem(id_)
    await reader.tell(story)
    async with reader.parts.jetstream() as jetstream:
        await jetstream.purge_stream(SESSIONS.name, subject=subjects.events_of(id_))
    assert await reader.body(f"/v1/sessions/{id_}/recording", format="raw") == output(story)
    assert (await reader.body(f"/v1/sessions/{id_}/screen")).startswith("$ 日 ls".encode())


async def test_a_recording_of_more_than_a_page_is_whole(reader: Reader, id_: str) -> None:
    story = Story(id_).claimed().started()
    for number in range(3000):
        story.output(b"%d\r\n" % number)
    await reader.tell(story.ended())
    assert await reader.body(f"/v1/sessions/{id_}/recording", format="raw") == output(story)


@pytest.mark.skipif(shutil.which("asciinema") is None, reason="Debian package asciinema is not installed")
@pytest.mark.parametrize("action", ["cat", "play"])
async def test_asciinema_plays_it(reader: Reader, id_: str, tmp_path: Path, action: str) -> None:
    story = poem(id_)
    await reader.tell(story)
    cast = tmp_path / "session.cast"
    cast.write_bytes(await reader.body(f"/v1/sessions/{id_}/recording"))
    printed = await asyncio.to_thread(on_a_terminal, "asciinema", action, str(cast))
    assert output(story).decode("utf-8", "replace").encode() in printed


@pytest.mark.skipif(shutil.which("scriptreplay") is None, reason="Debian package bsdutils is not installed")
async def test_scriptreplay_plays_it(reader: Reader, id_: str, tmp_path: Path) -> None:
    story = poem(id_)
    await reader.tell(story)
    for part in ("data", "timing"):
        (tmp_path / part).write_bytes(await reader.body(f"/v1/sessions/{id_}/recording", format="typescript", part=part))
    command = ("scriptreplay", f"--timing={tmp_path / 'timing'}", f"--log-out={tmp_path / 'data'}")
    assert output(story) in await asyncio.to_thread(on_a_terminal, *command)
    summary = await asyncio.to_thread(subprocess.check_output, [*command, "--summary"])
    assert b"EXIT_CODE:  3" in summary
    assert b"COLUMNS:  80" in summary


# Screens.


async def test_the_screen_at_any_event_and_at_any_time(reader: Reader, id_: str) -> None:
    story = poem(id_)
    await reader.tell(story)
    path = f"/v1/sessions/{id_}/screen"
    expected = {0: "", 2: "", 3: "$", 4: "$ 日 ls -la", 8: "$ 日 ls -la\nred <b>\ufffd"}
    for seq, text in expected.items():
        status, headers, body = await reader.get(path, seq=seq)
        assert (status, headers["screen-seq"]) == (200, str(seq))
        assert body.decode() == f"{text}\n"
    for at, seq in (("2023-01-01", 0), ("2024-01-01T12:00:01.012Z", 3), ("2024-01-01T12:00:01.015Z", 6), ("2024-02-01", 9)):
        _, headers, _ = await reader.get(path, at=at)
        assert headers["screen-seq"] == str(seq)
    _, headers, _ = await reader.get(path, seq=1_000_000)
    assert (headers["screen-seq"], headers["screen-size"]) == ("9", "100x30")
    assert headers["screen-at"] == "2024-01-01T12:00:01.085000+00:00"
    _, headers, ansi = await reader.get(path, format="ansi")
    assert headers["content-type"] == "application/octet-stream"
    assert ansi.startswith(b"\x1bc")
    assert b"red" in ansi
    _, headers, html = await reader.get(path, format="html")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert b"&lt;b&gt;" in html


async def test_a_screen_begins_at_the_last_keyframe_before_it(reader: Reader, id_: str) -> None:
    story = Story(id_).claimed().started().output(b"first")
    story.record(KeyframeTaken(20, 5, 3), b"\x1bcdrawn from the first")
    story.output(b" and on")
    story.record(TerminalResized(30, 6))
    story.record(KeyframeTaken(20, 5, 5), b"\x1bcdrawn from the last")
    await reader.tell(story.output(b" again"))
    path = f"/v1/sessions/{id_}/screen"
    expected = {3: "first", 4: "drawn from the first", 5: "drawn from the first\n and on"}
    for seq, text in expected.items():
        assert (await reader.body(path, seq=seq)).decode() == f"{text}\n"
    _, headers, body = await reader.get(path)
    assert (headers["screen-size"], body) == ("30x6", b"drawn from the last again\n"), "the resize that it may lack is made up for"
    assert output(story) == await reader.body(f"/v1/sessions/{id_}/recording", format="raw"), "keyframes are in no recording"
    counted = await asyncio.to_thread(reader.clickhouse.query, f"SELECT output_bytes FROM vsay.sessions WHERE session_id = '{id_}'")
    assert int(counted) == len(output(story)), "and in no count"
