"""The JetStream streams, consumers and key-value buckets, as data; `services.runtime.bus.declare` creates them."""

from typing import Final

from msgspec import Struct

from contracts import subjects

ACK_WAIT_SECONDS: Final = 30.0
"""How long an unrenewed lease on a session lasts: after this the command is delivered to another worker."""


class Stream(Struct, frozen=True):
    """One stream. `republish_to` is where stored messages are sent again, with `>` for the rest of the subject."""

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    republish_to: str | None = None
    duplicate_window_seconds: float = 120.0
    max_msg_bytes: int = 1024 * 1024
    bytes_max: int | None = None
    """Size of the stream; None: as the setting `stream_bytes_max` says."""


class Consumer(Struct, frozen=True):
    """One durable pull consumer with explicit acknowledgement."""

    stream: str
    durable: str
    filter_subject: str
    ack_wait_seconds: float
    max_ack_pending: int


class Bucket(Struct, frozen=True):
    """One key-value bucket; values age out after `ttl_seconds`, if given."""

    name: str
    ttl_seconds: float | None = None


COMMANDS: Final = Stream(name="COMMANDS", subjects=(subjects.OPEN_SESSION,), work_queue=True, bytes_max=256 * 1024 * 1024)
SESSIONS: Final = Stream(name="SESSIONS", subjects=(subjects.ALL_EVENTS,), republish_to=subjects.ALL_LIVE)
ACCESS: Final = Stream(name="ACCESS", subjects=(subjects.ALL_ACCESS,), bytes_max=256 * 1024 * 1024)
ANCHORS: Final = Stream(name="ANCHORS", subjects=(subjects.ANCHORS,), bytes_max=256 * 1024 * 1024)
ACCESS_ANCHORS: Final = Stream(name="ACCESS_ANCHORS", subjects=(subjects.ACCESS_ANCHORS,), bytes_max=256 * 1024 * 1024)

SSH_WORKERS: Final = Consumer(
    stream=COMMANDS.name,
    durable="ssh-workers",
    filter_subject=subjects.OPEN_SESSION,
    ack_wait_seconds=ACK_WAIT_SECONDS,
    max_ack_pending=100_000,
)
AUDIT: Final = Consumer(
    stream=SESSIONS.name,
    durable="audit",
    filter_subject=subjects.ALL_EVENTS,
    ack_wait_seconds=60.0,
    max_ack_pending=50_000,
)
AUDIT_ACCESS: Final = Consumer(
    stream=ACCESS.name,
    durable="audit-access",
    filter_subject=subjects.ALL_ACCESS,
    ack_wait_seconds=60.0,
    max_ack_pending=50_000,
)
AUDIT_ANCHORS: Final = Consumer(
    stream=ANCHORS.name,
    durable="audit-anchors",
    filter_subject=subjects.ANCHORS,
    ack_wait_seconds=60.0,
    max_ack_pending=50_000,
)
AUDIT_ACCESS_ANCHORS: Final = Consumer(
    stream=ACCESS_ANCHORS.name,
    durable="audit-access-anchors",
    filter_subject=subjects.ACCESS_ANCHORS,
    ack_wait_seconds=60.0,
    max_ack_pending=50_000,
)

WORKERS: Final = Bucket(name="workers", ttl_seconds=20.0)
HOST_KEYS: Final = Bucket(name="host_keys")
LIVE: Final = Bucket(name="live", ttl_seconds=60.0)
ORGANIZATIONS: Final = Bucket(name="organizations")
USERS: Final = Bucket(name="users")
MACHINES: Final = Bucket(name="machines")
TOKENS: Final = Bucket(name="tokens")
TICKETS: Final = Bucket(name="tickets", ttl_seconds=24 * 3600.0)
SIGNING_KEYS: Final = Bucket(name="signing_keys")

STREAMS: Final = (COMMANDS, SESSIONS, ACCESS, ANCHORS, ACCESS_ANCHORS)
CONSUMERS: Final = (SSH_WORKERS, AUDIT, AUDIT_ACCESS, AUDIT_ANCHORS, AUDIT_ACCESS_ANCHORS)
BUCKETS: Final = (LIVE, ORGANIZATIONS, USERS, MACHINES, TOKENS, TICKETS, SIGNING_KEYS, WORKERS, HOST_KEYS)
