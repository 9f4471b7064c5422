"""The service that owns SSH sessions: the only writer of a session's events."""
