"""`VSAY_HOME/stack.json`: where the single-machine stack serves while it runs, so that other programs of this machine find it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

HOME_VARIABLE: Final = "VSAY_HOME"
HOME_DEFAULT: Final = ".vsay"
FILE_NAME: Final = "stack.json"


class StackFileError(Exception):
    """The file is there but is not what it should be; the message names it."""


class Stack(Struct, frozen=True):
    """Addresses of a running stack, and the process ids of its parts by name."""

    api: str
    nats: str
    clickhouse: str
    processes: dict[str, int] = {}


def find(environ: Mapping[str, str]) -> Stack | None:
    """The stack that runs in `VSAY_HOME`; None when none does. Raises `StackFileError`."""
    path = Path(environ.get(HOME_VARIABLE) or HOME_DEFAULT) / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Stack)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StackFileError(f"{path}: {error}") from error
