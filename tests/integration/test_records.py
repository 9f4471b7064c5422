"""Logs, search, recordings and screens over the API, from made-up sessions in the stream and in ClickHouse."""

import asyncio
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from contracts import subjects
from contracts.events import KeyframeTaken, Person, TerminalResized, TextShown
from contracts.streams import SESSIONS
from contracts.wire import Recorded
from tests.integration.installation import Installation, installation
from tests.integration.processes import WAIT_SECONDS_MAX, Service
from tests.integration.stories import DB, JOHN, WEB, Story, publish

pytestmark = pytest.mark.timeout(300)

LONG_LOG = """INSERT INTO vsay.events (org_id, session_id, seq, at, type, attrs, data, chain)
SELECT 'org_acme', '{id}', 3 + number, toDateTime64('2024-01-01 12:00:00', 6, 'UTC'), 'text',
    concat('{{"type":"text","n":1,"text":"', repeat('x', {size}), '"}}'), '', '' FROM numbers({rows})"""

STORED_SECONDS_MAX = 100.0

COUNTS = """SELECT session_id, uniqExact(seq) AS recorded, max(last_seq) AS seen, max(logged) AS logged FROM vsay.events
LEFT JOIN (SELECT session_id, last_seq FROM vsay.sessions WHERE claimed_at IS NOT NULL) AS sessions USING session_id
LEFT JOIN (SELECT session_id, uniqExact(seq) AS logged FROM vsay.log_parts
    WHERE type IN ('command', 'output') GROUP BY session_id) AS logs USING session_id
GROUP BY session_id"""
"""Of an insert, the tables show what it brought one after the other."""

OLGA = Person("usr_other", "Olga Other", "olga@example.com")


