"""Anchors are made while replicas of `audit` come and go, and streams with them."""

import asyncio
import random
from pathlib import Path

import pytest
from msgspec.structs import replace
from nats.js import JetStreamContext
from prometheus_client import CollectorRegistry

from contracts import anchors, subjects
from contracts.streams import ACCESS_ANCHORS, ANCHORS, AUDIT, SESSIONS
from services.audit.anchoring import Anchorer
from services.audit.clickhouse import Store
from services.audit.horizon import purge
from services.audit.metrics import AuditMetrics
from services.audit.settings import AuditSettings
from services.runtime import bus
from services.runtime.anchors import OF_SESSIONS, newest_anchor
from services.runtime.clickhouse import ClickHouse as Connection
from services.runtime.evidence import Evidence
from tests.integration.processes import Service
from tests.integration.servers import ClickHouse
from tests.integration.stories import publish
from tests.integration.test_access_verification import checked, read, whole
from tests.integration.test_verification import found, jetstream, settings, settle, sinking, store, story, until

__all__ = ("jetstream", "settings", "store")  # fixtures


@pytest.mark.timeout(300)
async def test_replicas_that_are_killed_leave_one_chain_that_has_every_session_and_one_that_has_every_access_entry(
    settings: AuditSettings, jetstream: JetStreamContext, tmp_path: Path
) -> None:
    environment = {
        "VSAY_NATS_URL": settings.nats_url,
        "VSAY_CLICKHOUSE_URL": settings.clickhouse_url,
        "VSAY_STREAM_BYTES_MAX": str(settings.stream_bytes_max),
        "VSAY_SECRETS_DIR": settings.secrets_dir,
        "VSAY_SIGNING_KEY": settings.signing_key,
        "VSAY_ANCHOR_SECONDS": "0.1",
        "VSAY_BATCH_SECONDS_MAX": str(settings.batch_seconds_max),
    }
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    randomness = random.Random(seed)
    replicas = [Service(tmp_path / f"audit-{number}", "audit", environment) for number in range(2)]
    stories = {f"sess_{number}": story(f"sess_{number}", settings, outputs=randomness.randrange(8)) for number in range(60)}
    try:
        for replica in replicas:
            await asyncio.to_thread(replica.start)
        for number, told in enumerate(stories.values()):
            await publish(jetstream, *told.events)
            await read(jetstream, [number])
            if number % 20 == 10:
                await asyncio.to_thread(randomness.choice(replicas).restart, kill=True)
        connection = Connection(settings)
        evidence = Evidence(connection)
        missing = set(stories)

        async def has_all() -> bool:
            heads = await evidence.heads_between("sess_", "sess_z")
            missing.difference_update(
                session_id
                for session_id, known in heads.items()
                if any(
                    (head.seq, head.chain) == (len(stories[session_id].events), stories[session_id].events[-1].chain)
                    for head in known
                )
            )
            return not missing

        async def has_all_entries() -> bool:
            return (await checked(settings, jetstream))[1].anchored == len(stories)

        await until(has_all)
        await until(has_all_entries)
        await connection.close()
        await settle(jetstream)
    finally:
        for replica in replicas:
            replica.stop()
    newest = await newest_anchor(jetstream, OF_SESSIONS)
    assert newest
    assert newest.number == (await jetstream.stream_info(ANCHORS.name)).state.messages
    assert await found(settings, jetstream) == set()
    chain, entries = await checked(settings, jetstream)
    assert chain.errors == 0, chain.findings
    assert chain.head_number == (await jetstream.stream_info(ACCESS_ANCHORS.name)).state.messages
    assert whole(entries, len(stories), len(stories))


async def test_a_metric_says_how_much_is_not_anchored(settings: AuditSettings, jetstream: JetStreamContext, store: Store) -> None:
    text = AuditMetrics(CollectorRegistry()).text(jetstream, AUDIT)
    async with sinking(jetstream, store, settings):
        await publish(jetstream, *story("sess_1", settings).events)
        await settle(jetstream)
        assert b"vsay_audit_unanchored_messages 8.0" in await text()
        assert await Anchorer(jetstream, store, settings).anchor()
        assert b"vsay_audit_unanchored_messages 0.0" in await text()


