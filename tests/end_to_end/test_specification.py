"""The whole of the sessions API specification, through the processes that `vsay up` starts, and over a stop and a start."""

import asyncio
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.integration.openssh import OpenSsh, needs_openssh
from tests.integration.processes import Client
from tests.integration.test_stack import Stack, stack

pytestmark = [needs_openssh, pytest.mark.timeout(400)]

DIRECTORY = """
[[organizations]]
id = "org_acme"
name = "Acme"
[[users]]
id = "usr_123"
name = "John Doe"
email = "john@example.com"
org = "org_acme"
role = "operator"
machines = ["*"]
[[users]]
id = "usr_auditor"
name = "Art Auditor"
email = "art@example.com"
org = "org_acme"
role = "auditor"
[[machines]]
id = "mch_456"
name = "Production Server"
org = "org_acme"
host = "127.0.0.1"
port = {port}
login = "{login}"
host_keys = ["{host_key}"]
credential = "deploy-key"
"""

SUMMARY = {"id", "user", "machine", "status", "started_at", "last_activity", "ip_address"}
DETAIL = SUMMARY | {"user_agent", "commands_count"}


async def vsay(home: Path, *arguments: str) -> str:
    """What the command line program prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VSAY_")} | {"VSAY_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("vsay")), *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().strip()


async def declare(running: Stack, machine: OpenSsh) -> dict[str, Client]:
    """Declare the specification's user and machine as an operator would; returns a client of each user."""
    file = running.home / "acme.toml"
    file.write_text(DIRECTORY.format(port=machine.port, login=machine.login, host_key=machine.host_key))
    (running.home / "secrets" / "deploy-key").write_text(machine.client_key)
    await vsay(running.home, "directory", "apply", str(file))
    users = ("usr_123", "usr_auditor")
    return {user: Client(running.file["api"], await vsay(running.home, "token", "create", "--user", user)) for user in users}


async def test_the_whole_specification_over_a_stop_and_a_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with OpenSsh(tmp_path / "openssh") as machine:
        async with stack(home) as first:
            clients = await declare(first, machine)
            john = clients["usr_123"]
            ended = await a_session(john)
            await what_was_recorded(john, ended)
            await nobody_else_sees_it(first.client, clients["usr_auditor"], ended)
            await one_that_is_terminated(john)
            await bad_input_is_refused(john)
            await until_counted(john, sessions=2)
            before = await everything(john, ended)
        async with stack(home) as second:
            again = Client(second.file["api"], john.token)
            assert await everything(again, ended) == before, "nothing is lost by a stop and a start"
            await a_session(again)
            await until_counted(again, sessions=3)


async def a_session(john: Client) -> str:
    """`POST`, the WebSocket, input, resize, the end; returns the id."""
    ticket = await john.open("mch_456", cols=120, rows=40)
    assert set(ticket) >= {"session_id", "websocket_url", "token", "expires_at"}
    assert ticket["websocket_url"] == f"{john.url.replace('http', 'ws', 1)}/v1/sessions/{ticket['session_id']}/ws"
    async with john.terminal(ticket) as terminal:
        await terminal.type("stty size\n")
        await terminal.shows("40 120")
        await terminal.send("resize", cols=100, rows=30)
        await terminal.type("stty size\n")
        await terminal.shows("30 100")
        await terminal.type("echo 'to''tal 42'\n")
        await terminal.shows("total 42")
        listed = (await john.data("GET", "/v1/sessions?status=active&machine_id=mch_456&user_id=usr_123"))["sessions"]
        assert [session["id"] for session in listed] == [ticket["session_id"]]
        assert set(listed[0]) >= SUMMARY
        assert listed[0]["user"] == {"id": "usr_123", "name": "John Doe"}
        assert listed[0]["machine"] == {"id": "mch_456", "name": "Production Server"}
        stats = await john.data("GET", "/v1/sessions/stats")
        assert stats["active_sessions"] == 1
        await terminal.type("exit 3\n")
        disconnect = await terminal.until("disconnect")
        assert (disconnect["reason"], disconnect["exit_status"]) == ("exited", 3)
    return str(ticket["session_id"])


async def what_was_recorded(john: Client, session_id: str) -> None:
    """The session's details, logs in both formats, and the statistics."""
    detail = await john.data("GET", f"/v1/sessions/{session_id}")
    assert set(detail) >= DETAIL
    assert detail["user"] == {"id": "usr_123", "name": "John Doe", "email": "john@example.com"}
    assert detail["machine"] == {"id": "mch_456", "name": "Production Server", "host": "127.0.0.1"}
    assert (detail["status"], detail["commands_count"], detail["ip_address"]) == ("ended", 4, "127.0.0.1")
    logs = await john.data("GET", f"/v1/sessions/{session_id}/logs?format=json")
    assert logs["session_id"] == session_id
    commands = [entry["content"] for entry in logs["logs"] if entry["type"] == "command"]
    assert commands == ["stty size", "stty size", "echo 'to''tal 42'", "exit 3"]
    after = logs["logs"][[entry["content"] for entry in logs["logs"]].index("echo 'to''tal 42'") + 1]
    assert (after["type"], after["content"]) == ("output", "total 42")
    status, transcript = await john.call("GET", f"/v1/sessions/{session_id}/logs?format=text")
    assert status == 200
    assert "$ echo 'to''tal 42'\ntotal 42\n" in transcript
    status, recording = await john.call("GET", f"/v1/sessions/{session_id}/recording")
    assert (status, recording.splitlines()[0][:13]) == (200, '{"version":2,')
    assert '"100x30"' in recording
    status, screen = await john.call("GET", f"/v1/sessions/{session_id}/screen")
    assert status == 200
    assert "echo 'to''tal 42'\ntotal 42\n" in screen
    found = (await john.data("GET", "/v1/search?q=TOTAL%2042"))["hits"]
    assert [(hit["session_id"], hit["type"], hit["match"]) for hit in found] == [(session_id, "output", "total 42")]
    stats = await until_counted(john, sessions=1)
    assert (stats["total_sessions"], stats["unique_users"], stats["active_sessions"]) == (1, 1, 0)
    assert stats["top_machines"] == [{"machine_id": "mch_456", "name": "Production Server", "sessions_count": 1}]
    assert stats["total_duration_hours"] > 0