class Reader:
    """Reads the API as the users of an installation."""

    def __init__(self, parts: Installation, tokens: dict[str, str]) -> None:
        self.parts = parts
        self.tokens = tokens
        self.clickhouse = parts.clickhouse()
        self.audit = parts.start("audit")
        self.api: Service = parts.start("session_api")

    async def get(self, path: str, user: str = "usr_123", **query: object) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        return await asyncio.to_thread(self._get, f"{path}?{urlencode(query)}" if query else path, self.tokens[user])

    async def body(self, path: str, user: str = "usr_123", **query: object) -> bytes:
        """Of an answer that is no refusal."""
        status, _, body = await self.get(path, user, **query)
        assert status == 200, body
        return body

    async def data(self, path: str, user: str = "usr_123", **query: object) -> Any:
        """Of a JSON answer that is no refusal."""
        return json.loads(await self.body(path, user, **query))["data"]

    async def tell(self, *stories: Story, stored: bool = True) -> None:
        """Put these into the stream; returns once ClickHouse has them, if they are to be `stored`."""
        async with self.parts.jetstream() as jetstream:
            for story in stories:
                await publish(jetstream, *story.events)
        async with asyncio.timeout(STORED_SECONDS_MAX):
            while stored and not await self._has(stories):
                await asyncio.sleep(0.05)

    async def _has(self, stories: tuple[Story, ...]) -> bool:
        try:
            rows = await asyncio.to_thread(self.clickhouse.query, COUNTS)
        except urllib.error.HTTPError:
            return False  # there is no schema yet
        counts = {row.split("\t")[0]: row.split("\t")[1:] for row in rows.splitlines()}
        return all(counts.get(story.session_id) == list(map(str, wanted(story))) for story in stories)

    def _get(self, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(self.api.url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()


def wanted(story: Story) -> tuple[int, int, int]:
    """How many events it has, its last number, how many entries of logs."""
    return len(story.events), story.events[-1].seq, sum(event.type in ("command", "text") for event in story.events)


def memory(pid: int) -> int:
    """The most that a process ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One installation for all tests; each has sessions of its own."""
    with installation(tmp_path_factory.mktemp("records")) as parts:
        yield Reader(parts, asyncio.run(parts.declare()))


@pytest.fixture
def id_(request: pytest.FixtureRequest) -> str:
    """A session's id that no other test has."""
    return f"sess_{request.node.name.translate(str.maketrans('[]', '__'))}"[:60]


def poem(session_id: str, user: Person = JOHN) -> Story:
    """A session with a character that events cut, a resize, a byte that is no UTF-8, and an end."""
    story = Story(session_id).claimed(user).later(seconds=1).started()
    story.later(milliseconds=10).output(b"$ \xe6\x97").later(milliseconds=5).output(b"\xa5 ls -la\r\n")
    story.command("ls -la", "total 42")
    story.later(milliseconds=50).record(TerminalResized(100, 30))
    story.output(b"\x1b[31mred\x1b[0m <b>\xff\r\n")
    return story.later(milliseconds=20).ended(exit_status=3)


def output(story: Story) -> bytes:
    return b"".join(event.data for event in story.events if event.type == "output")


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


# Logs and search.


async def test_logs_from_a_place_of_a_kind_and_so_many(reader: Reader, id_: str) -> None:
    story = Story(id_).claimed().started()
    for number in range(5):
        story.command(f"echo {number}", f"<{number}>")
    await reader.tell(story)
    path = f"/v1/sessions/{id_}/logs"
    logs = await reader.data(path)
    assert [entry["content"] for entry in logs["logs"]] == [text for n in range(5) for text in (f"echo {n}", f"<{n}>")]
    assert logs["complete"] is True
    after = await reader.data(path, after=logs["logs"][3]["seq"], limit=2)
    assert after["logs"] == logs["logs"][4:6]
    outputs = await reader.data(path, type="output", limit=3)
    assert [entry["content"] for entry in outputs["logs"]] == ["<0>", "<1>", "<2>"]
    assert (await reader.data(path, after=2**63 - 1))["logs"] == []
    status, headers, text = await reader.get(path, format="text", type="command", after=logs["logs"][7]["seq"])
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert text == b"[2024-01-01T12:00:00.000000Z] $ echo 4\n"


async def test_a_long_log_is_not_held_in_memory(reader: Reader, id_: str) -> None:
    await reader.tell(Story(id_).claimed().started())
    rows, size = 4000, 40_000
    await asyncio.to_thread(reader.clickhouse.query, LONG_LOG.format(id=id_, rows=rows, size=size))
    before = memory(reader.api.pid)
    assert len(await reader.body(f"/v1/sessions/{id_}/logs", format="text")) == rows * (size + 1)
    assert memory(reader.api.pid) - before < 100_000_000, "of an answer of 160 MB"


async def hits(reader: Reader, q: str, user: str = "usr_auditor", **query: object) -> list[tuple[str, int]]:
    """Session and seq of every hit, over all pages."""
    found: list[tuple[str, int]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await reader.data("/v1/search", user, q=q, **query, **cursor)
        found += [(hit["session_id"], hit["seq"]) for hit in page["hits"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_search_over_sessions(reader: Reader) -> None:
    john = (
        Story("sess_john").claimed(JOHN, WEB).started().command("rm -rf /var/tmp/%x_", "x" * 500 + "Löschen: ÄÖ done" + "y" * 500)
    )
    olga = Story("sess_olga").later(days=1).claimed(OLGA, DB).started().command("RM -RF /home", "removed 'C:\\dir'")
    foreign = Story("sess_foreign", org_id="org_other").claimed().started().command("rm -rf /", "all gone")
    await reader.tell(john, olga, foreign)
    page = await reader.data("/v1/search", "usr_admin", q="löschen: ÄÖ DONE".replace("ö", "ö", 1))
    assert page == {
        "hits": [
            {
                "session_id": "sess_john",
                "timestamp": "2024-01-01T12:00:00Z",
                "seq": 4,
                "type": "output",
                "user": {"id": "usr_123", "name": "John Doe"},
                "machine": {"id": "mch_web", "name": "Web"},
                "before": "x" * 200,
                "match": "Löschen: ÄÖ done",
                "after": "y" * 200,
            }
        ],
        "next_cursor": None,
    }
    assert await hits(reader, "rm -rf") == [("sess_olga", 3), ("sess_john", 3)], "newest first, of this organization"
    assert await hits(reader, "rm -rf", "usr_123") == [("sess_john", 3)], "an operator's own"
    assert await hits(reader, "rm -rf", "usr_123", user_id="usr_other") == []
    assert await hits(reader, "rm -rf", "usr_foreign") == [("sess_foreign", 3)]
    assert await hits(reader, "rm -rf", user_id="usr_other") == [("sess_olga", 3)]
    assert await hits(reader, "rm -rf", machine_id="mch_web") == [("sess_john", 3)]
    assert await hits(reader, "rm -rf", machine_id="mch_none") == []
    assert await hits(reader, "rm", type="output") == []
    assert await hits(reader, "removed", type="output") == [("sess_olga", 4)]
    assert await hits(reader, "rm -rf", **{"from": "2024-01-02"}) == [("sess_olga", 3)]
    assert await hits(reader, "rm -rf", to="2024-01-01") == [("sess_john", 3)]
    for text, found in {"%": [3], "_": [3], "%x_": [3], "tmp/_x": [], "'c:\\DIR'": [4], "a%y": [], "' OR 1=1 --": []}.items():
        assert [seq for _, seq in await hits(reader, text)] == found, text


async def test_search_reads_only_where_the_text_may_be(reader: Reader, id_: str) -> None:
    await reader.tell(Story(id_).claimed().started().command("true", "fine"))
    plan = await asyncio.to_thread(
        reader.clickhouse.query, "EXPLAIN indexes = 1 SELECT seq FROM vsay.logs WHERE lower(content) LIKE '%zebra%'"
    )
    assert "content_runs" in plan
    assert "Granules: 0/" in plan


async def test_search_a_page_at_a_time(reader: Reader) -> None:
    stories = []
    for number in range(7):
        story = Story(f"sess_{number}").later(hours=number // 3).claimed().started()
        stories.append(story.command(f"echo needle {number}", "needle\nneedle"))
    await reader.tell(*stories)
    whole = await hits(reader, "needle", limit=200)
    assert len(whole) == 14
    assert whole == await hits(reader, "needle", limit=3)
    assert whole[0] == ("sess_6", 4)


async def test_an_entry_without_text_is_no_hit_and_one_delivered_twice_is_one(reader: Reader, id_: str) -> None:
    story = Story(id_).claimed().started().command("true", "")
    story.record(TextShown(1, "again", 3, 4))
    await reader.tell(story)
    row = f"INSERT INTO vsay.events SELECT * FROM vsay.events WHERE session_id = '{id_}'"
    await asyncio.to_thread(reader.clickhouse.query, row)
    assert await hits(reader, "again") == [(id_, 5)]
    assert [entry["seq"] for entry in (await reader.data(f"/v1/sessions/{id_}/logs"))["logs"]] == [3, 5]


# Refusals.


async def test_what_is_wrong_is_refused_with_its_field(reader: Reader, id_: str) -> None:
    await reader.tell(poem(id_))
    wrong = {
        f"/v1/sessions/{id_}/logs?format=pdf": "format",
        f"/v1/sessions/{id_}/logs?after=-1": "after",
        f"/v1/sessions/{id_}/logs?after=9223372036854775808": "after",
        f"/v1/sessions/{id_}/logs?limit=0": "limit",
        f"/v1/sessions/{id_}/logs?type=input": "type",
        f"/v1/sessions/{id_}/recording?format=mp4": "format",
        f"/v1/sessions/{id_}/recording?format=raw&part=timing": "part",
        f"/v1/sessions/{id_}/recording?format=typescript&part=none": "part",
        f"/v1/sessions/{id_}/screen?format=png": "format",
        f"/v1/sessions/{id_}/screen?seq=-1": "seq",
        f"/v1/sessions/{id_}/screen?seq=x": "seq",
        f"/v1/sessions/{id_}/screen?at=noon": "at",
        f"/v1/sessions/{id_}/screen?at=2024-01-01&seq=1": "at",
        "/v1/search": "q",
        "/v1/search?q=": "q",
        f"/v1/search?q={'x' * 201}": "q",
        "/v1/search?q=x&machine_id=1": "machine_id",
        "/v1/search?q=x&user_id=*": "user_id",
        "/v1/search?q=x&from=then": "from",
        "/v1/search?q=x&to=then": "to",
        "/v1/search?q=x&type=input": "type",
        "/v1/search?q=x&limit=201": "limit",
        "/v1/search?q=x&cursor=x": "cursor",
        "/v1/search?q=x&cursor=Wy0xLCIiLDFd": "cursor",
        "/v1/sessions/1/recording": "session_id",
    }
    for path, field in wrong.items():
        status, _, body = await reader.get(path)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (422, "invalid_request"), path
        assert field in error["fields"], path


async def test_nobody_reads_what_is_not_theirs_to_see(reader: Reader, id_: str) -> None:
    await reader.tell(poem(id_))
    for path in ("logs", "recording", "recording?format=raw", "screen", "screen?format=html"):
        unknown = await reader.get(f"/v1/sessions/sess_unknown/{path}")
        assert (unknown[0], json.loads(unknown[2])["error"]["code"]) == (404, "session_not_found")
        for stranger in ("usr_other", "usr_foreign"):
            status, _, body = await reader.get(f"/v1/sessions/{id_}/{path}", stranger)
            assert (status, body) == (404, unknown[2])
        for reading in ("usr_auditor", "usr_admin"):
            assert (await reader.get(f"/v1/sessions/{id_}/{path}", reading))[0] == 200


async def test_without_clickhouse_it_says_so(reader: Reader, id_: str) -> None:
    await reader.tell(poem(id_))
    await asyncio.to_thread(reader.clickhouse.stop)
    try:
        for path in ("/v1/search?q=x", f"/v1/sessions/{id_}/recording"):
            status, _, body = await reader.get(path)
            assert (status, json.loads(body)["error"]["code"]) == (503, "unavailable")
    finally:
        await asyncio.to_thread(reader.clickhouse.start)
