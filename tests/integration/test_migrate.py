"""`python -m services.audit.migrate`, as the Job runs it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import nats

from contracts import streams
from tests.integration.servers import ClickHouse, NatsServer

WAIT_SECONDS_MAX = 120.0


def start(nats_url: str, clickhouse_url: str, log: Path) -> subprocess.Popen[bytes]:
    settings = {"VSAY_NATS_URL": nats_url, "VSAY_CLICKHOUSE_URL": clickhouse_url, "VSAY_STREAM_BYTES_MAX": "1000000000"}
    own = {name: value for name, value in os.environ.items() if not name.startswith("VSAY_")}
    with log.open("ab") as stderr:
        return subprocess.Popen([sys.executable, "-m", "services.audit.migrate"], env=own | settings, stderr=stderr)


async def test_streams_and_schema_once_clickhouse_answers_and_again_without_harm(
    nats_server: NatsServer, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    log = tmp_path / "migrate.log"
    url = clickhouse.url
    await asyncio.to_thread(clickhouse.stop)
    job = start(nats_server.url, url, log)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while b"ClickHouse is not ready" not in log.read_bytes():
            assert job.poll() is None, log.read_text()
            await asyncio.sleep(0.05)
    await asyncio.to_thread(clickhouse.start)
    assert await asyncio.to_thread(job.wait, WAIT_SECONDS_MAX) == 0, log.read_text()

    client = await nats.connect(nats_server.url)
    names = {info.config.name for info in await client.jetstream().streams_info()}
    await client.close()
    assert names >= {stream.name for stream in streams.STREAMS} | {f"KV_{bucket.name}" for bucket in streams.BUCKETS}
    assert "0001" in log.read_text() or "events" in log.read_text()

    again = start(nats_server.url, url, log)
    assert await asyncio.to_thread(again.wait, WAIT_SECONDS_MAX) == 0, log.read_text()
    assert "applied now: nothing" in log.read_text()
