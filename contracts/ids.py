"""Identifiers, bounds and scalar types that every other contract is made of.

An identifier is a prefix that says what it names, an underscore, and 1 to 64 characters of `[A-Za-z0-9_-]`. That is
also exactly what may stand in one token of a NATS subject and in a key of a key-value bucket, so an identifier that
was decoded can never reach beyond its own subject.
"""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

ID_CHARACTERS_MAX: Final = 64
TERMINAL_CELLS_MAX: Final = 1000

SESSION_ID_PATTERN: Final = r"^sess_[A-Za-z0-9_-]{1,64}$"
MACHINE_ID_PATTERN: Final = r"^mch_[A-Za-z0-9_-]{1,64}$"
USER_ID_PATTERN: Final = r"^usr_[A-Za-z0-9_-]{1,64}$"
ORG_ID_PATTERN: Final = r"^org_[A-Za-z0-9_-]{1,64}$"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

SessionId = Annotated[str, Meta(pattern=SESSION_ID_PATTERN, examples=["sess_123456"])]
MachineId = Annotated[str, Meta(pattern=MACHINE_ID_PATTERN, examples=["mch_456"])]
UserId = Annotated[str, Meta(pattern=USER_ID_PATTERN, examples=["usr_123"])]
OrgId = Annotated[str, Meta(pattern=ORG_ID_PATTERN, examples=["org_acme"])]
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""A short name without dots or slashes: a worker, a credential."""

ViewerId = Annotated[str, Meta(pattern=r"^view_[A-Za-z0-9]{1,64}$")]
"""One attachment of one client; a client that connects again is another viewer."""

Seq = Annotated[int, Meta(ge=0)]
"""A session's event number: 1, 2, 3 … without a gap. 0 stands before the first event."""

Cells = Annotated[int, Meta(ge=1, le=TERMINAL_CELLS_MAX)]
"""Columns or rows of a terminal."""

EnvironmentName = Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]{0,63}$")]
Environment = Annotated[dict[EnvironmentName, Annotated[str, Meta(max_length=1024)]], Meta(max_length=32)]
"""Environment variables of a remote shell; an SSH server takes only those that it allows itself."""

Port = Annotated[int, Meta(ge=1, le=65535)]
DisplayName = Annotated[str, Meta(min_length=1, max_length=200)]
Utc = Annotated[datetime, Meta(tz=True)]
