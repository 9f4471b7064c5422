"""`vsay export`: Parquet files of what was recorded."""

import argparse
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from contracts.access import Action
from services.audit.clickhouse import Store
from services.cli import access
from services.cli.connection import FailedError, connected, settings_of
from services.runtime.clickhouse import FAILURES, ClickHouse
from services.runtime.evidence import Evidence
from services.runtime.settings import ClickHouseSettings

ANSWER_SECONDS: Final = 3600
"""How long ClickHouse may take for one file."""

DAYS_MAX: Final = 3660

VIEWS: Final = {"sessions": "started_at", "commands": "at", "logs": "at", "events": "at"}
"""What can be exported, and the column that says on which day a row is."""


async def export(arguments: argparse.Namespace) -> None:
    """Writes VIEW-YYYY-MM-DD.parquet, whole or not at all; a day without rows has no file."""
    wanted = arguments.views or list(VIEWS)
    if unknown := [name for name in wanted if name not in VIEWS]:
        raise FailedError(f"{unknown[0]} cannot be exported; there are {', '.join(VIEWS)}")
    days = list(_days(arguments.since, arguments.until or datetime.now(UTC).date() + timedelta(days=1)))
    settings = settings_of(ClickHouseSettings)
    await _record(settings, wanted, days, arguments.org or "")
    store = Store.open(settings, answer_seconds=ANSWER_SECONDS)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            for day in days:
                path = arguments.output / f"{name}-{day}.parquet"
                if rows := await _write(store, name, day, arguments.org, path):
                    print(f"{path} {rows} rows", flush=True)
    except OSError as error:
        raise FailedError(str(error)) from error
    finally:
        await store.close()


async def _record(settings: ClickHouseSettings, views: list[str], days: list[date], org_id: str) -> None:
    """That these are read; raises `FailedError` when it cannot be recorded."""
    asked = {"views": ",".join(views), "from": str(days[0]), "to": str(days[-1] + timedelta(days=1))}
    clickhouse = ClickHouse(settings)
    try:
        async with connected(settings) as jetstream:
            await access.record(jetstream, Evidence(clickhouse), Action.EXPORT, asked, org_id=org_id)
    except FAILURES as error:
        raise FailedError(f"ClickHouse does not answer as it should (VSAY_CLICKHOUSE_URL): {error}") from error
    finally:
        await clickhouse.close()


def _days(since: date, until: date) -> Iterator[date]:
    if not since < until <= since + timedelta(days=DAYS_MAX):
        raise FailedError(f"--to must be after --from, and at most {DAYS_MAX} days after it")
    for day in range((until - since).days):
        yield since + timedelta(days=day)


async def _write(store: Store, name: str, day: date, org_id: str | None, path: Path) -> int:
    """How many rows there were."""
    column = VIEWS[name]
    condition = f"{column} >= {{since:DateTime64(6, 'UTC')}} AND {column} < {{until:DateTime64(6, 'UTC')}}"
    if org_id is not None:
        condition += " AND org_id = {org_id:String}"
    rows = f"{name}{' FINAL' if name == 'events' else ''} WHERE {condition}"
    values = {"since": f"{day} 00:00:00", "until": f"{day + timedelta(days=1)} 00:00:00", "org_id": org_id or ""}
    [(count,)] = await store.query(f"SELECT count() FROM {rows}", values)
    if not count:
        return 0
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            async for piece in store.stream(f"SELECT * FROM {rows} ORDER BY {column}, session_id", "Parquet", values):
                file.write(piece)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return int(count)
