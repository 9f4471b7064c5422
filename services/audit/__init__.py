"""Moves events from JetStream into ClickHouse; owns the ClickHouse schema. Knows no event types."""
