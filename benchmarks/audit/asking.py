"""What is asked of the filled database, and how long each answer takes."""

import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from benchmarks.audit.history import MACHINES, ORG, USERS
from benchmarks.audit.notes import note
from contracts.api import LogType
from services.runtime.clickhouse import ClickHouse as Connection
from services.runtime.settings import ClickHouseSettings
from services.session_api import search
from services.session_api.history import History
from services.session_api.statistics import stats
from tests.integration.servers import ClickHouse
from tests.integration.test_analytics import questions

SLOW_SECONDS = 5.0
"""What takes longer is asked once."""

ANALYST_SECONDS = 120
"""How long an analyst's client waits: longer than the limit of a query."""

type Query = Callable[[], Awaitable[object]]


async def asked(clickhouse: ClickHouse, settings: ClickHouseSettings, repeat: int, results: dict[str, Any]) -> None:
    """Time of the query of each endpoint, and of each question in docs/analytics.md, which the analyst asks within the limits."""
    session_id = clickhouse.query("SELECT max(session_id) FROM vsay.sessions WHERE state = 'ended' AND commands_count > 0").strip()
    history = await History.connect(settings)
    results["endpoints_ms"] = {}
    for name, query in _endpoints(history, session_id).items():
        results["endpoints_ms"][name] = await timed(query, repeat)
        note(f"{name}: {results['endpoints_ms'][name]} ms")
    await history.close()
    analyst = msgspec.structs.replace(settings, clickhouse_user="analyst", clickhouse_password=ClickHouse.ANALYST_PASSWORD)
    history = History(Connection(analyst, answer_seconds=ANALYST_SECONDS))
    results["questions_ms"] = {}
    for title, sql in questions().items():
        values = {"session_id": session_id, "moment": datetime.now(UTC).isoformat()}
        given = {name: value for name, value in values.items() if f"{{{name}:" in sql}
        results["questions_ms"][title] = await timed(lambda sql=sql, given=given: history.rows(sql, given), repeat)
        note(f"{title}: {results['questions_ms'][title]} ms")
    await history.close()


def _endpoints(history: History, session_id: str) -> dict[str, Query]:
    now = datetime.now(UTC)

    async def all_of(entries: Any) -> int:
        return len([entry async for entry in entries])

    def figures(days: int) -> Query:
        return lambda: stats(history, org_id=ORG, since=now - timedelta(days=days), until=now, active=0)

    def found(text: str, **more: Any) -> Query:
        return lambda: search.page(history, search.Wanted(text=text, org_id=ORG, **more), 50)

    def listed(**more: Any) -> Query:
        return lambda: history.sessions(org_id=ORG, limit=100, **more)

    return {
        "GET /v1/sessions": listed(),
        "GET /v1/sessions?user_id&status=ended": listed(user_id=USERS[3].id, ended=True),
        "GET /v1/sessions?machine_id&from (1 day)": listed(machine_id=MACHINES[2].id, since=now - timedelta(days=1)),
        "GET /v1/sessions?cursor (30 days back)": listed(before=(now - timedelta(days=30), session_id)),
        "GET /v1/sessions?user_id (of nobody)": listed(user_id="usr_nobody"),
        "GET /v1/sessions/{id}": lambda: history.session(ORG, session_id),
        "GET /v1/sessions/{id}/logs": lambda: all_of(history.logs(session_id)),
        "GET /v1/sessions/{id}/recording (events)": lambda: all_of(history.events(session_id, 0)),
        "GET /v1/sessions/stats?period=day": figures(1),
        "GET /v1/sessions/stats?period=week": figures(7),
        "GET /v1/sessions/stats?period=month": figures(30),
        "GET /v1/search (frequent text)": found("permission"),
        "GET /v1/search (frequent text, 7 days)": found("permission", since=now - timedelta(days=7)),
        "GET /v1/search (frequent text, one user)": found("permission", user_id=USERS[7].id),
        "GET /v1/search (nowhere)": found("zzzqx"),
        "GET /v1/search (rare text, commands, 7 days)": found("zzz", since=now - timedelta(days=7), type=LogType.COMMAND),
    }


async def timed(query: Query, repeat: int) -> float | str:
    """Median in milliseconds; or what went wrong."""
    times: list[float] = []
    while len(times) < repeat and not (times and max(times) > SLOW_SECONDS * 1000):
        began = time.perf_counter()
        try:
            await query()
        except Exception as error:  # noqa: BLE001  # it is a result, too
            return str(error)[:300]
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 1)