async def until_counted(john: Client, *, sessions: int) -> Any:
    """The day's statistics once they have so many sessions; ClickHouse has an event a moment after it is recorded."""
    while (stats := await john.data("GET", "/v1/sessions/stats?period=day"))["total_sessions"] != sessions:
        await asyncio.sleep(0.1)
    return stats


async def nobody_else_sees_it(stranger: Client, auditor: Client, session_id: str) -> None:
    """Another organization's admin gets what an unknown session gets; an auditor sees it and may not touch it."""
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/logs"), ("GET", "/recording"), ("GET", "/screen")):
        foreign = await stranger.call(method, f"/v1/sessions/{session_id}{path}")
        unknown = await stranger.call(method, f"/v1/sessions/sess_unknown{path}")
        assert foreign == unknown
        assert (foreign[0], foreign[1]["error"]["code"]) == (404, "session_not_found")
    assert (await auditor.data("GET", f"/v1/sessions/{session_id}"))["id"] == session_id
    assert (await auditor.data("GET", "/v1/machines"))["machines"] == []


async def one_that_is_terminated(john: Client) -> None:
    """`DELETE` ends it, and a second one is a conflict."""
    ticket = await john.open("mch_456")
    async with john.terminal(ticket) as terminal:
        await terminal.type("echo re''ady\n")
        await terminal.shows("ready")
        path = f"/v1/sessions/{ticket['session_id']}"
        assert await john.call("DELETE", path) == (200, {"success": True, "message": "Session terminated successfully"})
        assert (await terminal.until("disconnect"))["reason"] == "terminated"
        assert (await john.data("GET", path))["status"] == "ended"
        status, answer = await john.call("DELETE", path)
        assert (status, answer["error"]["code"]) == (409, "session_ended")


async def bad_input_is_refused(john: Client) -> None:
    """Each with its status, its code and the field."""
    size = {"cols": 80, "rows": 24}
    wrong: list[tuple[str, str, object, int, str, str | None]] = [
        ("POST", "/v1/sessions", {"machine_id": "mch_unknown", "terminal_size": size}, 404, "machine_not_found", None),
        ("POST", "/v1/sessions", {"machine_id": "mch_demo", "terminal_size": size}, 404, "machine_not_found", None),
        ("POST", "/v1/sessions", {"machine_id": "*", "terminal_size": size}, 422, "invalid_request", "machine_id"),
        ("POST", "/v1/sessions", {"machine_id": "mch_456"}, 422, "invalid_request", None),
        (
            "POST",
            "/v1/sessions",
            {"machine_id": "mch_456", "terminal_size": {"cols": 1001, "rows": 24}},
            422,
            "invalid_request",
            "terminal_size.cols",
        ),
        ("GET", "/v1/sessions?status=paused", None, 422, "invalid_request", "status"),
        ("GET", "/v1/sessions?from=yesterday", None, 422, "invalid_request", "from"),
        ("GET", "/v1/sessions?limit=0", None, 422, "invalid_request", "limit"),
        ("GET", "/v1/sessions?cursor=x", None, 422, "invalid_request", "cursor"),
        ("GET", "/v1/sessions/stats?period=year", None, 422, "invalid_request", "period"),
        ("GET", "/v1/sessions/sess_1/logs?format=pdf", None, 422, "invalid_request", "format"),
        ("GET", "/v1/nothing", None, 404, "not_found", None),
    ]
    for method, path, body, status, code, field in wrong:
        answered, answer = await john.call(method, path, body)
        assert (answered, answer["success"], answer["error"]["code"]) == (status, False, code), path
        assert field is None or field in answer["error"]["fields"], path
    nobody = Client(john.url, "vsay_wrong")
    status, answer = await nobody.call("GET", "/v1/sessions")
    assert (status, answer["error"]["code"]) == (401, "unauthenticated")
    assert await asyncio.to_thread(offline_documentation, john.url)


def offline_documentation(url: str) -> bool:
    """Whether the page of the documentation loads nothing from elsewhere."""
    page = urllib.request.urlopen(f"{url}/docs/").read().decode()
    script = urllib.request.urlopen(f"{url}/docs/assets/swagger-ui-bundle.js")
    paths: dict[str, Any] = json.load(urllib.request.urlopen(f"{url}/docs/openapi.json"))["paths"]
    return "https://" not in page and script.status == 200 and "/v1/sessions/{session_id}/logs" in paths


async def everything(john: Client, session_id: str) -> list[Any]:
    """What the API says about the past."""
    status, logs = await john.call("GET", f"/v1/sessions/{session_id}/logs")
    assert status == 200
    assert logs["data"]["complete"]
    return [
        await john.data("GET", f"/v1/sessions/{session_id}"),
        (await john.data("GET", "/v1/sessions?status=ended"))["sessions"],
        logs,
        (await john.data("GET", "/v1/sessions/stats?period=week"))["total_sessions"],
    ]
