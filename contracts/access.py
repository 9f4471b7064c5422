"""Who read which records: an entry is stored before anything is shown. MessagePack in stream ACCESS, a row in ClickHouse."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from contracts.directory import UserRole
from contracts.events import Person
from contracts.ids import OrgId

DETAIL_CHARACTERS_MAX = 4000


class Action(StrEnum):
    """What was read."""

    LOGS = "logs"
    RECORDING = "recording"
    SCREEN = "screen"
    SEARCH = "search"
    EXPORT = "export"
    VERIFICATION = "verification"
    ACCESS = "access"


class Access(Struct, frozen=True, array_like=True):
    """One reading of records. On the wire it is MessagePack, an array in the order of these fields.

    `at`: microseconds since the epoch, UTC. `session_id` is empty for what concerns more than one session. `detail` is a
    JSON object of what was asked for (the query's parameters).
    """

    id: Annotated[str, Meta(pattern=r"^acc_[A-Za-z0-9_-]{1,64}$")]
    at: int
    org_id: OrgId
    user: Person
    role: UserRole
    action: str
    session_id: str
    detail: Annotated[str, Meta(max_length=DETAIL_CHARACTERS_MAX)]
    ip_address: str
    user_agent: str


_packer = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Access)


def encode(access: Access) -> bytes:
    """Its bytes on the bus."""
    return _packer.encode(access)


def decode(payload: bytes) -> Access:
    """The entry in `payload`. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(payload)
