"""`vsay` as a user runs it, against a real nats-server."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from contracts import keys
from contracts.directory import TrustedHostKey
from contracts.streams import HOST_KEYS
from services.runtime import bus
from services.runtime.directory import Directory
from services.runtime.settings import NatsSettings, StreamSettings
from services.runtime.stack_file import Stack
from services.ssh_worker.host_keys import HostKeys

FILE = """
[[organizations]]
id = "org_acme"
name = "Acme"
[[users]]
id = "usr_123"
name = "John Doe"
email = "john@example.com"
org = "org_acme"
"""

NOWHERE = "nats://127.0.0.1:1"


async def vsay(
    *arguments: str, nats_url: str | None = None, clickhouse_url: str | None = None, home: Path | None = None, stdin: str = ""
) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VSAY_")}
    if nats_url:
        environment["VSAY_NATS_URL"] = nats_url
    if clickhouse_url:
        environment["VSAY_CLICKHOUSE_URL"] = clickhouse_url
    environment["VSAY_HOME"] = str(home or "/nonexistent")
    program = str(Path(sys.executable).with_name("vsay"))
    process = await asyncio.create_subprocess_exec(program, *arguments, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "directory.toml"
    path.write_text(FILE)
    return path


async def test_from_an_empty_server_to_a_token_that_admits_and_then_does_not(nats_url: str, file: Path) -> None:
    status, out, err = await vsay("directory", "apply", str(file), nats_url=nats_url)
    assert (status, err) == (0, "")
    assert out.splitlines() == ["written org_acme", "written usr_123", "2 written, 0 unchanged, 0 removed"]

    status, out, err = await vsay("token", "create", "--user", "usr_123", nats_url=nats_url)
    assert (status, err) == (0, "")
    token = out.removesuffix("\n")

    nats = await bus.connect(NatsSettings(nats_url=nats_url), "test")
    directory = await Directory.open(nats.jetstream())
    user = await directory.authenticate(token)
    assert user
    assert user.id == "usr_123"

    assert (await vsay("token", "revoke", nats_url=nats_url, stdin=f"{token}\n"))[:2] == (0, "revoked\n")
    assert await directory.authenticate(token) is None
    await nats.close()

    status, out, err = await vsay("token", "revoke", token, nats_url=nats_url)
    assert (status, out, err) == (1, "", "vsay: there is no such token\n")


async def test_prune(nats_url: str, file: Path) -> None:
    await vsay("directory", "apply", str(file), nats_url=nats_url)
    file.write_text(FILE.replace("usr_123", "usr_456"))
    status, out, _ = await vsay("directory", "apply", str(file), "--prune", nats_url=nats_url)
    assert status == 0
    assert out.splitlines() == ["written usr_456", "removed usr_123", "1 written, 1 unchanged, 1 removed"]


async def test_without_an_address_the_running_stack_is_used(nats_url: str, file: Path, tmp_path: Path) -> None:
    stack = Stack(api="http://127.0.0.1:1", nats=nats_url, clickhouse="http://127.0.0.1:1")
    (tmp_path / "stack.json").write_bytes(msgspec.json.encode(stack))
    assert (await vsay("directory", "apply", str(file), home=tmp_path))[0] == 0
    status, _, err = await vsay("directory", "apply", str(file), home=tmp_path, nats_url=NOWHERE)
    assert status == 1, "an address that was given counts more"
    assert NOWHERE in err


async def test_an_unknown_user_fails(nats_url: str) -> None:
    status, out, err = await vsay("token", "create", "--user", "usr_nobody", nats_url=nats_url)
    assert (status, out, err) == (1, "", "vsay: there is no user usr_nobody\n")


async def test_no_server_fails_at_once_with_its_address(file: Path) -> None:
    status, out, err = await vsay("directory", "apply", str(file), nats_url=NOWHERE)
    assert (status, out) == (1, "")
    assert err.startswith(f"vsay: no NATS server at {NOWHERE} (VSAY_NATS_URL): ")
    assert len(err.splitlines()) == 1


async def test_a_wrong_file_fails_before_the_server_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(FILE.replace('org = "org_acme"', 'org = "acme"'))
    status, _, err = await vsay("directory", "apply", str(path), nats_url=NOWHERE)
    assert status == 1
    assert f"{path}: users[0].org" in err
    assert len(err.splitlines()) == 1


async def test_a_broken_stack_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    status, _, err = await vsay("token", "create", "--user", "usr_123", home=tmp_path)
    assert status == 1
    assert str(tmp_path / "stack.json") in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["token"], ["token", "create"], ["directory", "apply"], ["sing"], ["up", "--fast"]],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
async def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    status, out, err = await vsay(*arguments, nats_url=NOWHERE)
    assert (status, out) == (2, "")
    assert err.startswith("usage: vsay")


async def test_a_wrong_setting_is_status_2_and_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = os.environ | {"VSAY_LOG_LEVEL": "loud", "VSAY_NATS_URL": NOWHERE}
    program = str(Path(sys.executable).with_name("vsay"))
    process = await asyncio.create_subprocess_exec(program, "directory", "apply", str(file), env=environment, stderr=PIPE)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.startswith(b"vsay: VSAY_LOG_LEVEL: ")


async def test_signing_keys_are_made_rotated_and_listed(nats_url: str, tmp_path: Path) -> None:
    private = tmp_path / "secrets" / "signing.signing.pem"
    status, out, err = await vsay("keys", "rotate", nats_url=nats_url, home=tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith("vsay: there is no signing key 'signing.signing.pem'")

    status, out, err = await vsay("keys", "create", nats_url=nats_url, home=tmp_path)
    assert (status, err) == (0, "")
    first, path = out.split()
    assert Path(path) == private
    assert private.stat().st_mode & 0o777 == 0o600
    status, out, err = await vsay("keys", "create", nats_url=nats_url, home=tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith("vsay: there is already a signing key")

    status, out, _ = await vsay("keys", "rotate", "signing", nats_url=nats_url, home=tmp_path)
    second = out.split()[0]
    assert (status, second != first) == (0, True)
    status, out, _ = await vsay("keys", "list", nats_url=nats_url, home=tmp_path)
    lines = [line.split() for line in out.splitlines()]
    assert [(line[0], line[2:]) for line in lines] == [(first, []), (second, ["signs", "as", "signing"])]

    _, out, _ = await vsay("keys", "export", nats_url=nats_url, home=tmp_path)
    exported = keys.decode(out.encode())
    assert [key.id for key in exported] == [first, second]
    assert [keys.id_of(key.public_key) for key in exported] == [first, second]

    nats = await bus.connect(NatsSettings(nats_url=nats_url), "test")
    await (await nats.jetstream().key_value("signing_keys")).purge(first)
    await nats.close()
    file = tmp_path / "keys.json"
    file.write_text(out)
    status, out, _ = await vsay("keys", "import", str(file), nats_url=nats_url, home=tmp_path)
    assert (status, out.splitlines()) == (0, [f"{first} registered", f"{second} known"])
    assert keys.decode((await vsay("keys", "export", nats_url=nats_url, home=tmp_path))[1].encode()) == exported
    file.write_text(file.read_text().replace(first, f"key_{'0' * 32}"))
    status, _, err = await vsay("keys", "import", str(file), nats_url=nats_url, home=tmp_path)
    assert (status, err.endswith("is not the id of its key\n")) == (1, True)

    status, _, err = await vsay("keys", "create", "../other", nats_url=nats_url, home=tmp_path)
    assert (status, err) == (1, "vsay: '../other' cannot be the name of a key\n")


async def test_a_host_key_that_was_pinned_at_first_use_is_forgotten(nats_url: str) -> None:
    nats = await bus.connect(NatsSettings(nats_url=nats_url), "test")
    jetstream = nats.jetstream()
    await bus.declare(jetstream, StreamSettings(stream_bytes_max=1_000_000))
    pins = HostKeys(await bus.bucket(jetstream, HOST_KEYS))
    trusted = TrustedHostKey("ssh-ed25519 AAAA", "sess_1", datetime.now(UTC))
    assert await pins.pin("mch_456", trusted)
    assert not await pins.pin("mch_456", trusted)
    status, _, err = await vsay("host-key", "forget", "mch_456", nats_url=nats_url)
    assert (status, err) == (0, "")
    assert await pins.pinned("mch_456") is None
    status, _, err = await vsay("host-key", "forget", "mch_456", nats_url=nats_url)
    assert status == 1
    assert "mch_456" in err
    assert await pins.pin("mch_456", trusted)
    await nats.close()
