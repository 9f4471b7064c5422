"""docs/analytics.md as an analyst uses it: every question of it is asked of a made-up history, as the read-only user."""

import asyncio
import json
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.events import EndReason, Role, ViewerAttached, ViewerDetached
from services.audit.clickhouse import Quarantined, Store
from services.runtime.settings import ClickHouseSettings
from tests.integration.servers import ClickHouse
from tests.integration.stories import DB, JANE, JOHN, ORG, WEB, Story

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "analytics.md"
NOW = datetime.now(UTC)
PARAMETERS = {"session_id": "sess_rm", "moment": NOW.isoformat()}

type Row = dict[str, Any]


def questions() -> dict[str, str]:
    """The SQL below each heading."""
    return dict(re.findall(r"^### (.+?)\n.*?^```sql\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL))


def ask(clickhouse: ClickHouse, sql: str, **parameters: str) -> list[Row]:
    """The rows of the answer, as the analyst gets them."""
    given = {f"param_{name}": value for name, value in parameters.items() if f"{{{name}:" in sql}
    url = {"database": "vsay", "user": "analyst", "password": ClickHouse.ANALYST_PASSWORD, "default_format": "JSONEachRow"} | given
    request = urllib.request.Request(f"{clickhouse.url}/?{urllib.parse.urlencode(url)}", data=sql.encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [json.loads(line) for line in answer.read().decode(errors="surrogateescape").splitlines()]


def ago(**duration: float) -> datetime:
    return NOW - timedelta(**duration)


def history() -> list[Story]:
    """A month of two people on two machines."""
    old = (
        Story("sess_old", at=ago(days=20))
        .claimed(JOHN, WEB)
        .started()
        .output(b"x" * 1000)
        .command("ls", "a b")
        .finished(0)
        .command("uptime", "up")
        .finished(0)
    )
    removal = (
        Story("sess_rm", at=ago(hours=5))
        .claimed(JANE, DB)
        .started()
        .output(b"$ rm\r\n")
        .command("rm -rf /srv/x", "Permission denied")
        .finished(1)
    )
    new = (
        Story("sess_new", at=ago(hours=4))
        .claimed(JOHN, WEB)
        .started()
        .output(b"y" * 300)
        .command("ls", "a")
        .finished(2)
        .command("nmap -sP net", "up")
        .finished()
    )
    idle = Story("sess_idle", at=ago(hours=3)).claimed(JANE, WEB).started().later(minutes=30).output(b"z" * 50)
    busy = Story("sess_busy", at=ago(hours=2)).claimed(JOHN, WEB).started().later(minutes=119).output(b"z" * 7)
    watched = Story("sess_watched", at=ago(days=2)).claimed(JOHN, DB).started()
    watched.record(ViewerAttached("view_john", JOHN, Role.DRIVER, "192.0.2.9", "curl/8"))
    watched.record(ViewerAttached("view_jane", JANE, Role.OBSERVER, "192.0.2.8", "curl/8"))
    watched.later(minutes=2).record(ViewerDetached("view_jane", JANE))
    failed = (
        Story("sess_failed", at=ago(days=1))
        .claimed(JOHN, DB)
        .ended(EndReason.CONNECT_FAILED, code="unreachable", message="no route")
    )
    lost = Story("sess_lost", at=ago(days=3)).claimed(JOHN, WEB, worker="worker-7").started().ended(EndReason.WORKER_LOST)
    gap = Story("sess_gap", at=ago(days=6)).claimed(JOHN, WEB).started().output().ended()
    for story in (old, removal, new, watched):
        story.later(minutes=10).ended()
    del gap.events[1]
    return [old, removal, new, idle, busy, watched, failed, lost, gap]


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """One engine for all questions: they only read."""
    with ClickHouse(tmp_path_factory.mktemp("clickhouse")) as server:
        asyncio.run(fill(server))
        yield server


async def fill(clickhouse: ClickHouse) -> None:
    store = Store.open(ClickHouseSettings(clickhouse_url=clickhouse.url))
    await store.migrate()
    events = [event for story in history() for event in story.events]
    await store.insert_events(events)
    await store.insert_events(events[::2])
    await store.insert_quarantined(
        [Quarantined(7, int(NOW.timestamp() * 1e6), "session.sess_1.output", "no envelope", b"\xff\xfe")]
    )
    reading = f"'acc_1', '{NOW:%Y-%m-%d %H:%M:%S}', '{ORG}', 'usr_456', 'Jane Roe', 'auditor', 'logs', 'sess_rm', '192.0.2.8'"
    await store.command(
        f"INSERT INTO access_entries (id, at, org_id, user_id, user_name, role, action, session_id, ip_address) VALUES ({reading})"
    )
    await store.close()


def column(rows: list[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


ANSWERS: dict[str, Callable[[list[Row]], bool]] = {
    "Which running sessions have been silent longest?": lambda rows: (
        column(rows, "session_id") == ["sess_idle", "sess_busy"] and int(rows[0]["silent_minutes"]) >= 150
    ),
    "Who ran `rm -rf`, and where?": lambda rows: (
        [(row["user_name"], row["machine_name"], row["text"]) for row in rows] == [(JANE.name, DB.name, "rm -rf /srv/x")]
    ),
    "How many bytes did each machine show in each hour?": lambda rows: (
        sum(int(row["bytes"]) for row in rows if row["machine_name"] == WEB.name) == 300 + 50 + 7
        and sum(int(row["bytes"]) for row in rows if row["machine_name"] == DB.name) == 6
    ),
    "Which commands had nobody entered before this week?": lambda rows: column(rows, "program") == ["rm", "nmap"],
    "How many sessions ran at the same time?": lambda rows: max(int(row["sessions_at_once"]) for row in rows) in (2, 3),
    "What was on the screen when?": lambda rows: column(rows, "shown") == ["Permission denied", "$ rm -rf /srv/x"],
    "Which bytes did the terminal show?": lambda rows: column(rows, "data") == ["$ rm\r\n"],
    "Who watched whose session?": lambda rows: (
        [(row["viewer"], row["of_user"], row["role"], int(row["seconds"])) for row in rows]
        == [(JANE.name, JOHN.name, "observer", 120)]
    ),
    "Where did a text come up, and after which command?": lambda rows: column(rows, "command") == ["rm -rf /srv/x"],
    "Which commands fail most?": lambda rows: (
        [(row["program"], int(row["runs"]), int(row["failures"]), row["percent"]) for row in rows]
        == [("ls", 2, 1, 50), ("rm", 1, 1, 100)]
    ),
    "Which connections failed, and why?": lambda rows: (
        [(row["machine_name"], row["code"], row["example"]) for row in rows] == [(DB.name, "unreachable", "no route")]
    ),
    "Which sessions did not end as their users meant?": lambda rows: (
        [(row["reason"], row["workers"]) for row in rows] == [("worker_lost", ["worker-7"])]
    ),
    "Who worked most this week?": lambda rows: (
        {row["user_name"]: int(row["sessions"]) for row in rows} == {JOHN.name: 6, JANE.name: 2}
        and {row["user_name"]: int(row["machines"]) for row in rows} == {JOHN.name: 2, JANE.name: 2}
    ),
    "Who was on a machine for the first time this week?": lambda rows: (
        {(row["user_name"], row["machine_name"]) for row in rows}
        == {(JOHN.name, DB.name), (JANE.name, DB.name), (JANE.name, WEB.name)}
    ),
    "How long does it take to get a shell?": lambda rows: {row["median_ms"] for row in rows} == {42},
    "Is an event missing?": lambda rows: (
        [(row["session_id"], int(row["last_seq"]), int(row["events"])) for row in rows] == [("sess_gap", 4, 3)]
    ),
    "What was set aside, and why?": lambda rows: [(row["reason"], int(row["bytes"])) for row in rows] == [("no envelope", 2)],
    "Who read the records?": lambda rows: (
        [(row["user_name"], row["action"], row["session_id"]) for row in rows] == [(JANE.name, "logs", "sess_rm")]
    ),
}


def test_every_question_has_an_answer_here() -> None:
    assert list(questions()) == list(ANSWERS)


@pytest.mark.parametrize("question", ANSWERS)
def test_a_question_of_the_document(clickhouse: ClickHouse, question: str) -> None:
    rows = ask(clickhouse, questions()[question], **PARAMETERS)
    assert ANSWERS[question](rows), rows


def test_the_sql_of_the_readme(clickhouse: ClickHouse) -> None:
    (sql,) = re.findall(r'-d "(SELECT .+) FORMAT Pretty"', (ROOT / "README.md").read_text())
    assert "rm -rf /srv/x" in column(ask(clickhouse, sql), "text")


DASHBOARD = ROOT / "deploy" / "grafana" / "vsay.json"
SPAN = f"'{ago(days=7):%Y-%m-%d %H:%M:%S}'", f"'{NOW + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}'"


def as_grafana(sql: str) -> str:
    """With the macros and variables as the ClickHouse data source of Grafana replaces them."""
    since, until = (f"toDateTime({moment})" for moment in SPAN)
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= {since} AND \1 <= {until}", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 3600 second)", sql)
    sql = sql.replace("$__fromTime", since).replace("$__toTime", until).replace("${org:singlequote}", f"'{ORG}'")
    assert "$" not in sql.replace("'$ '", ""), sql
    return sql


def panels() -> dict[str, str]:
    dashboard = json.loads(DASHBOARD.read_text())
    assert [ask_for["query"] for ask_for in dashboard["templating"]["list"]][
        -1
    ] == "SELECT DISTINCT org_id FROM sessions ORDER BY org_id"
    return {panel["title"]: target["rawSql"] for panel in dashboard["panels"] for target in panel["targets"]}


FIGURES: dict[str, Callable[[list[Row]], bool]] = {
    "Sessions": lambda rows: [int(row["sessions"]) for row in rows] == [8],
    "Running now": lambda rows: [int(row["sessions"]) for row in rows] == [2],
    "Users": lambda rows: [int(row["users"]) for row in rows] == [2],
    "Commands": lambda rows: [int(row["commands"]) for row in rows] == [3],
    "Sessions started": lambda rows: sum(int(row["sessions"]) for row in rows) == 8 and "time" in rows[0],
    "Sessions at the same time": lambda rows: max(int(row["sessions"]) for row in rows) in (2, 3),
    "Output by machine": lambda rows: sum(int(row["bytes"]) for row in rows) == 6 + 300 + 50 + 7 + 2,
    "Ends": lambda rows: (
        {row["reason"]: int(row["sessions"]) for row in rows} == {"exited": 4, "connect_failed": 1, "worker_lost": 1}
    ),
    "Busiest machines": lambda rows: {row["machine"]: int(row["sessions"]) for row in rows} == {WEB.name: 5, DB.name: 3},
    "Time to a shell": lambda rows: {row["p50"] for row in rows} == {42},
    "Last commands": lambda rows: len(rows) == 3 and rows[0]["command"] == "nmap -sP net",
    "Running sessions": lambda rows: {row["session"] for row in rows} == {"sess_idle", "sess_busy"},
    "Set aside": lambda rows: [int(row["messages"]) for row in rows] == [1],
}


def test_every_panel_has_its_figures_here_and_the_variable_its_values(clickhouse: ClickHouse) -> None:
    assert sorted(panels()) == sorted(FIGURES)
    [organizations] = [each for each in json.loads(DASHBOARD.read_text())["templating"]["list"] if each["name"] == "org"]
    assert ask(clickhouse, organizations["query"]) == [{"org_id": ORG}]


@pytest.mark.parametrize("title", FIGURES)
def test_a_panel_of_the_dashboard(clickhouse: ClickHouse, title: str) -> None:
    rows = ask(clickhouse, as_grafana(panels()[title]))
    assert FIGURES[title](rows), rows


def test_the_sql_for_a_server_is_sql(clickhouse: ClickHouse) -> None:
    text = re.sub(r"^--.*\n", "", (ROOT / "deploy" / "clickhouse" / "analyst.sql").read_text(), flags=re.MULTILINE)
    statements = [statement.strip() for statement in text.split(";\n") if statement.strip()]
    assert len(statements) > 8
    for statement in statements:
        assert clickhouse.query(f"EXPLAIN AST {statement}")
        clustered = re.sub(r"^(GRANT|CREATE \w+(?: PROFILE)? IF NOT EXISTS \w+)", r"\1 ON CLUSTER 'three'", statement)
        assert clickhouse.query(f"EXPLAIN AST {clustered}")
