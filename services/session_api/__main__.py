"""`python -m services.session_api`"""

import json
import socket

import uvicorn

from contracts.terminal import MESSAGE_BYTES_MAX
from services.runtime.process import run
from services.session_api.app import make_app
from services.session_api.client_socket import OpenSockets
from services.session_api.metrics import Measured
from services.session_api.settings import ApiSettings

GRACE_SECONDS = 10
BACKLOG = 1024


async def main(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT; then say goodbye to every WebSocket and finish the requests in hand."""
    app = make_app(settings)
    config = uvicorn.Config(
        Measured(app, app.state.metrics),
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        backlog=BACKLOG,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    listener = _listen(settings)
    server = _Server(config, listener, app.state.sockets)
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Says where it serves once it does, and tells WebSocket clients to come back elsewhere before it stops."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, sockets: OpenSockets) -> None:
        super().__init__(config)
        self._listener = listener
        self._open_sockets = sockets

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self._listener.getsockname()[:2]
            print(json.dumps({"api": f"http://{host}:{port}"}), flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._open_sockets.say_goodbye()
        await super().shutdown(sockets)


def _listen(settings: ApiSettings) -> socket.socket:
    listener = socket.create_server((settings.api_host, settings.api_port), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    run(ApiSettings, main)
