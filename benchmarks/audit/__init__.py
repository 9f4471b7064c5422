"""Measures the audit store: from the stream into ClickHouse, bytes an event, and every query that we ask of it."""
