"""The schema in ClickHouse: applied once, in order, unchanged, and it explains itself."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext

from services.audit.clickhouse import SchemaError, Store, migrations
from services.audit.settings import AuditSettings
from tests.integration.servers import ClickHouse
from tests.integration.stories import Story
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


async def test_every_table_and_column_explains_itself(settings: AuditSettings, clickhouse: ClickHouse) -> None:
    async with stored(settings):
        pass
    assert clickhouse.query("SELECT name FROM system.tables WHERE database = 'vsay' AND comment = ''") == ""
    assert clickhouse.query("SELECT table, name FROM system.columns WHERE database = 'vsay' AND comment = ''") == ""
