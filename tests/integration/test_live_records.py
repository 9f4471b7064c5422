"""Recordings and screens of real sessions on a real machine, while they run and afterwards."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.events import KeyframeTaken
from services.ssh_worker.keyframes import KEYFRAME_OUTPUT_BYTES
from terminal.emulator import Emulator
from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX, Client, Terminal

pytestmark = [needs_openssh, pytest.mark.timeout(400)]


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        parts.clickhouse()
        parts.start("audit")
        yield parts


async def read(client: Client, path: str) -> bytes:
    """The body of an answer, as bytes."""

    def whole() -> bytes:
        request = urllib.request.Request(client.url + path, headers={"Authorization": f"Bearer {client.token}"})
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX) as answer:
            body: bytes = answer.read()
            return body

    return await asyncio.to_thread(whole)


async def output_until(terminal: Terminal, text: str) -> str:
    """All output up to the message in which `text` is complete."""
    shown: list[str] = []
    while text not in "".join(shown[-2:]):
        message = await terminal.next()
        if message["type"] == "output":
            shown.append(message["data"])
    return "".join(shown)


async def test_a_flood_has_keyframes_and_its_recording_is_what_was_shown(installed: Installation) -> None:
    tokens = await installed.declare()
    installed.start("ssh_worker")
    john = installed.client(installed.start("session_api"), tokens["usr_123"])
    ticket = await john.open("mch_456", cols=100, rows=30)
    path = f"/v1/sessions/{ticket['session_id']}"
    last = KEYFRAME_OUTPUT_BYTES // 7
    async with john.terminal(ticket) as terminal:
        await terminal.type("PS1='> '; echo 日本 re''ady\n")
        shown = await output_until(terminal, "日本 ready")
        ready_seq = terminal.seq
        await terminal.type(f"seq 1 {last}; printf '\\033[1;31mfini''shed\\033[0m'\n")
        flood = await output_until(terminal, "finished")
        async with john.terminal(ticket, resume_from=ready_seq) as again:
            assert await output_until(again, "finished") == flood, "keyframes are shown to nobody"
        shown += flood
        await terminal.send("resize", cols=90, rows=20)
        await terminal.until("resized")
        await terminal.type("\necho af''ter\n")
        shown += await output_until(terminal, "after")
        running = await read(john, f"{path}/recording?format=raw")
        assert shown.encode() in running, "of a session that runs"
        await terminal.type("exit\n")
        shown += await output_until(terminal, "exit")
        await terminal.until("disconnect")
    record = await installed.record(ticket["session_id"])
    frames = [frame for each in record if isinstance(frame := each.event(), KeyframeTaken)]
    assert {(frame.cols, frame.rows) for frame in frames} == {(100, 30)}
    whole = b"".join(each.data for each in record if each.type == "output")
    assert await read(john, f"{path}/recording?format=raw") == whole
    assert shown.rstrip() in whole.decode()
    cast = await read(john, f"{path}/recording")
    lines = [json.loads(line) for line in cast.splitlines()[1:]]
    assert "".join(line[2] for line in lines if line[1] == "o") == whole.decode()
    assert [line[2] for line in lines if line[1] == "r"] == ["90x20"]
    assert f"seq 1 {last}; printf '\\033[1;31mfini''shed\\033[0m'" in [line[2] for line in lines if line[1] == "m"]
    await screens_are_what_the_events_draw(john, path, [(each.seq, each.type, each.data) for each in record])


async def screens_are_what_the_events_draw(john: Client, path: str, record: list[tuple[int, str, bytes]]) -> None:
    """After the keyframe, around the resize, and at the end: as an emulator that got every byte from the beginning."""
    keyframe = max(seq for seq, type_, _ in record if type_ == "keyframe")
    resized = next(seq for seq, type_, _ in record if type_ == "resized")
    wanted = {keyframe, keyframe + 1, resized - 1, resized, record[-1][0]}
    emulator = Emulator(100, 30)
    for seq, type_, data in record:
        if type_ == "output":
            emulator.write(data)
        elif type_ == "resized":
            emulator.resize(90, 20)
        if seq in wanted:
            assert (await read(john, f"{path}/screen?seq={seq}")).decode() == emulator.text() + "\n"
            assert await read(john, f"{path}/screen?seq={seq}&format=ansi") == emulator.screen().data
