"""`python -m services.ssh_worker`"""

from services.runtime.process import run
from services.ssh_worker.app import make_app
from services.ssh_worker.settings import WorkerSettings


async def main(settings: WorkerSettings) -> None:
    """Run the worker until it is told to stop."""
    await make_app(settings).run()


if __name__ == "__main__":
    run(WorkerSettings, main)
