"""`python -m services.ssh_worker`"""

import signal
import sys
from pathlib import Path
from typing import Final

from services.runtime.process import run
from services.ssh_worker.app import make_app
from services.ssh_worker.processes import run_several, stop_with_parent
from services.ssh_worker.settings import WorkerSettings

HEALTH_SOCKET: Final = "--health-socket"
"""Followed by a path: this is one of several processes, see `processes.py`."""


async def main(settings: WorkerSettings) -> None:
    """Run the worker until it is told to stop."""
    match sys.argv[1:]:
        case [argument, path] if argument == HEALTH_SOCKET:
            stop_with_parent()
            await make_app(settings, Path(path), obeys=(signal.SIGTERM,)).run()
        case _ if settings.worker_processes > 1:
            await run_several(settings)
        case _:
            await make_app(settings, settings.health_port).run()


if __name__ == "__main__":
    run(WorkerSettings, main)
