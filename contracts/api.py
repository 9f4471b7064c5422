"""Bodies of the REST API (`docs/api.md`): every field of the sessions API specification, and some more."""

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.access import ReaderId
from contracts.events import ConnectError, EndReason, Role
from contracts.ids import Cells, Environment, MachineId, OrgId, SessionId, UserId, Utc
from contracts.proof import Finding
from contracts.workers import WorkerView


class ErrorCode(StrEnum):
    """Stable codes of refusals, in REST answers and in WebSocket `error` messages."""

    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MACHINE_NOT_FOUND = "machine_not_found"
    JUMP_HOST_NOT_FOUND = "jump_host_not_found"
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_ENDED = "session_ended"
    INVALID_REQUEST = "invalid_request"
    INVALID_MESSAGE = "invalid_message"
    MESSAGE_TOO_LARGE = "message_too_large"
    TOO_MANY_MESSAGES = "too_many_messages"
    TOO_MANY_SOCKETS = "too_many_sockets"
    AUTH_TIMEOUT = "auth_timeout"
    INVALID_TICKET = "invalid_ticket"
    OBSERVERS_CANNOT_TYPE = "observers_cannot_type"
    NOT_ATTACHED = "not_attached"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class SessionStatus(StrEnum):
    """`active` until the session has ended, also while it waits for a worker."""

    ACTIVE = "active"
    ENDED = "ended"


class LogFormat(StrEnum):
    """How logs are answered."""

    JSON = "json"
    TEXT = "text"


class LogType(StrEnum):
    """Command lines, or the readable output that followed them."""

    COMMAND = "command"
    OUTPUT = "output"


class RecordingFormat(StrEnum):
    """Of a recording: asciinema's two formats, that of script(1), or the output's bytes alone."""

    ASCIICAST_V2 = "asciicast-v2"
    ASCIICAST_V3 = "asciicast-v3"
    TYPESCRIPT = "typescript"
    RAW = "raw"


class RecordingPart(StrEnum):
    """Which of the two files of a typescript: `script --log-out` or `--log-timing`."""

    DATA = "data"
    TIMING = "timing"


class ScreenFormat(StrEnum):
    """Of a screen: plain text, the bytes that draw it on a terminal, or a page for a browser."""

    TEXT = "text"
    ANSI = "ansi"
    HTML = "html"


class Period(StrEnum):
    """A rolling window that ends now: 1, 7 or 30 days."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class ErrorDetail(Struct, frozen=True, omit_defaults=True):
    """What was wrong; `fields` names the offending fields of a request."""

    code: ErrorCode
    message: str
    fields: dict[str, str] = {}


class Failure(Struct, frozen=True):
    """Body of every refused request."""

    error: ErrorDetail
    success: Literal[False] = False


class Success[Data](Struct, frozen=True):
    """Body of every answered request."""

    data: Data
    success: Literal[True] = True


class UserSummary(Struct, frozen=True):
    """A user in a list."""

    id: UserId
    name: str


class UserDetail(Struct, frozen=True):
    """A user in a session's details."""

    id: UserId
    name: str
    email: str


class MachineSummary(Struct, frozen=True):
    """A machine in a list of sessions."""

    id: MachineId
    name: str


class MachineDetail(Struct, frozen=True):
    """A machine in a session's details, and in the list of machines."""

    id: MachineId
    name: str
    host: str


class SessionSummary(Struct, frozen=True):
    """A session in a list. Before its shell runs, `started_at` is when it was asked for."""

    id: SessionId
    user: UserSummary
    machine: MachineSummary
    status: SessionStatus
    started_at: Utc
    last_activity: Utc
    ip_address: str
    ended_at: Utc | None = None
    reason: EndReason | None = None
    code: ConnectError | None = None


class SessionList(Struct, frozen=True):
    """A page of sessions, newest first; `next_cursor` is null on the last page."""

    sessions: list[SessionSummary]
    next_cursor: str | None = None


class SessionDetail(Struct, frozen=True):
    """Everything about one session but its bytes."""

    id: SessionId
    user: UserDetail
    machine: MachineDetail
    status: SessionStatus
    started_at: Utc
    last_activity: Utc
    ip_address: str
    user_agent: str
    commands_count: int
    ended_at: Utc | None = None
    reason: EndReason | None = None
    code: ConnectError | None = None
    exit_status: int | None = None


class TerminalSize(Struct, frozen=True, forbid_unknown_fields=True):
    """Columns and rows, 1 to 1000."""

    cols: Cells
    rows: Cells


class CreateSession(Struct, frozen=True):
    """Body of `POST /v1/sessions`."""

    machine_id: MachineId
    terminal_size: TerminalSize
    environment: Environment = {}


