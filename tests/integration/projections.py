"""Everything that can be read of the record, to compare one way of filling it with another."""

from tests.integration.servers import ClickHouse

PROJECTIONS = ("events", "sessions", "logs", "commands", "attendance", "session_hours", "stats_hourly")


def projections(clickhouse: ClickHouse, database: str = "vsay") -> dict[str, str]:
    """In an order of its own; but when it was stored."""
    columns = {"events": "* EXCEPT (stored_at)"}
    return {
        name: clickhouse.query(
            f"SELECT {columns.get(name, '*')} FROM {database}.{name} {'FINAL' if name == 'events' else ''} ORDER BY ALL"
        )
        for name in PROJECTIONS
    }
