"""What `session-api` asks of workers: one command through a work queue, the others as requests to the owning worker.

Requests are answered with `Done`, `Attached`, `Screen` or `Refused`. A reply means *done*: awaiting the reply to
`Input` is the input's back-pressure. When nobody responds, no worker owns the session.
"""

from typing import Annotated

from msgspec import Meta, Struct

from contracts.directory import Machine
from contracts.events import Person, Role
from contracts.ids import Cells, Environment, OrgId, Seq, SessionId, Utc, ViewerId

INPUT_BYTES_MAX = 64 * 1024
"""Of one `Input`; longer input is sent as several, each after the reply to the one before."""


class OpenSession(Struct, frozen=True):
    """Open a session. Lies in stream COMMANDS until the session that it asks for has ended: it is the lease."""

    session_id: SessionId
    org_id: OrgId
    user: Person
    machine: Machine
    cols: Cells
    rows: Cells
    ip_address: str
    user_agent: str
    requested_at: Utc
    jumps: tuple[Machine, ...] = ()
    """The jump hosts on the way, the first one first."""
    environment: Environment = {}
    """What the client wants set; the machine allows each."""


class Attach(Struct, frozen=True):
    """A viewer wants to watch or drive; answered with `Attached`, after which its `Credit` must not stay out for long."""

    viewer_id: ViewerId
    user: Person
    role: Role
    ip_address: str
    user_agent: str
    resume_from: Seq | None = None


class Detach(Struct, frozen=True):
    """A viewer has gone."""

    viewer_id: ViewerId


class Input(Struct, frozen=True):
    """Bytes to type. Done when the SSH channel has them and its window had room."""

    viewer_id: ViewerId
    data: Annotated[bytes, Meta(max_length=INPUT_BYTES_MAX)]


class Resize(Struct, frozen=True):
    """Give the terminal this size."""

    viewer_id: ViewerId
    cols: Cells
    rows: Cells


class Credit(Struct, frozen=True):
    """The viewer has been sent everything up to and with event `seq`. Published without a reply, at least every few seconds."""

    viewer_id: ViewerId
    seq: Seq


class Terminate(Struct, frozen=True):
    """End the session."""

    user: Person


class Snapshot(Struct, frozen=True):
    """What is on the screen now? Answered with `Screen`."""


class Done(Struct, frozen=True, tag_field="reply", tag="done"):
    """It was done."""


class Refused(Struct, frozen=True, tag_field="reply", tag="refused"):
    """It was not done; `code` is one of the documented error codes."""

    code: str
    message: str


class Screen(Struct, frozen=True, tag_field="reply", tag="screen"):
    """The screen as it was after event `seq`: `data` are bytes that draw it on a terminal of `cols` x `rows`."""

    seq: Seq
    cols: Cells
    rows: Cells
    data: bytes


class Attendant(Struct, frozen=True):
    """Somebody who is attached to a session."""

    viewer_id: ViewerId
    user: Person
    role: Role


class Attached(Struct, frozen=True, tag_field="reply", tag="attached"):
    """The viewer is attached. It begins with the events after `from_seq`; if there is a `screen`, it is shown first.

    `head_seq` is the session's newest event: when it is later than `from_seq`, what lies between is read from the record.
    """

    from_seq: Seq
    head_seq: Seq
    cols: Cells
    rows: Cells
    viewers: tuple[Attendant, ...] = ()
    screen: bytes | None = None


Reply = Done | Refused | Screen | Attached
