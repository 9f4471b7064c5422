"""How a subcommand of `vsay` finds and reaches the bus."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from services.runtime import bus, stack_file
from services.runtime.settings import StreamSettings, load

CONNECT_SECONDS: Final = 5.0


class FailedError(Exception):
    """The command could not do what it was asked; the message says why."""


@asynccontextmanager
async def connected(settings: StreamSettings) -> AsyncIterator[JetStreamContext]:
    """The bus, with every stream and bucket declared. Raises `FailedError` when there is none."""
    nats, refusals = Client(), list[Exception]()

    async def refused(error: Exception) -> None:
        refusals.append(error)

    # Services wait for a server that is not there yet; a person would rather know.
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1, "error_cb": refused}
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await nats.connect(**bus.connect_options(settings, "vsay") | once)
    except (OSError, NatsError) as error:
        reason = refusals[-1] if refusals else error
        message = f"no NATS server at {settings.nats_url} (VSAY_NATS_URL): {reason or type(reason).__name__}; does `vsay up` run?"
        raise FailedError(message) from error
    try:
        jetstream = nats.jetstream()
        await bus.declare(jetstream, settings)
        yield jetstream
    finally:
        await nats.close()


def settings_of[Settings: StreamSettings](kind: type[Settings]) -> Settings:
    """From the environment; without VSAY_NATS_URL, the parts of the stack that runs in VSAY_HOME. Raises `SettingsError`."""
    environ = dict(os.environ)
    if "VSAY_NATS_URL" not in environ and (stack := stack_file.find(environ)):
        environ["VSAY_NATS_URL"] = stack.nats
        environ.setdefault("VSAY_CLICKHOUSE_URL", stack.clickhouse)
    home = Path(environ.get(stack_file.HOME_VARIABLE) or stack_file.HOME_DEFAULT)
    environ.setdefault("VSAY_SECRETS_DIR", str(home / "secrets"))
    return load(kind, environ)
