"""Two audit replicas under load while they and ClickHouse are killed at random: nothing is lost, nothing is doubled."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from contracts.streams import AUDIT, SESSIONS
from services.audit.clickhouse import Store
from services.audit.settings import AuditSettings
from services.runtime import bus
from services.runtime.settings import ClickHouseSettings
from tests.integration.processes import Service
from tests.integration.projections import projections
from tests.integration.servers import ClickHouse, NatsServer
from tests.integration.stories import publish, some_story
from tests.integration.test_audit import BATCH_SECONDS_MAX

DEADLINE_SECONDS = 280.0
"""What a killed replica had in hand is delivered again after the consumer's `ack_wait`, a minute."""

SESSIONS_COUNT = 60
BLOWS = 5


@pytest.mark.timeout(400)
async def test_kills_under_load_lose_and_double_nothing(nats_server: NatsServer, clickhouse: ClickHouse, tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    randomness = random.Random(seed)
    settings = AuditSettings(
        nats_url=nats_server.url, clickhouse_url=clickhouse.url, stream_bytes_max=1_000_000_000, batch_seconds_max=BATCH_SECONDS_MAX
    )
    client = await bus.connect(settings, "test")
    jetstream = client.jetstream()
    await bus.declare(jetstream, settings)
    environment = {
        "VSAY_NATS_URL": settings.nats_url,
        "VSAY_CLICKHOUSE_URL": settings.clickhouse_url,
        "VSAY_STREAM_BYTES_MAX": str(settings.stream_bytes_max),
        "VSAY_BATCH_EVENTS_MAX": "40",
        "VSAY_BATCH_SECONDS_MAX": str(BATCH_SECONDS_MAX),
    }
    stories = [some_story(randomness, f"sess_{number}") for number in range(SESSIONS_COUNT)]
    events = [event for story in stories for event in story.events]
    published = 0

    async def load() -> None:
        nonlocal published
        for event in events:
            await publish(jetstream, event)
            published += 1

    with Service(tmp_path / "audit-1", "audit", environment) as one, Service(tmp_path / "audit-2", "audit", environment) as other:
        loading = asyncio.create_task(load())
        for number in range(1, BLOWS + 1):
            while published < len(events) * number // (BLOWS + 1):
                await asyncio.sleep(0)
            victim = randomness.choice((one, other, clickhouse))
            await asyncio.to_thread(victim.restart, kill=True)
        await loading
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            info = await jetstream.consumer_info(SESSIONS.name, AUDIT.durable)
            if info.num_pending == 0 and info.num_ack_pending == 0:
                break
            assert time.monotonic() < deadline, f"seed {seed}: {info.num_pending} pending, {info.num_ack_pending} in hand"
            await asyncio.sleep(0.1)
    await client.close()

    found = projections(clickhouse)
    assert found["events"].count("\n") == len(events)
    once = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url, clickhouse_database="once"))
    await once.migrate()
    await once.insert_events(events)
    await once.close()
    assert found == projections(clickhouse, "once"), f"seed {seed}"
