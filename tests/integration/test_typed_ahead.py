"""Keys that come before any prompt, over a real OpenSSH server and the real worker."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.test_truthful_logs import PROMPT, commands, started

pytestmark = [
    needs_openssh,
    pytest.mark.timeout(300),
]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        parts.clickhouse()
        yield parts


async def test_a_secret_that_was_typed_ahead_is_in_no_command_and_no_input(parts: Installation, tmp_path: Path) -> None:
    gate, secret = tmp_path / "open", secrets.token_hex(8)
    shell = f"until [ -e {gate} ]; do sleep 0.1; done; PS1='{PROMPT}' exec bash --norc --noprofile"
    client = await started(parts, command=shell)
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.type(f"read -s x\r{secret}\r")
        await terminal.shows(secret)  # echoed by the terminal's driver, before the shell has begun
        gate.touch()
        await terminal.shows(f"{PROMPT}read -s x")
        await terminal.shows(PROMPT)
        await terminal.type("echo after\r")
        await terminal.shows(PROMPT)
        await terminal.type("exit\r")
        await terminal.until("disconnect")
    assert await commands(client, ticket["session_id"]) == ["read -s x", "echo after", "exit"]
    record = await parts.record(ticket["session_id"])
    assert {each.type for each in record if secret.encode() in each.data or secret.encode() in each.attrs} <= {"output", "text"}
    assert any(each.type == "output" and secret.encode() in each.data for each in record)
    assert any(each.type == "input" and b'"masked":true' in each.attrs for each in record)
