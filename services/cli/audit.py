"""`vsay audit …`: what is done with the audit store."""

import argparse
from typing import Final

from services.audit.clickhouse import Store
from services.audit.rebuild import PROJECTIONS, LeftoversError
from services.audit.rebuild import rebuild as rebuilt
from services.cli.connection import FailedError, settings_of
from services.runtime.settings import ClickHouseSettings

ANSWER_SECONDS: Final = 3600
"""How long ClickHouse may take for one piece of a rebuild."""


async def rebuild(arguments: argparse.Namespace) -> None:
    """`vsay audit rebuild`"""
    wanted = arguments.projections or list(PROJECTIONS)
    if unknown := [name for name in wanted if name not in PROJECTIONS]:
        raise FailedError(f"there is no projection {unknown[0]}; there are {', '.join(PROJECTIONS)}")
    store = Store.open(settings_of(ClickHouseSettings), answer_seconds=ANSWER_SECONDS)
    try:
        for name in wanted:
            async for progress in rebuilt(store, name, restart=arguments.restart):
                print(f"{name}: {progress.done} of {progress.total} events", flush=True)
            print(f"{name}: rebuilt", flush=True)
    except LeftoversError as error:
        raise FailedError(f"{error}: vsay audit rebuild --restart {name}") from error
    finally:
        await store.close()
