"""`vsay logs rebuild`: the present detection over stored events, read back as the newest version."""

import asyncio
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from services.audit.clickhouse import Store
from services.runtime.settings import ClickHouseSettings
from tests.corpus.recordings import Recording
from tests.corpus.records import written
from tests.corpus.sessions import SCENARIOS
from tests.integration.servers import ClickHouse

OLD = "as it was found before"


async def vsay(clickhouse: ClickHouse, *arguments: str, **settings: str) -> tuple[int, str]:
    """Exit status and everything that it printed."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("vsay")),
        *arguments,
        env={name: value for name, value in os.environ.items() if not name.startswith("VSAY_")}
        | {"VSAY_CLICKHOUSE_URL": clickhouse.url, "VSAY_NATS_URL": "nats://127.0.0.1:1"}
        | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


@pytest.mark.timeout(400)
async def test_every_session_of_the_corpus_is_found_anew(clickhouse: ClickHouse, tmp_path: Path) -> None:
    sessions = {f"sess_{scenario.name}".replace(".", "_"): Recording.load(scenario) for scenario in SCENARIOS}
    store = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url))
    try:
        await store.migrate()
        await store.insert_events([event for session_id, recording in sessions.items() for event in written(recording, session_id)])
        status, printed = await vsay(clickhouse, "logs", "rebuild")
        assert status == 0, printed
        assert printed.count(": version 1, ") == len(sessions)

        commands: defaultdict[str, list[Any]] = defaultdict(list)
        for session_id, *command in await store.query(
            "SELECT session_id, context, text, version, output_to_seq FROM commands ORDER BY session_id, n"
        ):
            commands[session_id].append(command)
        logs: defaultdict[str, list[Any]] = defaultdict(list)
        for session_id, seq, content in await store.query("SELECT session_id, seq, content FROM logs ORDER BY session_id, seq"):
            logs[session_id].append((seq, content))
        for session_id, recording in sessions.items():
            found = tuple((context, text) if context else text for context, text, _, _ in commands[session_id])
            assert found == recording.scenario.commands, session_id
            assert all(version == 1 and ended for *_, version, ended in commands[session_id]), session_id
            assert len({seq for seq, _ in logs[session_id]}) == len(logs[session_id])
            for secret in recording.scenario.secrets:
                assert not any(secret in content for _, content in logs[session_id]), session_id

        rules = tmp_path / "rules.toml"
        rules.write_text("built_in = false\nrules = ['hello']\n")
        status, printed = await vsay(clickhouse, "logs", "rebuild", "sess_bash-typing", VSAY_MASK_RULES_FILE=str(rules))
        assert (status, printed) == (0, "sess_bash-typing: version 2, 3 commands\n")
        rows = await store.query("SELECT version, text FROM commands WHERE session_id = 'sess_bash-typing' ORDER BY n")
        assert [tuple(row) for row in rows] == [(2, "echo [masked]"), (2, "true"), (2, "echo slow")]
    finally:
        await store.close()


async def test_a_rebuild_that_is_not_complete_is_not_seen_and_a_session_that_goes_on_is_refused(clickhouse: ClickHouse) -> None:
    store = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url))
    try:
        await store.migrate()
        events = written(Recording.load(SCENARIOS[0]), "sess_1")
        await store.insert_events(events[:-1])
        status, printed = await vsay(clickhouse, "logs", "rebuild", "sess_1")
        assert (status, printed) == (1, "vsay: session sess_1 has not ended, or ClickHouse does not have its end yet\n")
        await store.insert_events(events[-1:])
        await store.command(
            "INSERT INTO rebuilt_logs (org_id, session_id, version, seq, at, type, n, content) "
            f"VALUES ('org_acme', 'sess_1', 1, 5, now(), 'command', 1, '{OLD}')"
        )
        before = await contents(store)
        assert OLD not in before
        assert "echo hello" in before
        await store.command("INSERT INTO log_versions (session_id, version, detection) VALUES ('sess_1', 1, 0)")
        assert await contents(store) == [OLD]
        status, printed = await vsay(clickhouse, "logs", "rebuild", "sess_1")
        assert (status, printed) == (0, "sess_1: version 2, 3 commands\n")
        assert await contents(store) == before, "the newest version counts"
    finally:
        await store.close()


async def contents(store: Store) -> list[Any]:
    return [content for (content,) in await store.query("SELECT content FROM logs WHERE session_id = 'sess_1' ORDER BY seq")]
