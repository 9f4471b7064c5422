"""What the single-machine stack runs, in the order in which it starts; it stops in the reverse."""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from deploy.stack.home import Home
from deploy.stack.settings import HOST, StackSettings
from deploy.stack.supervisor import Program
from services.runtime import signing

NATS: Final = "nats-server"
CLICKHOUSE: Final = "clickhouse"
DEMO_MACHINE: Final = "demo-machine"
AUDIT: Final = "audit"
WORKER: Final = "ssh-worker"
API: Final = "session-api"

PAYLOAD_BYTES_MAX: Final = 1024 * 1024
JETSTREAM_BYTES_MAX: Final = 1024**4
"""No limit of its own: each stream has one."""

STREAM_BYTES_MAX: Final = 20_000_000_000
STREAM_DISK_SHARE: Final = 4
"""A stream takes at most one in so many of the disk's free bytes."""

STOP_MARGIN_SECONDS: Final = 8.0

STORE_NICENESS: Final = 5
"""What is recorded lies safe in the stream: where cores are short, ClickHouse may have it later, and terminals go first."""


class MissingProgramError(Exception):
    """A program that the stack needs is not installed."""


class Ports(Struct, frozen=True):
    """Chosen once for the life of the stack."""

    api: int
    nats: int
    clickhouse: int
    demo_machine: int


def programs(home: Home, settings: StackSettings, ports: Ports, environ: Mapping[str, str]) -> list[Program]:
    """Every program with its whole environment. Raises `MissingProgramError`."""
    environment = service_environment(home, settings, ports, environ)

    def module(
        name: str, module_name: str, *, announces: bool = False, stop_seconds: float = 10.0, niceness: int = 0, **more: str
    ) -> Program:
        return Program(name, (sys.executable, "-m", module_name), environment | more, announces, stop_seconds, niceness)

    return [
        Program(NATS, (_nats_server(), "--config", str(_nats_config(home, ports.nats))), dict(environ)),
        module(
            CLICKHOUSE,
            "deploy.embedded_clickhouse",
            announces=True,
            niceness=STORE_NICENESS,
            VSAY_CLICKHOUSE_HOST=HOST,
            VSAY_CLICKHOUSE_PORT=str(ports.clickhouse),
            VSAY_CLICKHOUSE_DATA=str(home.clickhouse),
        ),
        module(DEMO_MACHINE, "deploy.demo_machine", announces=True, VSAY_DEMO_PORT=str(ports.demo_machine)),
        module(AUDIT, "services.audit", niceness=STORE_NICENESS),
        module(WORKER, "services.ssh_worker", stop_seconds=settings.drain_seconds + STOP_MARGIN_SECONDS),
        module(API, "services.session_api", announces=True, VSAY_API_PORT=str(ports.api), stop_seconds=15.0),
    ]


def service_environment(home: Home, settings: StackSettings, ports: Ports, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of every service: those of the user, and where the parts of this stack are."""
    free = shutil.disk_usage(home.path).free
    return {
        "VSAY_STREAM_BYTES_MAX": str(min(STREAM_BYTES_MAX, free // STREAM_DISK_SHARE)),
        **environ,
        "PYTHONUNBUFFERED": "1",
        "VSAY_HOME": str(home.path),
        "VSAY_SECRETS_DIR": str(home.secrets),
        "VSAY_SIGNING_KEY": signing.DEFAULT_NAME,
        "VSAY_DRAIN_SECONDS": str(settings.drain_seconds),
        "VSAY_API_HOST": settings.api_host,
        "VSAY_NATS_URL": f"nats://{HOST}:{ports.nats}",
        "VSAY_NATS_USER": "",
        "VSAY_NATS_PASSWORD": "",
        "VSAY_STREAM_REPLICAS": "1",
        "VSAY_HEALTH_PORT": "0",  # one port cannot serve several processes of one machine
        "VSAY_CLICKHOUSE_URL": f"http://{HOST}:{ports.clickhouse}",
    }


def _nats_server() -> str:
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("nats-server", path=scripts) or shutil.which("nats-server", path=os.environ.get("PATH"))
    if found is None:
        raise MissingProgramError("there is no nats-server in this environment: run `./just setup`")
    return found


def _nats_config(home: Home, port: int) -> str:
    # The configuration's format takes JSON strings.
    text = f"""\
# Written at each start by the single-machine stack.
server_name: vsay
listen: {json.dumps(f"{HOST}:{port}")}
max_payload: {PAYLOAD_BYTES_MAX}
jetstream {{
    store_dir: {json.dumps(str(home.nats))}
    max_file_store: {JETSTREAM_BYTES_MAX}
}}
"""
    return str(home.write_config("nats.conf", text))
