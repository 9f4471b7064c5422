"""The API's metrics, at their own port and out of the public one, through real processes."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.installation import Installation, installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import WAIT_SECONDS_MAX
from tests.integration.servers import free_port

pytestmark = [needs_openssh, pytest.mark.timeout(300)]

type Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path) as parts:
        yield parts


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_SECONDS_MAX) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def figures(port: int) -> Figures:
    """All samples by name and labels."""
    status, text = get(port, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for each in families for sample in each.samples}


async def until(port: int, name: str, value: float, **labels: str) -> Figures:
    """The figures, once one of them is this."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (found := await asyncio.to_thread(figures, port)).get((name, tuple(sorted(labels.items())))) != value:
        assert time.monotonic() < deadline, (name, value, labels, found)
        await asyncio.sleep(0.1)
    return found


async def test_requests_sockets_and_what_does_not_answer(installed: Installation) -> None:
    clickhouse = installed.clickhouse()
    tokens = await installed.declare()
    port = free_port()
    api = installed.start("session_api", VSAY_HEALTH_PORT=str(port))
    installed.start("audit")
    installed.start("ssh_worker")
    client = installed.client(api, tokens["usr_123"])
    await until_ready(port)

    assert (await asyncio.to_thread(get, api.port, "/metrics"))[0] in (401, 404), "clients do not see it"
    ticket = await client.open("mch_456")
    async with client.terminal(ticket) as terminal:
        await terminal.until("ready")
        found = await until(port, "vsay_api_sockets", 1, role="driver")
        assert found[("vsay_api_socket_bytes_sent_total", ())] > 0
        await terminal.type("exit\n")
        await terminal.until("disconnect")
    found = await until(port, "vsay_api_sockets", 0, role="driver")
    assert found[("vsay_api_sockets_closed_total", (("code", "1000"),))] == 1
    opened = (("method", "POST"), ("route", "/v1/sessions"), ("status", "201"))
    assert found[("vsay_api_requests_total", opened)] == 1
    assert found[("vsay_api_request_seconds_count", opened[:2])] == 1

    await asyncio.to_thread(clickhouse.stop)
    status, _ = await client.call("GET", "/v1/sessions/stats?period=day")
    assert status == 503
    await until(port, "vsay_api_upstream_errors_total", 1, upstream="clickhouse")
    assert (await asyncio.to_thread(get, port, "/readyz"))[0] == 503
    assert (await asyncio.to_thread(get, port, "/healthz"))[0] == 200


async def until_ready(port: int) -> None:
    """All parts of it answer."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (answer := await asyncio.to_thread(get, port, "/readyz"))[0] != 200:
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.1)
