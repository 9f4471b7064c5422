"""Figures over the sessions of a period; `docs/api.md` defines each.

They are read from the table `session_hour_parts`, whose order is that of time: what was recorded before the period is
not looked at. Every figure comes out of one pass.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from contracts.api import EndCount, MachineUsage, SessionStats, StatsBucket, UserUsage
from services.session_api.history import History

TOP_MAX: Final = 10
"""Machines and users that are named."""

HOURLY_MAX: Final = timedelta(days=2)
"""A longer period is given by days."""

LOOK_BACK: Final = timedelta(days=1)
"""How long before its shell ran a session may have been claimed."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


async def stats(
    history: History, *, org_id: str, user_id: str | None = None, since: datetime, until: datetime, active: int
) -> SessionStats:
    """Figures over the sessions whose `started_at` lies in `since` (inclusive) to `until` (exclusive).

    `active_sessions` is `active`, which only the bus knows. Raises `HistoryUnavailableError`.
    """
    bucket = HOUR if until - since <= HOURLY_MAX else DAY
    values = {
        "org_id": org_id,
        "user_id": user_id or "",
        "since": _microseconds(since),
        "until": _microseconds(until),
        "first_hour": int((since - LOOK_BACK).timestamp()) // 3600 * 3600,
        "bucket_seconds": bucket // timedelta(seconds=1),
        "rows_max": (until - since) // bucket + 2 + TOP_MAX,
    }
    rows = await history.rows(_FIGURES.format(whose="" if user_id is None else _OF_USER), values)
    totals = next(_of(rows, "total"), ("total", 0, "", "", 0, 0, 0))
    return SessionStats(
        total_sessions=totals[4],
        active_sessions=active,
        total_duration_hours=_hours(totals[5]),
        unique_users=totals[6],
        top_machines=[MachineUsage(row[2], row[3], row[4]) for row in _of(rows, "machine")][:TOP_MAX],
        series=_series(list(_of(rows, "bucket")), since, until, bucket),
        top_users=[UserUsage(row[2], row[3], row[4]) for row in _of(rows, "user")][:TOP_MAX],
        end_reasons=[EndCount(row[2], row[4]) for row in _of(rows, "reason") if row[2]],
    )


type _Row = Sequence[Any]
"""What it is about, the bucket's start in seconds, id, name, sessions, their duration in microseconds, distinct users."""


def _of(rows: Sequence[_Row], about: str) -> Iterator[_Row]:
    return (row for row in rows if row[0] == about)


def _series(rows: Sequence[_Row], since: datetime, until: datetime, bucket: timedelta) -> list[StatsBucket]:
    """Every bucket that the period touches, also those without a session."""
    known = {row[1]: row for row in rows}
    series = []
    start = EPOCH + (since - EPOCH) // bucket * bucket
    while start < until:
        _, _, _, _, sessions, duration_us, users = known.get(int(start.timestamp()), ("bucket", 0, "", "", 0, 0, 0))
        series.append(StatsBucket(start, sessions, _hours(duration_us), users))
        start += bucket
    return series


def _hours(microseconds: int) -> float:
    return microseconds / 3_600_000_000


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


# A session whose claim is not among the hours read began before the period, or its beginning is still on its way.

_FIGURES: Final = """
WITH
    fromUnixTimestamp64Micro({{since:Int64}}, 'UTC') AS since,
    fromUnixTimestamp64Micro({{until:Int64}}, 'UTC') AS until,
    of_period AS
    (
        SELECT
            session_id,
            max(user_id) AS user,
            max(user_name) AS user_called,
            max(machine_id) AS machine,
            max(machine_name) AS machine_called,
            assumeNotNull(coalesce(min(shell_started_at), min(requested_at), min(claimed_at))) AS began_at,
            least(ifNull(max(ended_at), until), until) AS over_at,
            toString(max(reason)) AS why,
            intDiv(toUnixTimestamp(began_at), {{bucket_seconds:UInt32}}) * {{bucket_seconds:UInt32}} AS bucket
        FROM session_hour_parts
        WHERE org_id = {{org_id:String}} AND hour >= fromUnixTimestamp({{first_hour:Int64}})
        GROUP BY session_id
        HAVING min(claimed_at) IS NOT NULL AND began_at >= since AND began_at < until {whose}
    )
SELECT
    multiIf(
        grouping(bucket) = 0, 'bucket', grouping(machine) = 0, 'machine', grouping(user) = 0, 'user', grouping(why) = 0, 'reason',
        'total'
    ) AS about,
    bucket,
    concat(machine, user, why) AS id,
    multiIf(about = 'machine', argMax(machine_called, began_at), about = 'user', argMax(user_called, began_at), '') AS name,
    count() AS sessions,
    sum(dateDiff('microsecond', began_at, over_at)) AS duration_us,
    uniqExact(user_of_session) AS users
FROM (SELECT *, user AS user_of_session FROM of_period)
GROUP BY GROUPING SETS ((), (bucket), (machine), (user), (why))
ORDER BY sessions DESC, id
LIMIT {{rows_max:UInt32}} BY about"""

_OF_USER: Final = "AND user = {user_id:String}"
