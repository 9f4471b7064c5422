"""The value of bucket `live`: what a session is like right now, refreshed by its owner.

`session-api` creates it as *waiting* when it sends the command; from the claim on only the owner writes it. It ages
out a minute after the last write, by which time an ended session has long been in ClickHouse.
"""

from enum import StrEnum

import msgspec
from msgspec import Struct

from contracts.events import ConnectError, EndReason, Person, Target
from contracts.ids import OrgId, SessionId, Utc


class LiveState(StrEnum):
    """Where a session stands. `waiting` and `cancelled` come before any worker has it."""

    WAITING = "waiting"
    CANCELLED = "cancelled"
    CLAIMED = "claimed"
    STARTED = "started"
    ENDED = "ended"


class LiveSession(Struct, frozen=True):
    """One session as lists and details show it."""

    session_id: SessionId
    org_id: OrgId
    user: Person
    machine: Target
    state: LiveState
    started_at: Utc
    last_activity: Utc
    ip_address: str
    user_agent: str
    worker: str = ""
    commands_count: int = 0
    ended_at: Utc | None = None
    reason: EndReason | None = None
    code: ConnectError | None = None
    exit_status: int | None = None

    def encode(self) -> bytes:
        """As it lies in the bucket: JSON."""
        return msgspec.json.encode(self)


_decoder = msgspec.json.Decoder(LiveSession)


def decode(value: bytes) -> LiveSession:
    """The session in a bucket's value. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(value)
