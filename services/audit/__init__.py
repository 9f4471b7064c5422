"""Moves events from JetStream into ClickHouse, exactly once in what is read; owns the ClickHouse schema."""
