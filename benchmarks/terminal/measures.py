"""What is measured of one way to a shell. Times in milliseconds, sizes in bytes."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from benchmarks.terminal.clients import Shell

type Opener = Callable[[], AbstractAsyncContextManager[Shell]]

PROMPT = b"%bench% "
TYPISTS = 20
KEYS_PER_SECOND = 5


async def until(shell: Shell, text: bytes) -> int:
    """Bytes read up to and with the piece that completes `text`."""
    size, seen = 0, b""
    while text not in seen:
        piece = await shell.read()
        if not piece:
            raise EOFError(f"{text!r} was not shown")
        size += len(piece)
        seen = (seen + piece)[-4096:]
    return size


async def ready(shell: Shell) -> None:
    """A prompt of ours, and no line editor that would draw more than the key."""
    await shell.send(b"exec env PS1='%bench''% ' sh\n")
    await until(shell, PROMPT)


async def echo(shell: Shell, keys: int) -> list[float]:
    """From each key to its echo."""
    times = []
    for number in range(keys):
        key = b"abcdefghij"[number % 10 : number % 10 + 1]
        began = time.perf_counter()
        await shell.send(key)
        await until(shell, key)
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
        if number % 60 == 59:
            await shell.send(b"\x15")
            await asyncio.sleep(0.02)
    await shell.send(b"\x03")
    return times


async def echo_beside_load(opener: Opener, keys: int) -> list[float]:
    """The same beside typists and one session that floods."""
    async with AsyncExitStack() as stack:
        shells = [await stack.enter_async_context(opener()) for _ in range(TYPISTS + 2)]
        for shell in shells:
            await ready(shell)
        flooding, measured, *typists = shells
        tasks = [asyncio.create_task(_flood(flooding)), *(asyncio.create_task(_typist(shell)) for shell in typists)]
        await asyncio.sleep(1)
        times = await echo(measured, keys)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return times


async def bulk(shell: Shell, size: int) -> float:
    """Bytes a second of 120-column lines."""
    lines = size // 120
    began = time.perf_counter()
    await shell.send(f"yes {'x' * 118} | head -n {lines}; echo do''ne\n".encode())
    received = await until(shell, b"done")
    return received / (time.perf_counter() - began)


async def interrupt(shell: Shell) -> float:
    """From Ctrl-C in a flood to the prompt."""
    await shell.send(f"yes {'y' * 118}\n".encode())
    deadline = time.perf_counter() + 1.0
    while time.perf_counter() < deadline:
        await shell.read()
    began = time.perf_counter()
    await shell.send(b"\x03")
    await until(shell, PROMPT)
    return (time.perf_counter() - began) * 1000


async def first_prompt(opener: Opener) -> float:
    """From asking for a session to the first byte that it shows."""
    began = time.perf_counter()
    async with opener() as shell:
        await shell.read()
        return (time.perf_counter() - began) * 1000


async def at_once(opener: Opener, sessions: int) -> float:
    """Sessions a second that show something, when so many are asked for at once."""
    began = time.perf_counter()
    async with AsyncExitStack() as stack:

        async def one() -> None:
            shell = await stack.enter_async_context(opener())
            await shell.read()

        await asyncio.gather(*(one() for _ in range(sessions)))
        return sessions / (time.perf_counter() - began)


def memory(processes: Mapping[str, int]) -> dict[str, int]:
    """Proportional set size of each process."""
    sizes = {}
    for name, pid in processes.items():
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes[name] = int(text.partition("\nPss:")[2].split()[0]) * 1024
    return sizes


def cpu_seconds(processes: Mapping[str, int]) -> dict[str, float]:
    """CPU time of each process so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = {}
    for name, pid in processes.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds[name] = (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def percentiles(times: list[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2), "p99": round(cuts[98], 2)}


async def _flood(shell: Shell) -> None:
    await shell.send(f"yes {'z' * 118}\n".encode())
    while await shell.read():
        pass


async def _typist(shell: Shell) -> None:
    while True:
        await shell.send(b"k")
        await shell.read()
        await asyncio.sleep(1 / KEYS_PER_SECOND)
