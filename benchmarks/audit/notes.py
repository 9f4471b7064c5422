"""What the benchmark says while it runs."""

import sys
from datetime import UTC, datetime


def note(text: str) -> None:
    """One line on stderr, with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)
