"""`python -m deploy.embedded_clickhouse`: prints `{"clickhouse": "http://…"}` when it serves."""

import json
import os
import socket

import uvicorn

from deploy.embedded_clickhouse.app import make_app
from deploy.embedded_clickhouse.settings import EngineSettings
from services.runtime.process import run

GRACE_SECONDS = 5

NICENESS = 10
"""Where terminals share a machine with the engine, a key's echo goes before an insert."""


async def main(settings: EngineSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    os.nice(NICENESS)
    listener = socket.create_server((settings.clickhouse_host, settings.clickhouse_port))
    config = uvicorn.Config(
        make_app(settings),
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    await _Server(config, listener).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Says where it serves once it does."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self._listener.getsockname()[:2]
            print(json.dumps({"clickhouse": f"http://{host}:{port}"}), flush=True)


if __name__ == "__main__":
    run(EngineSettings, main)
