"""The schema in ClickHouse: applied once, in order, unchanged, and it explains itself."""

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext

from services.audit.clickhouse import SchemaError, Store, migrations
from services.audit.settings import AuditSettings
from tests.integration.projections import projections
from tests.integration.servers import ClickHouse
from tests.integration.stories import Story, some_story
from tests.integration.test_audit import fill, jetstream, service, settings, stored, until

__all__ = ("jetstream", "settings")  # fixtures


async def test_migrations_are_applied_once_in_order(
    settings: AuditSettings, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [migration.name for migration in migrations()]
    assert names
    store = Store.open(settings)
    assert await store.migrate() == names
    assert await store.migrate() == []
    before = clickhouse.query("SELECT * FROM vsay.schema_migrations ORDER BY number")
    others = [Store.open(settings) for _ in range(2)]
    clickhouse.query("TRUNCATE TABLE vsay.schema_migrations")
    await asyncio.gather(*(other.migrate() for other in others))
    await fill(settings, [Story("sess_1").claimed().events])
    assert clickhouse.query("SELECT count() FROM vsay.sessions") == "1\n"
    changed = msgspec.structs.replace(next(migrations()), checksum="changed")
    monkeypatch.setattr("services.audit.clickhouse.migrations", lambda: iter([changed]))
    with pytest.raises(SchemaError, match="was changed"):
        await store.migrate()
    for each in (store, *others):
        await each.close()
    assert before.count("\n") == len(names)


async def test_with_a_schema_that_was_tampered_with_the_service_ends(
    settings: AuditSettings, jetstream: JetStreamContext, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    async with stored(settings):
        pass
    clickhouse.query("INSERT INTO vsay.schema_migrations (number, name, checksum) VALUES (1, 'events', 'changed')")
    with service(settings, tmp_path) as audit:

        async def has_ended() -> bool:
            return audit.exit_status is not None

        await until(has_ended)
        assert audit.exit_status != 0
        assert "SchemaError" in audit.log


COPYING = 12
"""The first file that copies what was there before."""


@pytest.mark.parametrize("number", [migration.number for migration in migrations() if migration.number >= COPYING])
async def test_an_upgrade_loses_nothing_of_what_was_recorded_before_and_meanwhile(
    settings: AuditSettings, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    randomness = random.Random(number)
    events = [event for n in range(30) for event in some_story(randomness, f"sess_{n}").events]
    before = [migration for migration in migrations() if migration.number < number]
    store, other = Store.open(settings), Store.open(settings)
    with monkeypatch.context() as old:
        old.setattr("services.audit.clickhouse.migrations", lambda: iter(before))
        await store.migrate()
    await store.insert_events(events[:200])

    async def ingest() -> None:
        for start in range(200, len(events), 5):
            await other.insert_events(events[start : start + 5])

    ingesting = asyncio.create_task(ingest())
    assert await store.migrate() == [migration.name for migration in migrations() if migration.number >= number]
    await ingesting
    upgraded = projections(clickhouse)
    once = Store.open(msgspec.structs.replace(settings, clickhouse_database="once"))
    await once.migrate()
    await once.insert_events(events)
    for each in (store, other, once):
        await each.close()
    assert upgraded == projections(clickhouse, "once")


async def test_commands_as_the_view_before_told_them(
    settings: AuditSettings, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(settings)
    with monkeypatch.context() as old:
        old.setattr("services.audit.clickhouse.migrations", lambda: (each for each in list(migrations()) if each.number < COPYING))
        await store.migrate()
    randomness = random.Random(12)
    await store.insert_events([event for n in range(30) for event in some_story(randomness, f"sess_{n}").events])
    clickhouse.query(
        "INSERT INTO vsay.rebuilt_logs"
        " (org_id, session_id, version, seq, at, type, n, content, context, from_seq, to_seq, exit_status)"
        " SELECT org_id, session_id, v, seq + v, at, type, n, upper(content), 'python', from_seq, to_seq + v, exit_status"
        " FROM vsay.log_parts CROSS JOIN (SELECT arrayJoin([1, 2, 3]) AS v) AS versions WHERE session_id < 'sess_2'"
    )
    clickhouse.query(
        "INSERT INTO vsay.log_versions (session_id, version, detection)"
        " SELECT DISTINCT session_id, v, 1 FROM vsay.log_parts CROSS JOIN (SELECT arrayJoin([1, 2]) AS v) AS versions"
        " WHERE session_id < 'sess_2'"
    )
    told = projections(clickhouse)["commands"]
    assert "ECHO" in told
    assert "echo" in told
    await store.migrate()
    await store.close()
    assert projections(clickhouse)["commands"] == told


async def test_a_command_over_the_end_of_a_month_is_one_row(settings: AuditSettings, clickhouse: ClickHouse) -> None:
    story = Story("sess_1", at=datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)).claimed().command("make")
    async with stored(settings) as store:
        await store.insert_events(story.later(hours=2).finished(3).events)
    asked = "SELECT text, exit_status, dateDiff('minute', at, ended_at) FROM vsay.commands WHERE at < '2024-02-01'"
    assert clickhouse.query(asked) == "make\t3\t120\n"


async def test_every_table_and_column_explains_itself(settings: AuditSettings, clickhouse: ClickHouse) -> None:
    async with stored(settings):
        pass
    assert clickhouse.query("SELECT name FROM system.tables WHERE database = 'vsay' AND comment = ''") == ""
    assert clickhouse.query("SELECT table, name FROM system.columns WHERE database = 'vsay' AND comment = ''") == ""
