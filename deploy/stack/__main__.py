"""`python -m deploy.stack`, which is `vsay up`: runs the single-machine stack until Ctrl-C or SIGTERM."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

# Until there is something to stop, Ctrl-C just ends the process; what comes now takes a second to load.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from nats.errors import Error as NatsError  # noqa: E402

from deploy.stack import ports  # noqa: E402
from deploy.stack.home import Home, HomeInUseError  # noqa: E402
from deploy.stack.ports import PortTakenError  # noqa: E402
from deploy.stack.programs import MissingProgramError, Ports  # noqa: E402
from deploy.stack.running import RunningStack  # noqa: E402
from deploy.stack.settings import HOST, StackSettings  # noqa: E402
from deploy.stack.supervisor import StartError  # noqa: E402
from services.runtime.directory import DirectoryError, UnreadableValueError  # noqa: E402
from services.runtime.settings import SettingsError, load  # noqa: E402

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Exit status: 0 stopped as asked, 1 it could not start, 2 a setting is wrong."""
    try:
        settings = load(StackSettings, os.environ)
        home = Home(Path(settings.home))
        with home.lock():
            chosen = Ports(
                api=ports.choose(settings.api_host, settings.api_port, "VSAY_API_PORT"),
                nats=ports.choose(HOST, settings.nats_port, "VSAY_NATS_PORT"),
                clickhouse=ports.choose(HOST, settings.clickhouse_port, "VSAY_CLICKHOUSE_PORT"),
                demo_machine=ports.choose(HOST, settings.demo_port, "VSAY_DEMO_PORT"),
            )
            asyncio.run(_run(RunningStack(home, settings, chosen)))
    except SettingsError as error:
        _end(2, error)
    except (HomeInUseError, PortTakenError, MissingProgramError, StartError, DirectoryError, UnreadableValueError) as error:
        _end(1, error)
    except (OSError, NatsError) as error:
        _end(1, error)


async def _run(stack: RunningStack) -> None:
    this = asyncio.current_task()
    assert this, "runs as a task"
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    try:
        await stack.start()
        await stack.watch()
    except asyncio.CancelledError:
        this.uncancel()
    finally:
        await stack.stop()


def _end(status: int, error: Exception) -> None:
    print(f"vsay: {error}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
