"""Logs over the API, and what is refused to readers of records."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.integration.reader import Reader, poem
from tests.integration.stories import Story

pytestmark = pytest.mark.timeout(300)

LONG_LOG = """INSERT INTO vsay.events (org_id, session_id, seq, at, type, attrs, data, chain)
SELECT 'org_acme', '{id}', 3 + number, toDateTime64('2024-01-01 12:00:00', 6, 'UTC'), 'text',
    concat('{{"type":"text","n":1,"text":"', repeat('x', {size}), '"}}'), '', '' FROM numbers({rows})"""


def memory(pid: int) -> int:
    """The most that a process ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


# Logs.


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
