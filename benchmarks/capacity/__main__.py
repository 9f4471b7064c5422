"""`just bench capacity`, or `python -m benchmarks.capacity [--sessions N] [--seconds N] [--output FILE]`."""

import argparse
import asyncio
import json
import tempfile
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

import nats
import uvloop

from benchmarks.terminal import clients, measures
from benchmarks.terminal.__main__ import DIRECTORY, described
from benchmarks.terminal.clients import Shell
from contracts import streams
from tests.end_to_end.test_specification import vsay
from tests.integration.openssh import OpenSsh
from tests.integration.test_stack import stack

KEYS_PER_SECOND = 2.0
LINE = b"ls -la /etc | head -20\n"
OPEN_AT_ONCE = 10
SETTLE_SECONDS = 40
"""After this a silent session has given its emulator's memory back."""


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as parts:
        machine = parts.enter_context(OpenSsh(Path(directory) / "openssh"))
        async with stack(Path(directory) / "home") as running:
            file = running.home / "bench.toml"
            file.write_text(DIRECTORY.format(port=machine.port, login=machine.login, host_key=machine.host_key))
            (running.home / "secrets" / "bench-key").write_text(machine.client_key)
            await vsay(running.home, "directory", "apply", str(file))
            processes = running.file["processes"]
            nats_url = json.loads((running.home / "stack.json").read_bytes())["nats"]
            results: dict[str, Any] = {
                "machine": described(),
                "sessions": arguments.sessions,
                "empty_bytes": measures.memory(processes),
            }
            async with AsyncExitStack() as opened:
                shells: list[Shell] = []
                while len(shells) < arguments.sessions:
                    openings = [clients.ours(running.client) for _ in range(OPEN_AT_ONCE)]
                    shells += await asyncio.gather(*(opened.enter_async_context(each) for each in openings))
                    await asyncio.gather(*(shell.read() for shell in shells[-OPEN_AT_ONCE:]))
                await asyncio.sleep(SETTLE_SECONDS)
                results["idle_bytes"] = per_session(results["empty_bytes"], measures.memory(processes), len(shells))
                cpu, stored = measures.cpu_seconds(processes), await stored_bytes(nats_url)
                await asyncio.gather(*(work(shell, arguments.seconds) for shell in shells))
                after = measures.cpu_seconds(processes)
                busy = len(shells) * arguments.seconds
                results["busy_bytes"] = per_session(results["empty_bytes"], measures.memory(processes), len(shells))
                results["busy_cores_per_session"] = {name: round((after[name] - cpu[name]) / busy, 5) for name in processes}
                results["stream_bytes_per_second_of_work"] = round((await stored_bytes(nats_url) - stored) / busy)
    print(json.dumps(results, indent=2))
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(results, indent=2) + "\n")


def per_session(before: dict[str, int], after: dict[str, int], sessions: int) -> dict[str, int]:
    return {name: round((after[name] - before[name]) / sessions) for name in before}


async def work(shell: Shell, seconds: float) -> None:
    """Somebody who types a command line, key by key, and reads what it prints, over and over."""

    async def read() -> None:
        while True:
            await shell.read()

    reading = asyncio.create_task(read())
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        for key in LINE:
            await shell.send(bytes([key]))
            await asyncio.sleep(1 / KEYS_PER_SECOND)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


async def stored_bytes(url: str) -> int:
    client = await nats.connect(url)
    try:
        return (await client.jetstream().stream_info(streams.SESSIONS.name)).state.bytes
    finally:
        await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just bench capacity", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--output")
    uvloop.run(main(parser.parse_args()))
