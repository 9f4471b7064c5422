"""`python -m services.audit`"""

from services.audit.app import make_app
from services.audit.settings import AuditSettings
from services.runtime.process import run


async def main(settings: AuditSettings) -> None:
    """Move events until it is told to stop."""
    await make_app(settings).run()


if __name__ == "__main__":
    run(AuditSettings, main)
