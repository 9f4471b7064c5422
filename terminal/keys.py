"""Keys as a terminal sends them: which of them a screen could show."""

import re
from typing import Final

ENTER: Final = re.compile(rb"\r\n|\r|\n")

_NOT_PRINTABLE: Final = re.compile(
    rb"\x1b\[200~|\x1b\[201~"  # bracketed paste
    rb"|\x1b\[[0-9;:<=>?]*[ -/]*[@-~]|\x1bO[ -~]|\x1b[^\[O]|\x1b|[\x00-\x1f\x7f]"
)
_PASTE: Final = re.compile(rb"\x1b\[20[01]~")


def printable_runs(keys: bytes) -> list[str]:
    """The pieces of text between control keys, in order."""
    return [run.decode("utf-8", "replace") for run in _NOT_PRINTABLE.split(keys) if run]


def plain_text(keys: bytes) -> str | None:
    """The text of keys that only type it (also pasted); None when one of them does anything else."""
    typed = _PASTE.sub(b"", keys)
    return None if _NOT_PRINTABLE.search(typed) else typed.decode("utf-8", "replace")
