"""The steps of docs/backup.md, done: JetStream from its snapshots, ClickHouse from its BACKUP, either without the other."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from contracts.directory import DirectoryFile, Organization, User, UserRole
from contracts.streams import AUDIT, BUCKETS, SESSIONS, STREAMS
from services.audit.settings import AuditSettings
from services.runtime import bus
from services.runtime.directory import Directory
from tests.integration.servers import IS_CLICKHOUSE_SERVER, ClickHouse, NatsServer
from tests.integration.stories import Story, publish, some_story
from tests.integration.stream_snapshots import restore, snapshot
from tests.integration.test_audit import BATCH_SECONDS_MAX, all_acknowledged, projections, sinking, stored, until

EVERYTHING = [stream.name for stream in STREAMS] + [f"KV_{bucket.name}" for bucket in BUCKETS]


def settings_of(nats_server: NatsServer, clickhouse: ClickHouse) -> AuditSettings:
    return AuditSettings(
        nats_url=nats_server.url, clickhouse_url=clickhouse.url, stream_bytes_max=1_000_000_000, batch_seconds_max=BATCH_SECONDS_MAX
    )


@pytest.fixture
def settings(nats_server: NatsServer, clickhouse: ClickHouse) -> AuditSettings:
    return settings_of(nats_server, clickhouse)


@pytest.fixture
async def client(settings: AuditSettings) -> AsyncIterator[Client]:
    client = await bus.connect(settings, "test")
    await bus.declare(client.jetstream(), settings)
    yield client
    await client.close()


def stories(count: int) -> list[Story]:
    randomness = random.Random(7)
    return [some_story(randomness, f"sess_{number}") for number in range(count)]


async def fill(jetstream: JetStreamContext, *told: Story) -> None:
    for story in told:
        await publish(jetstream, *story.events)


async def test_a_new_nats_goes_on_from_the_snapshots_of_the_old_one(
    client: Client, settings: AuditSettings, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """Events, waiting commands, what audit had acknowledged, and the directory with its tokens."""
    jetstream = client.jetstream()
    directory = await Directory.open(jetstream)
    file = DirectoryFile((Organization("org_acme", "Acme"),), (User("usr_1", "A", "a@x", "org_acme", UserRole.ADMIN),), ())
    await directory.apply(file)
    token = await directory.create_token("usr_1")
    before, after = stories(6)[:3], stories(6)[3:]
    await fill(jetstream, *before)
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    await fill(jetstream, *after)
    await jetstream.publish("ssh.open", b"a command that waits")
    taken = [await snapshot(client, name) for name in EVERYTHING]

    with NatsServer(tmp_path / "new-nats") as new_server:
        new_settings = settings_of(new_server, clickhouse)
        new_client = await bus.connect(new_settings, "test")
        try:
            for each in taken:
                await restore(new_client, each)
            new = new_client.jetstream()
            await bus.declare(new, new_settings)  # as every service does when it starts: it changes nothing
            for name in EVERYTHING:
                was, now = await jetstream.stream_info(name), await new.stream_info(name)
                assert (was.state.messages, was.state.last_seq) == (now.state.messages, now.state.last_seq), name
                assert was.config.republish == now.config.republish
            info = await new.consumer_info(SESSIONS.name, AUDIT.durable)
            assert info.num_pending == sum(len(story.events) for story in after)
            user = await (await Directory.open(new)).authenticate(token)
            assert user
            assert user.id == "usr_1"
            async with sinking(new, new_settings):
                await until(lambda: all_acknowledged(new))
            assert int(clickhouse.query("SELECT uniqExact(session_id) FROM vsay.events")) == 6
        finally:
            await new_client.close()


async def test_a_lost_clickhouse_is_filled_again_from_the_stream(
    client: Client, settings: AuditSettings, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    """As far back as the resume horizon: the consumer is made anew, and everything that the stream has comes again."""
    jetstream = client.jetstream()
    await fill(jetstream, *stories(5))
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    expected = projections(clickhouse, "vsay")
    await asyncio.to_thread(offline, clickhouse, tmp_path, "DROP DATABASE vsay SYNC")

    await jetstream.delete_consumer(SESSIONS.name, AUDIT.durable)
    await bus.declare(jetstream, settings)
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    assert projections(clickhouse, "vsay") == expected


async def test_clickhouse_from_its_backup_and_the_rest_from_the_stream(
    client: Client, settings: AuditSettings, clickhouse: ClickHouse
) -> None:
    """A backup of this morning, an increment of noon, and what came after from the stream: nothing is missing or twice."""
    jetstream = client.jetstream()
    told = stories(9)
    backups = clickhouse.directory / "backups"
    for number, part in enumerate((told[:3], told[3:6])):
        async with stored(settings) as store:
            await store.insert_events([event for story in part for event in story.events])
        base = f" SETTINGS base_backup = File('{backups}/0')" if number else ""
        await asyncio.to_thread(offline, clickhouse, backups, f"BACKUP DATABASE vsay TO File('{backups}/{number}'){base}")
    await fill(jetstream, *told[3:])  # the stream reaches back beyond the backup
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    expected = projections(clickhouse, "vsay")

    drop_and_restore = ("DROP DATABASE vsay SYNC", f"RESTORE DATABASE vsay FROM File('{backups}/1')")
    await asyncio.to_thread(offline, clickhouse, backups, *drop_and_restore)
    assert int(clickhouse.query("SELECT uniqExact(session_id) FROM vsay.events")) == 6
    await jetstream.delete_consumer(SESSIONS.name, AUDIT.durable)
    await bus.declare(jetstream, settings)
    async with sinking(jetstream, settings):
        await until(lambda: all_acknowledged(jetstream))
    assert projections(clickhouse, "vsay") == expected


def offline(clickhouse: ClickHouse, backups: Path, *statements: str) -> None:
    """Run statements with backups allowed: which the embedded engine's HTTP interface cannot be told, so it is down meanwhile."""
    if IS_CLICKHOUSE_SERVER:
        for statement in statements:
            clickhouse.query(statement)
        return
    program = (
        "import sys, chdb; connection = chdb.connect(sys.argv[1]);"
        "[connection.query(statement) for statement in sys.argv[2:]]; connection.close()"
    )
    clickhouse.stop()
    data = f"{clickhouse.directory / 'clickhouse'}?backups.allowed_path={backups}/"
    subprocess.run([sys.executable, "-c", program, data, *statements], check=True)
    clickhouse.start()
