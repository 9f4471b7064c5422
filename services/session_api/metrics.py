"""The API's Prometheus metrics: requests, WebSockets, and what stands behind the API; `docs/operations.md` says what to watch."""

import time
from collections.abc import MutableMapping
from typing import Any, Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contracts.terminal import Close
from services.session_api.history import HistoryUnavailableError

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))
CLOSES: Final = frozenset((*Close, 1000, 1001, 1005, 1006, 1009, 1011))
"""Of RFC 6455 those that clients and the server's library send; any other is told as `other`: a client may send what it likes."""

OTHER: Final = "other"
NO_ROUTE: Final = "none"
"""Of a request for what there is not."""

GONE: Final = 1006
"""RFC 6455: the connection ended without a close."""

_ROLE: Final = "vsay.role"


class ApiMetrics:
    """One process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers everything in `registry`."""
        self.requests = Counter(
            "vsay_api_requests", "Requests that were answered.", ("method", "route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "vsay_api_request_seconds",
            "From a request to the head of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=registry,
        )
        self.sockets = Gauge("vsay_api_sockets", "WebSockets that are open and admitted.", ("role",), registry=registry)
        self.sockets_closed = Counter(
            "vsay_api_sockets_closed", "WebSockets closed, by the code of the close.", ("code",), registry=registry
        )
        self.bytes_sent = Counter("vsay_api_socket_bytes_sent", "Bytes of messages sent to WebSockets.", registry=registry)
        self.observer_skips = Counter(
            "vsay_api_observer_skips", "Observers that fell behind and were shown the present screen.", registry=registry
        )
        self.upstream_errors = Counter(
            "vsay_api_upstream_errors",
            "Requests and WebSockets refused as a backing service did not answer.",
            ("upstream",),
            registry=registry,
        )

    def upstream_error(self, error: Exception) -> None:
        """A request or a WebSocket failed by this."""
        self.upstream_errors.labels(upstream="clickhouse" if isinstance(error, HistoryUnavailableError) else "nats").inc()

    def admitted(self, scope: Scope, role: str) -> None:
        """The WebSocket of `scope` has shown who it is."""
        _own(scope)[_ROLE] = role
        self.sockets.labels(role=role).inc()


class Measured:
    """An ASGI application whose requests and WebSockets are counted, also those for paths that there are not."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        counted = {ScopeType.HTTP: self._request, ScopeType.WEBSOCKET: self._socket}
        await counted.get(scope["type"], self._app)(scope, receive, send)  # the third is `lifespan`

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status, seconds = time.perf_counter(), 500, 0.0

        async def watched(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            asked = str(_own(scope)["method"])
            method, route = asked if asked in METHODS else OTHER, str(scope.get("path_template") or NO_ROUTE)
            self._metrics.requests.labels(method=method, route=route, status=str(status)).inc()
            self._metrics.request_seconds.labels(method=method, route=route).observe(seconds or time.perf_counter() - began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        code = 0

        async def received() -> Any:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = code or message.get("code") or GONE
            return message

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "websocket.send":
                self._metrics.bytes_sent.inc(_size(message.get("text")) or len(message.get("bytes") or b""))
            elif message["type"] == "websocket.close":
                code = code or message["code"]
            await send(message)

        try:
            await self._app(scope, received, watched)
        finally:
            if role := _own(scope).pop(_ROLE, None):
                self._metrics.sockets.labels(role=role).dec()
            self._metrics.sockets_closed.labels(code=str(int(code)) if code in CLOSES else OTHER).inc()


def _own(scope: Scope) -> MutableMapping[str, Any]:
    """A scope as the plain mapping that ASGI has, in which an application may note something of its own."""
    return cast(MutableMapping[str, Any], scope)


def _size(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
