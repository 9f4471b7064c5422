"""Wires the API: opens things in order, closes them in reverse."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router

from services.runtime import health, metrics
from services.session_api import errors
from services.session_api.access import AccessRecords
from services.session_api.auth import BearerTokens
from services.session_api.client_socket import OpenSockets
from services.session_api.controllers import Directory, Sessions, healthz, readyz
from services.session_api.gateway import Gateway
from services.session_api.history import History
from services.session_api.metrics import ApiMetrics
from services.session_api.records import Records
from services.session_api.settings import ApiSettings
from services.session_api.terminal_socket import terminal_socket
from services.session_api.verification import Verification
from services.session_api.workers import Workers

BODY_BYTES_MAX = 64 * 1024
"""Of one request; the largest valid one is a few hundred bytes."""

ASSETS = "/docs/assets"


def make_app(settings: ApiSettings) -> Litestar:
    """The API as an ASGI application; its health and metrics have a port of their own, which clients do not reach."""
    registry = metrics.registry()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        gateway = await Gateway.connect(settings)
        try:
            history = await History.connect(settings)
            try:
                app.state.update(gateway=gateway, history=history)
                checks = {"nats": gateway.ready, "clickhouse": history.ready}
                async with health.serve(settings.health_port, checks, metrics.of(registry)):
                    yield
            finally:
                await history.close()
        finally:
            await gateway.close()

    return Litestar(
        route_handlers=[
            Sessions,
            Records,
            Directory,
            AccessRecords,
            Verification,
            Workers,
            healthz,
            readyz,
            terminal_socket,
            _documentation_assets(),
        ],
        lifespan=[lifespan],
        state=State(
            {
                "settings": settings,
                "sockets": OpenSockets(settings.sockets_per_user_max),
                "metrics": ApiMetrics(registry),
            }
        ),
        dependencies={
            "gateway": Provide(_gateway, sync_to_thread=False),
            "history": Provide(_history, sync_to_thread=False),
            "settings": Provide(_settings, sync_to_thread=False),
        },
        middleware=[DefineMiddleware(BearerTokens, exclude=["^/docs"], scopes={ScopeType.HTTP})],
        exception_handlers=errors.HANDLERS,
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=_documentation(),
        logging_config=None,
    )


def _gateway(state: State) -> Gateway:
    gateway: Gateway = state.gateway
    return gateway


def _history(state: State) -> History:
    history: History = state.history
    return history


def _settings(state: State) -> ApiSettings:
    settings: ApiSettings = state.settings
    return settings


def _documentation() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="vsay sessions API",
        version="1",
        description="Terminal sessions on machines: open, watch, end, read what happened. WebSocket: `docs/terminal-protocol.md`.",
        path="/docs",
        render_plugins=[
            SwaggerRenderPlugin(
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                favicon=f"<link rel='icon' type='image/png' href='{ASSETS}/favicon-32x32.png'>",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                path="/",
            )
        ],
        components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"token": []}],
    )


def _documentation_assets() -> Router:
    """Swagger UI from its package: the page works where there is no internet."""
    package = find_spec("swagger_ui")
    if package is None or package.origin is None:
        raise RuntimeError("the package swagger-ui-py is not installed")
    return create_static_files_router(
        path=ASSETS, directories=[Path(package.origin).parent / "static"], opt={"exclude_from_auth": True}, include_in_schema=False
    )