async def test_anchors_go_on_after_those_of_clickhouse_when_the_stream_was_restored(
    settings: AuditSettings, jetstream: JetStreamContext, store: Store, clickhouse: ClickHouse
) -> None:
    made = []
    async with sinking(jetstream, store, settings):
        for number in range(1, 4):
            await publish(jetstream, *story(f"sess_{number}", settings, outputs=number).events)
            await settle(jetstream)
            made.append(await Anchorer(jetstream, store, settings).anchor())
        await settle(jetstream)
    assert made[0]
    await jetstream.delete_stream(ANCHORS.name)
    await bus.declare(jetstream, settings)
    await jetstream.publish(subjects.ANCHORS, anchors.encode(made[0]), stream=ANCHORS.name)

    forged = replace(made[0], number=99)
    await store.insert_anchors([forged])
    async with sinking(jetstream, store, settings):
        assert await Anchorer(jetstream, store, settings)._stored_after(made[0]) is None, "its signature is not good"
        await asyncio.to_thread(clickhouse.query, "ALTER TABLE vsay.anchors DELETE WHERE number = 99 SETTINGS mutations_sync = 2")
        await publish(jetstream, *story("sess_4", settings).events)
        await settle(jetstream)
        fourth = await Anchorer(jetstream, store, settings).anchor()
        assert fourth
        assert fourth.number == 4
        assert [leaf.session_id for leaf in fourth.leaves] == ["sess_2", "sess_3", "sess_4"], "all since the anchor of the stream"
        await settle(jetstream)
    assert await found(settings, jetstream) == set()


async def test_two_replicas_make_one_chain_of_anchors(settings: AuditSettings, jetstream: JetStreamContext, store: Store) -> None:
    other_nats = await bus.connect(settings, "other")
    replicas = [
        Anchorer(jetstream, store, settings, leaves_max=2),
        Anchorer(other_nats.jetstream(), store, settings, leaves_max=2),
    ]
    async with sinking(jetstream, store, settings):
        for round_ in range(4):
            for number in range(3):
                await publish(jetstream, *story(f"sess_{round_}_{number}", settings, outputs=2).events)
            await settle(jetstream)
            made = [await asyncio.gather(*(replica.anchor() for replica in replicas)) for _ in range(4)]
            assert all(len([each for each in pair if each]) <= 1 for pair in made), "one wins"
            assert sum(len(each.leaves) for pair in made for each in pair if each) == 3, "each session is anchored once"
        await settle(jetstream)
    await other_nats.close()
    newest = await newest_anchor(jetstream, OF_SESSIONS)
    assert newest
    assert newest.number == (await jetstream.stream_info(ANCHORS.name)).state.messages == 8
    assert await found(settings, jetstream) == set()


async def test_anchors_go_on_where_the_stream_was_lost(settings: AuditSettings, jetstream: JetStreamContext, store: Store) -> None:
    async with sinking(jetstream, store, settings):
        await publish(jetstream, *story("sess_1", settings).events)
        await settle(jetstream)
        assert await Anchorer(jetstream, store, settings).anchor()
        await settle(jetstream)
    for stream in (ANCHORS, SESSIONS):
        await jetstream.delete_stream(stream.name)
    await bus.declare(jetstream, settings)
    async with sinking(jetstream, store, settings):
        await publish(jetstream, *story("sess_2", settings, outputs=1).events)
        await settle(jetstream)
        made = await Anchorer(jetstream, store, settings).anchor()
        assert made
        assert (made.number, [leaf.session_id for leaf in made.leaves]) == (2, ["sess_2"])
        await settle(jetstream)
    assert await found(settings, jetstream) == set()


async def test_only_what_is_anchored_leaves_the_stream(settings: AuditSettings, jetstream: JetStreamContext, store: Store) -> None:
    async with sinking(jetstream, store, settings):
        await publish(jetstream, *story("sess_1", settings).events)
        await settle(jetstream)
        last = await jetstream.get_msg(SESSIONS.name, subject=subjects.events_of("sess_1"))
        assert last.time
        later = last.time.replace(year=last.time.year + 1)
        assert await purge(jetstream, before=later, only_anchored=True) == 0
        assert await Anchorer(jetstream, store, settings).anchor()
        assert await purge(jetstream, before=later, only_anchored=True) == 8