class AttachSession(Struct, frozen=True):
    """Body of `POST /v1/sessions/{id}/attach`."""

    role: Role


class SessionTicket(Struct, frozen=True):
    """Admission to a session's WebSocket; `token` is shown once and expires."""

    session_id: SessionId
    websocket_url: str
    token: str
    expires_at: Utc


class Message(Struct, frozen=True):
    """An answer that has nothing else to say."""

    message: str
    success: Literal[True] = True


class LogEntry(Struct, frozen=True):
    """A command line, or the readable output that followed; `seq` points into the recording."""

    timestamp: Utc
    type: Literal["command", "output"]
    content: str
    seq: int


class SessionLogs(Struct, frozen=True):
    """A session's commands and their output, in order."""

    session_id: SessionId
    logs: list[LogEntry]
    complete: bool = True
    """False when ClickHouse had not yet everything that was recorded when the logs were asked for."""


class SessionVerification(Struct, frozen=True):
    """Whether a session's record is complete and unaltered; `docs/verification.md` explains every finding.

    `verified`: nothing is wrong (notices are not). `chain` is that of the last event, in hex. `key_id`: which key signed the
    end. `anchored_seq`: up to which event anchors have the session. `findings_count` counts what is wrong, listed or not.
    """

    session_id: SessionId
    verified: bool
    ended: bool
    events: int
    head_seq: int
    chain: str
    key_id: str | None
    anchored_seq: int
    findings: list[Finding]
    findings_count: int


class ReaderDetail(Struct, frozen=True):
    """Who read: a user of the directory, or `os:NAME`, a user of the operating system who ran `vsay` on a host."""

    id: ReaderId
    name: str
    email: str


class AccessRecord(Struct, frozen=True):
    """Somebody read records. `action` says which; `session_id` is null for what concerns more than one session.

    `role` is one of the directory, or `host` for a user of an operating system, whose `ip_address` is `host:NAME`.
    """

    id: str
    at: Utc
    user: ReaderDetail
    role: str
    action: Annotated[str, Meta(examples=["logs", "recording", "screen", "search", "export", "verification", "access"])]
    session_id: SessionId | None
    detail: dict[str, str]
    ip_address: str
    user_agent: str


class AccessList(Struct, frozen=True):
    """A page of readings, newest first; `next_cursor` is null on the last page."""

    access: list[AccessRecord]
    next_cursor: str | None = None


class SearchHit(Struct, frozen=True):
    """An entry of some session's logs in which the text was found.

    `match` is the first place in it where it stands, as it is written there; `before` and `after` are what surrounds it.
    """

    session_id: SessionId
    timestamp: Utc
    seq: int
    type: LogType
    user: UserSummary
    machine: MachineSummary
    before: str
    match: str
    after: str


class SearchResult(Struct, frozen=True):
    """A page of hits, newest first; `next_cursor` is null on the last page."""

    hits: list[SearchHit]
    next_cursor: str | None = None


class MachineUsage(Struct, frozen=True):
    """A machine and how many sessions the period had on it."""

    machine_id: MachineId
    name: str
    sessions_count: int


class UserUsage(Struct, frozen=True):
    """A user and how many sessions of the period were theirs."""

    user_id: UserId
    name: str
    sessions_count: int


class EndCount(Struct, frozen=True):
    """How many sessions of the period ended for this reason."""

    reason: str
    sessions_count: int


class StatsBucket(Struct, frozen=True):
    """The sessions of a period that started in one hour or day (UTC), which `start` begins."""

    start: Utc
    sessions_count: int
    duration_hours: float
    unique_users: int


class SessionStats(Struct, frozen=True):
    """Statistics of the caller's organization over a period; `docs/api.md` defines every figure."""

    total_sessions: int
    active_sessions: int
    total_duration_hours: float
    unique_users: int
    top_machines: list[MachineUsage]
    series: list[StatsBucket] = []
    top_users: list[UserUsage] = []
    end_reasons: list[EndCount] = []


class MachineList(Struct, frozen=True):
    """The machines on which the caller may open sessions."""

    machines: list[MachineDetail]


class WorkerList(Struct, frozen=True):
    """Every worker process that runs, by name."""

    workers: list[WorkerView]


class Health(Struct, frozen=True):
    """Answer of `/healthz` and `/readyz`; `checks` says `ok` or what is wrong, by part."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}


class Caller(Struct, frozen=True):
    """Who calls: the answer of `GET /v1/me`."""

    id: UserId
    name: str
    email: str
    org_id: OrgId
    role: Annotated[str, Meta(examples=["operator"])]
