"""What the API's metrics count, by an application that does what each case says."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry

from services.session_api.history import HistoryUnavailableError
from services.session_api.metrics import ApiMetrics, Measured

HEAD = {"type": "http.response.start", "status": 201, "headers": []}
BODY = {"type": "http.response.body", "body": b"done"}


async def run(
    registry: CollectorRegistry, metrics: ApiMetrics, scope: dict[str, Any], received: Sequence[dict[str, Any]], app: Any
) -> list[dict[str, Any]]:
    """What `app` sends, through the counting."""
    waiting, sent = list(received), []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await Measured(cast(ASGIApp, app), metrics)(cast(Any, scope), cast(Any, receive), cast(Any, send))
    return sent


@pytest.mark.parametrize(
    ("method", "template", "expected"),
    [
        ("GET", "/v1/sessions/{session_id}", {"method": "GET", "route": "/v1/sessions/{session_id}", "status": "201"}),
        ("GET", None, {"method": "GET", "route": "none", "status": "201"}),
        ("BREW", None, {"method": "other", "route": "none", "status": "201"}),
    ],
    ids=["route", "no such route", "made-up method"],
)
async def test_a_request_by_its_route(method: str, template: str | None, expected: dict[str, str]) -> None:
    registry = CollectorRegistry()

    async def app(scope: Any, _: Any, send: Any) -> None:
        if template:
            scope["path_template"] = template  # as Litestar does
        await send(HEAD)
        await send(BODY)

    scope = {"type": "http", "method": method, "path": "/v1/sessions/sess_1"}
    assert await run(registry, ApiMetrics(registry), scope, [], app) == [HEAD, BODY]
    assert registry.get_sample_value("vsay_api_requests_total", expected) == 1
    of_route = {name: expected[name] for name in ("method", "route")}
    assert registry.get_sample_value("vsay_api_request_seconds_count", of_route) == 1


async def test_a_request_that_fails_without_an_answer() -> None:
    registry = CollectorRegistry()

    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(registry, ApiMetrics(registry), {"type": "http", "method": "GET"}, [], app)
    assert registry.get_sample_value("vsay_api_requests_total", {"method": "GET", "route": "none", "status": "500"}) == 1


@pytest.mark.parametrize(
    ("closes", "disconnects", "code"),
    [(4503, 1006, "4503"), (None, 1001, "1001"), (None, 4999, "other"), (None, None, "1006"), (1012, None, "1012")],
    ids=["we close", "the client goes", "a code of the client's own", "the connection is lost", "we restart"],
)
async def test_a_socket_by_its_role_and_its_close(closes: int | None, disconnects: int | None, code: str) -> None:
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        metrics.admitted(scope, "observer")
        assert registry.get_sample_value("vsay_api_sockets", {"role": "observer"}) == 1
        await send({"type": "websocket.send", "text": "grün"})
        await send({"type": "websocket.send", "bytes": b"\x1b[0m"})
        if closes:
            await send({"type": "websocket.close", "code": closes})
        await receive()

    events = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": disconnects}]
    await run(registry, metrics, {"type": "websocket"}, events, app)
    assert registry.get_sample_value("vsay_api_sockets", {"role": "observer"}) == 0
    assert registry.get_sample_value("vsay_api_sockets_closed_total", {"code": code}) == 1
    assert registry.get_sample_value("vsay_api_socket_bytes_sent_total") == len("grün".encode()) + 4


async def test_a_socket_that_was_never_admitted() -> None:
    registry = CollectorRegistry()

    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4401})

    await run(registry, ApiMetrics(registry), {"type": "websocket"}, [{"type": "websocket.connect"}], app)
    assert registry.get_sample_value("vsay_api_sockets", {"role": ""}) is None
    assert registry.get_sample_value("vsay_api_sockets_closed_total", {"code": "4401"}) == 1


def test_which_part_did_not_answer() -> None:
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    metrics.upstream_error(HistoryUnavailableError("down"))
    metrics.upstream_error(TimeoutError())
    assert registry.get_sample_value("vsay_api_upstream_errors_total", {"upstream": "clickhouse"}) == 1
    assert registry.get_sample_value("vsay_api_upstream_errors_total", {"upstream": "nats"}) == 1
