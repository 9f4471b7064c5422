"""What every `__main__` does: read the settings or say which one is wrong, log to stderr, run on uvloop."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import uvloop

from services.runtime.settings import SettingsError, load


class HasLogLevel(Protocol):
    """Settings of any service."""

    @property
    def log_level(self) -> str:
        """debug, info, warning or error."""


class JsonLines(logging.Formatter):
    """One JSON object a line: `at` (UTC), `level`, `logger`, `message`, and `error` with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`."""
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def run[Settings: HasLogLevel](kind: type[Settings], main: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """Run `main` with the settings from the environment; exit with status 2 and a clear line when one is wrong."""
    try:
        settings = load(kind, os.environ)  # type: ignore[type-var]  # every settings struct has a log level
    except SettingsError as error:
        print(f"{error}", file=sys.stderr)
        raise SystemExit(2) from None
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(settings))


def configure_logging(level: str) -> None:
    """Log JSON lines to stderr, at `level` and above; libraries from warning on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("services", "deploy"):
        logging.getLogger(name).setLevel(level.upper())
