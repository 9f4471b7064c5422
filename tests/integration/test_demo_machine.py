"""The demo machine, through a real SSH client."""

import asyncio
import json
import os
import pwd
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5
from pathlib import Path
from typing import Any

import asyncssh
import pytest

LOGIN = pwd.getpwuid(os.getuid()).pw_name
HANG_UP_TRAP = """trap 'echo gone >"{0}"; exit' HUP; echo ready-$((40+2)); while :; do sleep 0.1; done"""


@asynccontextmanager
async def demo_machine(home: Path) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    environment = os.environ | {"VSAY_HOME": str(home), "VSAY_DEMO_PORT": "0"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "deploy.demo_machine", env=environment, stdout=PIPE)
    assert process.stdout
    line = await process.stdout.readline()
    try:
        yield process, json.loads(line)["demo_machine"]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    async with demo_machine(tmp_path) as (_, address):
        yield address


def connect(address: dict[str, Any], home: Path, **options: Any) -> Any:
    return asyncssh.connect(
        address["host"],
        address["port"],
        **{
            "username": LOGIN,
            "client_keys": [str(home / "secrets" / "demo-key")],
            "known_hosts": ([asyncssh.import_public_key(address["host_key"])], [], []),
            "config": None,
            "agent_path": None,
        }
        | options,
    )


async def shell(connection: asyncssh.SSHClientConnection, command: str | None = "sh") -> asyncssh.SSHClientProcess[str]:
    return await connection.create_process(command, term_type="xterm-256color", term_size=(80, 24))


async def until(process: asyncssh.SSHClientProcess[str], wanted: str) -> str:
    async with asyncio.timeout(20):
        return await process.stdout.readuntil(wanted)


async def test_what_is_typed_is_echoed_and_answered(address: dict[str, Any], tmp_path: Path) -> None:
    async with connect(address, tmp_path) as connection:
        process = await shell(connection)
        process.stdin.write("echo four$((2+2))ty; tty; echo $TERM\n")
        echoed = await until(process, "four4ty")
        assert "echo four$((2+2))ty" in echoed, "the terminal echoes"
        answer = await until(process, "xterm-256color")
        assert "/dev/pts/" in answer


async def test_without_a_command_it_is_the_login_shell_at_home(address: dict[str, Any], tmp_path: Path) -> None:
    async with connect(address, tmp_path) as connection:
        process = await shell(connection, command=None)
        process.stdin.write('echo "<$0> <$PWD> <$USER>"\n')
        user = pwd.getpwuid(os.getuid())
        await until(process, f"<{user.pw_shell}> <{user.pw_dir}> <{user.pw_name}>")


async def test_the_size_is_as_asked_and_follows_resizes(address: dict[str, Any], tmp_path: Path) -> None:
    async with connect(address, tmp_path) as connection:
        process = await shell(connection)
        process.stdin.write("stty size\n")
        await until(process, "24 80")
        process.stdin.write("trap 'stty size' WINCH; echo set-$((1+1))\n")
        await until(process, "set-2")
        process.change_terminal_size(132, 50)
        process.stdin.write("\n")
        await until(process, "50 132")


@pytest.mark.parametrize("status", [0, 3, 255])
async def test_the_exit_status_and_all_output_arrive(address: dict[str, Any], tmp_path: Path, status: int) -> None:
    async with connect(address, tmp_path) as connection:
        process = await shell(connection, f"seq 1 20000; exit {status}")
        result = await process.wait()
        assert result.exit_status == status
        assert result.stdout == "".join(f"{n}\r\n" for n in range(1, 20001))


async def test_a_signal_that_ends_the_shell_is_told(address: dict[str, Any], tmp_path: Path) -> None:
    async with connect(address, tmp_path) as connection:
        process = await shell(connection, "kill -KILL $$")
        await process.wait()
        assert process.exit_signal
        assert process.exit_signal[0] == "KILL"


async def test_signals_and_control_c_reach_the_foreground(address: dict[str, Any], tmp_path: Path) -> None:
    async with connect(address, tmp_path) as connection:
        process = await shell(connection)
        for interrupt in (lambda: process.stdin.write("\x03"), lambda: process.send_signal("INT")):
            process.stdin.write(
                "trap 'echo caught-$((1+1)); s=1' INT; s=; echo armed-$((2+3)); while [ ! $s ]; do sleep 0.05; done\n"
            )
            await until(process, "armed-5")
            interrupt()
            await until(process, "caught-2")


async def test_input_of_any_size_arrives_and_is_paced(address: dict[str, Any], tmp_path: Path) -> None:
    lines = 20_000
    async with connect(address, tmp_path) as connection:
        process = await shell(connection, "stty -echo; echo reading; head -n 20000 | md5sum; echo done")
        await until(process, "reading")
        text = "".join(f"line {n} {'x' * 60}\n" for n in range(lines))
        process.stdin.write(text)
        await until(process, md5(text.encode(), usedforsecurity=False).hexdigest())


@asynccontextmanager
async def fifo(path: Path) -> AsyncIterator[asyncio.StreamReader]:
    os.mkfifo(path)
    reader = asyncio.StreamReader()
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    yield reader
    transport.close()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_hang_up_reaches_the_shell(address: dict[str, Any], tmp_path: Path, how: str) -> None:
    async with fifo(tmp_path / "gone") as gone, connect(address, tmp_path) as connection:
        process = await shell(connection, HANG_UP_TRAP.format(tmp_path / "gone"))
        await until(process, "ready-42")
        connection.close() if how == "close" else connection.abort()
        assert await asyncio.wait_for(gone.readline(), 20) == b"gone\n"


async def test_a_killed_machine_hangs_up_its_shells(tmp_path: Path) -> None:
    async with (
        fifo(tmp_path / "gone") as gone,
        demo_machine(tmp_path) as (machine, address),
        connect(address, tmp_path) as connection,
    ):
        process = await shell(connection, HANG_UP_TRAP.format(tmp_path / "gone"))
        await until(process, "ready-42")
        machine.kill()
        assert await asyncio.wait_for(gone.readline(), 20) == b"gone\n"


async def test_keys_are_kept_and_private(tmp_path: Path) -> None:
    async with demo_machine(tmp_path) as (_, first):
        pass
    async with demo_machine(tmp_path) as (_, second), connect(second, tmp_path):
        assert second["host_key"] == first["host_key"]
    for key in ("secrets/demo-key", "demo-machine/host_key"):
        assert (tmp_path / key).stat().st_mode & 0o777 == 0o600


async def test_nobody_else_gets_in(address: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(address, tmp_path, client_keys=[asyncssh.generate_private_key("ssh-ed25519")])
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(address, tmp_path, username=f"{LOGIN}x")


async def test_without_a_terminal_there_is_no_shell(address: dict[str, Any], tmp_path: Path) -> None:
    async with connect(address, tmp_path) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("true")
