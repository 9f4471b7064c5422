"""Reading records is recorded: before the answer, for auditors to see, and never left out."""

import asyncio
import json
import os
import pwd
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts import access
from contracts.streams import ACCESS, AUDIT_ACCESS
from services.audit.horizon import purge_moved
from services.runtime.version import VERSION
from tests.integration.installation import Installation, installation
from tests.integration.processes import Client, Service
from tests.integration.servers import ClickHouse
from tests.integration.stories import Story, publish
from tests.integration.test_cli import vsay

WAIT_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.05


pytestmark = pytest.mark.usefixtures("clickhouse")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as installed:
        yield installed


@pytest.fixture
def clickhouse(installed: Installation) -> ClickHouse:
    return installed.clickhouse()


async def listed(client: Client, query: str, count: int) -> list[dict[str, Any]]:
    """What the list has once there are that many; the list's own readings are left out."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while True:
        entries = (await client.data("GET", f"/v1/access?limit=500{query}"))["access"]
        entries = [entry for entry in entries if entry["action"] != "access"]
        if len(entries) >= count:
            return entries
        assert asyncio.get_running_loop().time() < deadline, entries
        await asyncio.sleep(LOOK_SECONDS)


async def begin(installed: Installation) -> tuple[Service, Service, dict[str, str]]:
    """The audit service, the API, and a token for each user; sessions sess_1 and sess_2 are recorded."""
    tokens = await installed.declare()
    audit, api = installed.start("audit"), installed.start("session_api")
    async with installed.jetstream() as jetstream:
        for id_ in ("sess_1", "sess_2"):
            await publish(jetstream, *Story(id_).claimed().started().output().command("ls", "a").ended().events)
    client = installed.client(api, tokens["usr_admin"])
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while len((await client.data("GET", "/v1/sessions"))["sessions"]) < 2:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(LOOK_SECONDS)
    return audit, api, tokens


async def test_who_read_what_is_listed_for_auditors(installed: Installation) -> None:
    audit, api, tokens = await begin(installed)
    john = installed.client(api, tokens["usr_123"])
    assert (await john.data("GET", "/v1/sessions/sess_1/logs"))["logs"]
    assert (await john.call("GET", "/v1/sessions/sess_2/logs?format=text"))[0] == 200
    assert (await john.call("GET", "/v1/sessions/sess_none/logs"))[0] == 404

    auditor = installed.client(api, tokens["usr_auditor"])
    newest, oldest = await listed(auditor, "", 2)
    assert (newest["session_id"], newest["detail"], newest["action"]) == ("sess_2", {"format": "text"}, "logs")
    assert oldest["user"] == {"id": "usr_123", "name": "John Doe", "email": "john@example.com"}
    assert (oldest["session_id"], oldest["role"], oldest["ip_address"]) == ("sess_1", "operator", "127.0.0.1")
    assert oldest["user_agent"].startswith("Python-urllib")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(oldest["at"])) < timedelta(minutes=10)

    assert len(await listed(auditor, "&session_id=sess_1", 1)) == 1
    assert len(await listed(auditor, "&user_id=usr_123", 2)) == 2
    assert await listed(auditor, "&user_id=usr_other", 0) == []
    assert await listed(auditor, f"&to={oldest['at']}", 0) == [], "`to` is exclusive"
    assert len(await listed(auditor, f"&from={oldest['at']}", 2)) == 2

    page = await auditor.data("GET", "/v1/access?user_id=usr_123&limit=1")
    assert [entry["id"] for entry in page["access"]] == [newest["id"]]
    page = await auditor.data("GET", f"/v1/access?user_id=usr_123&limit=1&cursor={page['next_cursor']}")
    assert ([entry["id"] for entry in page["access"]], page["next_cursor"]) == ([oldest["id"]], None)

    assert (await john.call("GET", "/v1/access"))[0] == 403
    foreign = installed.client(api, tokens["usr_foreign"])
    assert await listed(foreign, "", 0) == []
    readings = (await auditor.data("GET", "/v1/access?user_id=usr_auditor&session_id=sess_1"))["access"]
    assert {entry["action"] for entry in readings} <= {"access"}, "reading the list is recorded too"
    assert audit.exit_status is None


async def test_who_reads_with_vsay_on_a_host_is_listed_too(installed: Installation, clickhouse: ClickHouse, tmp_path: Path) -> None:
    _, api, tokens = await begin(installed)
    where = {"nats_url": installed.nats.url, "clickhouse_url": clickhouse.url}
    day = ("--from", "2024-01-01", "--to", "2024-01-02")
    status, out, err = await vsay("export", "logs", *day, "--output", str(tmp_path / "files"), home=tmp_path, **where)
    assert (status, err, len(out.splitlines())) == (0, "", 1)
    status, out, _ = await vsay("audit", "verify", "sess_1", home=tmp_path, **where)
    assert "1 sessions" in out

    auditor = installed.client(api, tokens["usr_auditor"])
    verified, exported = await listed(auditor, "", 2)
    name = pwd.getpwuid(os.getuid()).pw_name
    for entry in (verified, exported):
        assert (entry["user"]["id"], entry["user"]["email"], entry["role"]) == (f"os:{name}", "", "host")
        assert (entry["ip_address"], entry["user_agent"]) == (f"host:{socket.gethostname()}", f"vsay/{VERSION}")
    assert (verified["action"], verified["session_id"]) == ("verification", "sess_1")
    assert (exported["action"], exported["session_id"]) == ("export", None)
    assert exported["detail"].items() >= {"views": "logs", "from": "2024-01-01", "to": "2024-01-02"}.items()
    assert len(await listed(auditor, f"&user_id=os:{name}", 2)) == 2
    foreign = installed.client(api, tokens["usr_foreign"])
    [theirs] = await listed(foreign, "", 1)
    assert theirs["action"] == "export", "an export of all organizations is seen by each, a session's verification by its own"


READINGS = {
    "/v1/sessions/{session_id}/logs": ("/v1/sessions/sess_1/logs?format=text", "logs", "sess_1"),
    "/v1/sessions/{session_id}/recording": ("/v1/sessions/sess_1/recording?format=raw", "recording", "sess_1"),
    "/v1/sessions/{session_id}/screen": ("/v1/sessions/sess_1/screen", "screen", "sess_1"),
    "/v1/sessions/{session_id}/verification": ("/v1/sessions/sess_1/verification", "verification", "sess_1"),
    "/v1/search": ("/v1/search?q=ls", "search", None),
    "/v1/access": ("/v1/access", "access", None),
}
"""Every path that shows what was recorded: what is asked for in the test, the action, and the session of the entry."""


async def test_each_way_to_read_records_is_recorded_and_closed_when_that_fails(installed: Installation) -> None:
    _, api, tokens = await begin(installed)
    auditor = installed.client(api, tokens["usr_auditor"])
    openapi = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
    shown = {
        path
        for path, methods in openapi["paths"].items()
        if set(methods.get("get", {}).get("tags", ())) & {"records", "verification", "access"}
    }
    assert shown == set(READINGS), "a new way to read records is to be recorded, and tested here"
    async with installed.jetstream() as jetstream:
        for path, action, session_id in READINGS.values():
            status, answer = await auditor.call("GET", path)
            assert status == 200, answer
            message = await jetstream.get_msg(ACCESS.name, subject="access.org_acme")
            entry = access.decode(message.data or b"")
            assert (entry.user.id, entry.action, entry.session_id or None) == ("usr_auditor", action, session_id)
        await jetstream.delete_stream(ACCESS.name)
    for path, _, _ in READINGS.values():
        status, answer = await auditor.call("GET", path)
        assert (status, answer["error"]["code"]) == (503, "unavailable"), path


async def test_an_entry_is_stored_before_the_answer(installed: Installation) -> None:
    audit, api, tokens = await begin(installed)
    john = installed.client(api, tokens["usr_123"])
    await asyncio.to_thread(audit.stop)
    assert (await john.call("GET", "/v1/sessions/sess_1/logs"))[0] == 200
    async with installed.jetstream() as jetstream:
        message = await jetstream.get_msg(ACCESS.name, subject="access.org_acme")
        assert message.data
        entry = access.decode(message.data)
        assert (entry.user.id, entry.action, entry.session_id) == ("usr_123", "logs", "sess_1")

        await jetstream.delete_stream(ACCESS.name)
        status, answer = await john.call("GET", "/v1/sessions/sess_1/logs")
        assert (status, answer["error"]["code"]) == (503, "unavailable"), "what cannot be recorded is not shown"
        status, answer = await installed.client(api, tokens["usr_auditor"]).call("GET", "/v1/access")
        assert (status, answer["error"]["code"]) == (503, "unavailable")


async def test_what_clickhouse_has_leaves_the_stream_but_for_the_last(installed: Installation) -> None:
    _, api, tokens = await begin(installed)
    john, auditor = installed.client(api, tokens["usr_123"]), installed.client(api, tokens["usr_auditor"])
    for _ in range(3):
        await john.data("GET", "/v1/sessions/sess_1/logs")
    await listed(auditor, "", 3)
    async with installed.jetstream() as jetstream:
        before = (await jetstream.stream_info(ACCESS.name)).state
        await purge_moved(jetstream, AUDIT_ACCESS, before=datetime.now(UTC) - timedelta(hours=1))
        assert (await jetstream.stream_info(ACCESS.name)).state.messages == before.messages, "nothing is old"
        await asyncio.to_thread(api.stop)
        while (await jetstream.consumer_info(ACCESS.name, AUDIT_ACCESS.durable)).num_ack_pending:
            await asyncio.sleep(LOOK_SECONDS)
        await purge_moved(jetstream, AUDIT_ACCESS, before=datetime.now(UTC) + timedelta(hours=1))
        state = (await jetstream.stream_info(ACCESS.name)).state
        assert (state.messages, state.first_seq) == (1, state.last_seq)


async def test_what_is_no_entry_is_set_aside(installed: Installation, clickhouse: ClickHouse) -> None:
    _, api, tokens = await begin(installed)
    async with installed.jetstream() as jetstream:
        await jetstream.publish("access.org_acme", b"nothing", stream=ACCESS.name)
    await installed.client(api, tokens["usr_123"]).data("GET", "/v1/sessions/sess_1/logs")
    assert len(await listed(installed.client(api, tokens["usr_auditor"]), "", 1)) == 1
    async with asyncio.timeout(WAIT_SECONDS_MAX):  # what is set aside of a batch is stored after its entries
        while not (set_aside := await asyncio.to_thread(clickhouse.query, "SELECT subject, payload FROM vsay.quarantine")):
            await asyncio.sleep(LOOK_SECONDS)
    assert set_aside == "access.org_acme\tnothing\n"
