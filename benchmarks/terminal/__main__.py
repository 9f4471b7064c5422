"""`just bench terminal`, or `python -m benchmarks.terminal [--quick] [--output FILE]`."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.terminal import clients, measures
from benchmarks.terminal.measures import Opener
from tests.end_to_end.test_specification import vsay
from tests.integration.openssh import OpenSsh
from tests.integration.processes import Client
from tests.integration.test_stack import stack

DIRECTORY = """
[[organizations]]
id = "org_demo"
name = "Demo"
[[machines]]
id = "mch_bench"
name = "Bench"
org = "org_demo"
host = "127.0.0.1"
port = {port}
login = "{login}"
host_keys = ["{host_key}"]
credential = "bench-key"
"""

PARK_SECONDS = 40
IDLE_SESSIONS = 60

STORE_SECONDS = 6
"""For `audit` and ClickHouse to have what was recorded: they lag behind on purpose, and their CPU time counts all the same."""


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as parts:
        machine = parts.enter_context(OpenSsh(Path(directory) / "openssh"))
        async with stack(Path(directory) / "home") as running:
            file = running.home / "bench.toml"
            file.write_text(DIRECTORY.format(port=machine.port, login=machine.login, host_key=machine.host_key))
            (running.home / "secrets" / "bench-key").write_text(machine.client_key)
            await vsay(running.home, "directory", "apply", str(file))
            relay = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.terminal.relay",
                str(machine.port),
                str(machine.directory / "client_key"),
                stdout=asyncio.subprocess.PIPE,
            )
            assert relay.stdout
            port = json.loads(await relay.stdout.readline())["relay"]
            try:
                ways: dict[str, Opener] = {
                    "ours": partial(clients.ours, running.client),
                    "ours binary": partial(clients.ours, running.client, binary=True),
                    "relay": partial(clients.relayed, port),
                    "asyncssh": partial(clients.direct, machine),
                    "openssh": partial(clients.openssh, machine),
                }
                processes = running.file["processes"]
                results: dict[str, Any] = {"machine": described()}
                if not arguments.quick:
                    results["idle"] = await idle(running.client, processes, IDLE_SESSIONS)
                results["ways"] = {name: await measured(name, way, processes, arguments.quick) for name, way in ways.items()}
            finally:
                relay.kill()
                await relay.wait()
    print(table(results))
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(results, indent=2) + "\n")


async def measured(name: str, way: Opener, processes: dict[str, int], quick: bool) -> dict[str, Any]:
    """All figures of one way."""

    def note(figure: str, value: object) -> None:
        result[figure] = value
        print(f"{name}: {figure} {value}", file=sys.stderr, flush=True)

    keys, size, times = (150, 10_000_000, 3) if quick else (600, 100_000_000, 10)
    result: dict[str, Any] = {}
    async with way() as shell:
        await measures.ready(shell)
        note("echo_ms", measures.percentiles(await measures.echo(shell, keys)))
    async with way() as shell:
        await measures.ready(shell)
        before = measures.cpu_seconds(processes)
        note("bulk_bytes_per_second", round(await measures.bulk(shell, size)))
        if name.startswith("ours"):
            await asyncio.sleep(STORE_SECONDS)
        after = measures.cpu_seconds(processes)
        if name.startswith("ours"):
            result["cpu_seconds_per_mb"] = {each: round((after[each] - before[each]) / size * 1e6, 4) for each in processes}
    async with way() as shell:
        await measures.ready(shell)
        note("interrupt_ms", round(statistics.median([await measures.interrupt(shell) for _ in range(times)]), 1))
    note("echo_beside_load_ms", measures.percentiles(await measures.echo_beside_load(way, keys)))
    note("first_prompt_ms", round(statistics.median([await measures.first_prompt(way) for _ in range(times)])))
    note("fifty_at_once_per_second", round(await measures.at_once(way, 50), 1))
    return result


async def idle(client: Client, processes: dict[str, int], sessions: int) -> dict[str, Any]:
    """Memory that so many idle sessions add, per session, once they are parked, to half as many; before anything else ran."""
    async with AsyncExitStack() as stack:
        await parked(stack, client, sessions // 2)
        before = measures.memory(processes)
        await parked(stack, client, sessions)
        after = measures.memory(processes)
    return {name: round((after[name] - before[name]) / sessions) for name in processes}


async def parked(stack: AsyncExitStack, client: Client, sessions: int) -> None:
    """Open so many sessions; returns when they have been silent for long."""
    shells = [await stack.enter_async_context(clients.ours(client)) for _ in range(sessions)]
    for shell in shells:
        await shell.read()
    await asyncio.sleep(PARK_SECONDS)


def described() -> dict[str, Any]:
    """Where and when."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }


def table(results: dict[str, Any]) -> str:
    """The figures of each way, and the ratios that the targets name."""
    lines = [
        f"{results['machine']}",
        "",
        "| | echo p50 / p99 ms | echo p99 beside load | Ctrl-C ms | bulk MB/s | first prompt ms | 50 at once, per s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, way in results["ways"].items():
        echo, beside_load = way["echo_ms"], way["echo_beside_load_ms"]
        figures = (
            f"{echo['p50']} / {echo['p99']}",
            beside_load["p99"],
            way["interrupt_ms"],
            f"{way['bulk_bytes_per_second'] / 1e6:.0f}",
            way["first_prompt_ms"],
            way["fifty_at_once_per_second"],
        )
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    ours, relay, openssh = (results["ways"][name] for name in ("ours", "relay", "openssh"))
    ratios = (
        ("echo p50, to the relay", ours["echo_ms"]["p50"] / relay["echo_ms"]["p50"], "≤ 2, aim 1.3"),
        (
            "echo p99 beside load, to OpenSSH",
            ours["echo_beside_load_ms"]["p99"] / openssh["echo_beside_load_ms"]["p99"],
            "≤ 10, aim 2",
        ),
        ("Ctrl-C, to OpenSSH", ours["interrupt_ms"] / openssh["interrupt_ms"], "≤ 1"),
        ("bulk, to OpenSSH", ours["bulk_bytes_per_second"] / openssh["bulk_bytes_per_second"], "≥ 0.5, aim 1"),
        ("first prompt, to the relay", ours["first_prompt_ms"] / relay["first_prompt_ms"], "≤ 1.5, aim 1.1"),
        ("50 at once, to the relay", ours["fifty_at_once_per_second"] / relay["fifty_at_once_per_second"], "≥ 0.6, aim 0.9"),
    )
    lines += ["", "| ratio | measured | target |", "|---|---|---|"]
    lines += [f"| {name} | {ratio:.2f} | {target} |" for name, ratio, target in ratios]
    if "idle" in results:
        per_session = sum(results["idle"].values()) / 1e6
        lines += [
            "",
            f"Memory per idle session: {per_session:.3f} MB (target ≤ 0.5, aim 0.15); by process in bytes: {results['idle']}",
        ]
    lines += ["", f"CPU seconds per MB of bulk output: {ours['cpu_seconds_per_mb']}"]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just bench terminal", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer keys, less output, no memory")
    parser.add_argument("--output", help="write all figures as JSON to this file")
    uvloop.run(main(parser.parse_args()))
