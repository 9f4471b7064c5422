"""Who read which records: an entry is stored before anything is shown. MessagePack in stream ACCESS, a row in ClickHouse."""

from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from contracts.events import Person
from contracts.ids import DisplayName, OrgId

DETAIL_CHARACTERS_MAX = 4000

OS_USER_PREFIX = "os:"
"""Before the name of a user of an operating system, who ran `vsay` on a host. No id of the directory has a colon."""

HOST_ROLE = "host"
"""Instead of a role of the directory, for such a user."""

READER_ID_PATTERN = r"^(usr_[A-Za-z0-9_-]{1,64}|os:[^\x00-\x20]{1,64})$"

AccessId = Annotated[str, Meta(pattern=r"^acc_[A-Za-z0-9_-]{1,64}$")]
ReaderId = Annotated[str, Meta(pattern=READER_ID_PATTERN, examples=["usr_123", "os:alice"])]


class Action(StrEnum):
    """What was read."""

    LOGS = "logs"
    RECORDING = "recording"
    SCREEN = "screen"
    SEARCH = "search"
    EXPORT = "export"
    VERIFICATION = "verification"
    ACCESS = "access"


class Reader(Struct, frozen=True):
    """Who read: a user of the directory, as `Person` has it, or `os:NAME`, of an operating system."""

    id: ReaderId
    name: DisplayName
    email: str

    @classmethod
    def of(cls, person: Person) -> Self:
        """A user of the directory."""
        return cls(person.id, person.name, person.email)


class Access(Struct, frozen=True, array_like=True):
    """One reading of records. On the wire it is MessagePack, an array in the order of these fields.

    `at`: microseconds since the epoch, UTC. `session_id` is empty for what concerns more than one session. `detail` is a
    JSON object of what was asked for (the query's parameters). Of a user of the API, `role` is a `UserRole`, and `ip_address` the
    client's; of a user of an operating system they are `HOST_ROLE` and `host:NAME`.
    """

    id: AccessId
    at: int
    org_id: OrgId
    user: Reader
    role: str
    action: str
    session_id: str
    detail: Annotated[str, Meta(max_length=DETAIL_CHARACTERS_MAX)]
    ip_address: str
    user_agent: str

    def texts(self) -> tuple[bytes, ...]:
        """Its texts as they lie in ClickHouse, in the order of `digest`."""
        user = self.user
        rest = (self.role, self.action, self.session_id, self.detail, self.ip_address, self.user_agent)
        return tuple(text.encode() for text in (self.id, self.org_id, user.id, user.name, user.email, *rest))


def digest(stream_seq: int, at: int, texts: Sequence[bytes]) -> bytes:
    """By which an anchor knows an entry: SHA-256 of the MessagePack array of what table `access_entries` has of it.

    `texts`: id, org_id, user_id, user_name, user_email, role, action, session_id, detail, ip_address, user_agent; as bytes,
    so that what is no UTF-8 is something else than any text.
    """
    return sha256(_packer.encode((stream_seq, at, *texts))).digest()


_packer = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Access)


def encode(access: Access) -> bytes:
    """Its bytes on the bus."""
    return _packer.encode(access)


def decode(payload: bytes) -> Access:
    """The entry in `payload`. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(payload)
