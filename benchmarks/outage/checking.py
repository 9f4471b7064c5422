"""Whether ClickHouse has what the publisher has accounted for: everything, as it was, once, and nothing else."""

from collections.abc import Mapping
from typing import Any

from benchmarks.outage.producing import Account
from tests.integration.servers import ClickHouse

NAMED_MAX = 10


def checked(clickhouse: ClickHouse, accounts: Mapping[str, Account]) -> dict[str, Any]:
    """What is wrong, by session, at most `NAMED_MAX`; and how much there is."""
    wrong: list[str] = []
    events = _by_session(clickhouse, _EVENTS)
    sessions = _by_session(clickhouse, _SESSIONS)
    logs = _by_session(clickhouse, _LOGS)
    for session_id, account in accounts.items():
        expected = [str(account.events), str(account.events), account.chains.hex().upper()]
        if events.get(session_id) != expected:
            wrong.append(f"{session_id}: events are {events.get(session_id)}, expected {expected}")
        if sessions.get(session_id) != [str(account.events), str(account.commands)]:
            wrong.append(f"{session_id}: view sessions says {sessions.get(session_id)}, expected {account}")
        if logs.get(session_id, ["0", "0"]) != [str(account.commands), str(account.texts)]:
            wrong.append(f"{session_id}: view logs says {logs.get(session_id)}, expected {account}")
    for name, found in (("events", events), ("sessions", sessions), ("logs", logs)):
        wrong += [f"{session_id}: in {name}, but nobody published it" for session_id in found.keys() - accounts.keys()]
    rows = int(clickhouse.query("SELECT count() FROM vsay.events"))
    once = sum(account.events for account in accounts.values())
    return {
        "sessions": len(accounts),
        "events_published": once,
        "events_found": int(clickhouse.query("SELECT count() FROM vsay.events FINAL")),
        "rows_not_merged_yet": rows - once,
        "quarantined": int(clickhouse.query("SELECT count() FROM vsay.quarantine")),
        "wrong": len(wrong),
        "wrong_named": wrong[:NAMED_MAX],
    }


def _by_session(clickhouse: ClickHouse, sql: str) -> dict[str, list[str]]:
    rows = (line.split("\t") for line in clickhouse.query(sql).splitlines())
    return {row[0]: row[1:] for row in rows}


_EVENTS = """
SELECT session_id, count(), max(seq), hex(SHA256(arrayStringConcat(arrayMap(each -> each.2, arraySort(groupArray((seq, chain)))))))
FROM vsay.events FINAL GROUP BY session_id"""
_SESSIONS = "SELECT session_id, last_seq, commands_count FROM vsay.sessions"
_LOGS = "SELECT session_id, countIf(type = 'command'), countIf(type = 'output') FROM vsay.logs GROUP BY session_id"
