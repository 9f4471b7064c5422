"""What was typed over the API into a real shell of a real OpenSSH server, as the API gives it back; and secrets, nowhere."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.audit.clickhouse import Store
from services.runtime.settings import ClickHouseSettings
from tests.integration.installation import Installation, installation
from tests.integration.openssh import OpenSsh, needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX, Client, Terminal

pytestmark = [needs_openssh, pytest.mark.timeout(300)]

PROMPT = "vsay> "
UP, LEFT = "\x1b[A", "\x1b[D"

STEPS = (
    ("echo he''llo\r", "echo he''llo"),
    ("ls /usr/loc\tbin\r", "ls /usr/local/bin"),
    (f"{UP}{UP}\r", "echo he''llo"),
    ("\x12loc\r", "ls /usr/local/bin"),
    (f"echo world{LEFT * 5}hello \r", "echo hello world"),
    ("echo 日本語 💾 é\r", "echo 日本語 💾 é"),
    (f"echo {'long ' * 40}end\r", f"echo {'long ' * 40}end"),
    ("\x1b[200~echo one\necho two\x1b[201~\r", "echo one\necho two"),
    ("gone\x15false\r", "false"),
)
CONTINUED = (("echo 'a\r", "b'\r", "echo 'a\nb'"), ("cat <<END\r", "text\rEND\r", "cat <<END\ntext\nEND"))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        parts.clickhouse()
        yield parts


async def started(parts: Installation, **machine: object) -> Client:
    tokens = await parts.declare(parts.machine(**machine))
    parts.start("audit")
    parts.start("ssh_worker")
    return parts.client(parts.start("session_api"), tokens["usr_123"])


async def at_prompt(terminal: Terminal) -> None:
    """Returns when our own prompt is shown."""
    await terminal.type("PS1='vsay''> '; PS2='> '; HISTCONTROL=\r")
    await terminal.shows(PROMPT)


async def commands(client: Client, session_id: str) -> list[str]:
    deadline = time.monotonic() + 2 * WAIT_SECONDS_MAX
    while not (logs := await client.data("GET", f"/v1/sessions/{session_id}/logs?type=command"))["complete"]:
        assert time.monotonic() < deadline, "ClickHouse has not got everything"
    return [entry["content"] for entry in logs["logs"]]


@pytest.mark.parametrize("shell_integration", [False, True], ids=["as it is", "with marks"])
async def test_what_was_typed_is_read_back(parts: Installation, shell_integration: bool) -> None:
    client = await started(parts, shell_integration=shell_integration)
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await at_prompt(terminal)
        for keys, _ in STEPS:
            await terminal.type(keys)
            await terminal.shows(PROMPT)
        for first, rest, _ in CONTINUED:
            await terminal.type(first)
            await terminal.shows("> ")
            await terminal.type(rest)
            await terminal.shows(PROMPT)
        await terminal.type("PS1='nes''ted> ' bash --norc\r")
        await terminal.shows("nested> ")
        await terminal.type("exit 5\r")
        await terminal.shows(PROMPT)
        await terminal.type("exit 3\r")
        assert (await terminal.until("disconnect"))["exit_status"] == 3
    found = await commands(client, ticket["session_id"])
    expected = [text for *_, text in (*STEPS, *CONTINUED)]
    assert found[1:] == [*expected, "PS1='nes''ted> ' bash --norc", "exit 5", "exit 3"]
    store = Store.open(ClickHouseSettings(clickhouse_url=parts.settings["VSAY_CLICKHOUSE_URL"]))
    try:
        rows = await store.query("SELECT confidence, exit_status, cwd, output_to_seq > 0 FROM commands ORDER BY n")
    finally:
        await store.close()
    assert all(is_ended for *_, is_ended in rows)
    by_the_shell = [row for row in rows if row[0] == "exact"]
    if shell_integration and await asyncio.to_thread(logs_in_to_bash, parts.openssh):
        assert len(by_the_shell) >= len(STEPS)
        assert {status for _, status, _, _ in by_the_shell} >= {0, 1}
        assert any(cwd.startswith("/") for _, _, cwd, _ in by_the_shell)
    else:
        assert not by_the_shell


def logs_in_to_bash(machine: OpenSsh) -> bool:
    return machine.says("getent passwd $(id -u)").strip().endswith("/bash")


def unseen_prompts(machine: OpenSsh, directory: Path) -> Iterator[tuple[str, str, str]]:
    """(what it is, the command, the prompt that it shows) of programs that ask without echo."""
    yield "read", "read -sp 'Ke''y: ' x; echo", "Key: "
    yield "getpass", f'{machine.python} -c \'import getpass; getpass.getpass("Pass" "word: ")\'', "Password: "
    yield (
        "ssh",
        (
            f"ssh -i {directory}/locked -o BatchMode=no -o IdentitiesOnly=yes -o NumberOfPasswordPrompts=1 "
            "-o StrictHostKeyChecking=no "
            "-o UserKnownHostsFile=/dev/null -o IdentityAgent=none -p 1 127.0.0.1 || ssh-keygen -y -f "
            f"{directory}/locked"
        ),
        "Enter passphrase",
    )
    if machine.has("setpriv"):
        yield "su", "setpriv --reuid 65534 --clear-groups su -c id", "Password: "
    if machine.has("openssl"):
        yield "openssl", "openssl passwd -6 -salt abcdefgh", "Password: "
    if machine.has("zsh"):
        yield "zsh", 'zsh -fc \'read -s "x?Zs""h: "\'; echo', "Zsh: "


async def test_what_is_typed_without_echo_is_nowhere(parts: Installation, tmp_path: Path) -> None:
    client = await started(parts)
    keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "the right one", "-f", str(tmp_path / "locked"))
    await (await asyncio.create_subprocess_exec(*keygen)).wait()
    ticket = await client.open("mch_456")
    shown = f"visible{secrets.token_hex(8)}"
    hidden = {}
    async with client.terminal(ticket) as terminal:
        await at_prompt(terminal)
        await terminal.type(f"echo {shown}\r")
        await terminal.shows(PROMPT)
        for kind, command, prompt in unseen_prompts(parts.openssh, tmp_path):
            hidden[kind] = f"hidden{kind}{secrets.token_hex(8)}"
            await terminal.type(f"{command}\r")
            await terminal.shows(prompt)
            if kind == "read":  # as a person types, with a correction
                for key in hidden[kind]:
                    await terminal.type(key)
                await terminal.type("x\x7f\r")
            else:
                await terminal.type(f"{hidden[kind]}\r")
            await terminal.shows(PROMPT)
        await terminal.type(f"login-tool --password {hidden['read']}visible\r")
        await terminal.shows(PROMPT)
        await terminal.type("exit\r")
        await terminal.until("disconnect")
    found = await commands(client, ticket["session_id"])
    assert f"echo {shown}" in found
    assert "login-tool --password [masked]" in found
    del hidden["read"]  # was typed visibly in the end, so it stands in the output as it was displayed
    assert await everywhere(parts, shown) >= {"jetstream", "events", "log_parts"}, "the search finds what is there"
    for kind, secret in hidden.items():
        assert await everywhere(parts, secret) == set(), kind
        assert not any(secret in text for text in found), kind
    record = await parts.record(ticket["session_id"])
    assert sum(b'"masked":true' in each.attrs for each in record if each.type == "input") >= len(hidden)
    typed = b"".join(each.data for each in record if each.type == "input")
    assert shown.encode() in typed
    assert not any(secret.encode() in typed for secret in hidden.values())


async def everywhere(parts: Installation, text: str) -> set[str]:
    """Where `text` lies: in files of JetStream, logs of any process, columns of any table."""
    found = set()
    for file in parts.directory.rglob("*"):
        if file.is_file() and text.encode() in file.read_bytes():
            found.add("jetstream" if "nats" in file.relative_to(parts.directory).parts[0] else str(file))
    store = Store.open(
        ClickHouseSettings(clickhouse_url=parts.settings["VSAY_CLICKHOUSE_URL"]), answer_seconds=round(WAIT_SECONDS_MAX)
    )
    try:
        for table, column in await store.query(
            "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND type ILIKE '%String%' "
            "AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree%')"
        ):
            [(count,)] = await store.query(f"SELECT count() FROM {table} WHERE position(toString({column}), '{text}') > 0")
            if count:
                found.add(table)
    finally:
        await store.close()
    return found
