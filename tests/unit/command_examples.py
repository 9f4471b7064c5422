"""One example of all but events that services say to each other or keep in buckets, under the name of its golden bytes."""

from datetime import UTC, datetime

from msgspec import Struct

from contracts.commands import (
    Attach,
    Attached,
    Attendant,
    Credit,
    Detach,
    Done,
    Input,
    OpenSession,
    Refused,
    Resize,
    Screen,
    Snapshot,
    Terminate,
)
from contracts.directory import ApiToken, Machine, Organization, Ticket, TrustedHostKey, User, UserRole
from contracts.events import EndReason, Role, Target
from contracts.keys import PublicKey
from contracts.live import LiveSession, LiveState
from tests.unit.examples import JOHN, ORG, SESSION

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)

JSON = (LiveSession, Organization, User, Machine, ApiToken, Ticket, TrustedHostKey, PublicKey)
"""What lies in buckets, as JSON; the rest is msgpack."""

COMMANDS: dict[str, Struct] = {
    "open_session": OpenSession(
        session_id=SESSION,
        org_id=ORG,
        user=JOHN,
        machine=Machine(
            id="mch_456",
            name="Production Server",
            org=ORG,
            host="192.168.1.100",
            login="deploy",
            credential="deploy-key",
            host_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",),
        ),
        cols=120,
        rows=40,
        ip_address="192.168.1.50",
        user_agent="Mozilla/5.0",
        requested_at=NOON,
    ),
    "attach": Attach("view_1", JOHN, Role.DRIVER, "192.168.1.50", "Mozilla/5.0", resume_from=7),
    "detach": Detach("view_1"),
    "input": Input("view_1", b"ls -la\n\xff"),
    "resize": Resize("view_1", 100, 30),
    "credit": Credit("view_1", 12),
    "terminate": Terminate(JOHN),
    "snapshot": Snapshot(),
    "done": Done(),
    "refused": Refused("session_ended", "the session has ended"),
    "screen": Screen(12, 100, 30, b"\x1b[2J$ "),
    "attached": Attached(4, 12, 100, 30, (Attendant("view_1", JOHN, Role.DRIVER),), b"\x1b[2J$ "),
    "live_session": LiveSession(
        session_id=SESSION,
        org_id=ORG,
        user=JOHN,
        machine=Target("mch_456", "Production Server", "192.168.1.100"),
        state=LiveState.ENDED,
        started_at=NOON,
        last_activity=NOON,
        ip_address="192.168.1.50",
        user_agent="Mozilla/5.0",
        worker="worker-1",
        commands_count=3,
        ended_at=NOON,
        reason=EndReason.EXITED,
        exit_status=0,
    ),
    "organization": Organization(ORG, "Acme"),
    "user": User("usr_123", "John Doe", "john@example.com", ORG, UserRole.AUDITOR, ("*",)),
    "machine": Machine("mch_456", "Production Server", ORG, "192.168.1.100", "deploy", "deploy-key", port=2222, jump="mch_1"),
    "api_token": ApiToken("usr_123", NOON),
    "ticket": Ticket(SESSION, "usr_123", ORG, Role.OBSERVER, NOON),
    "trusted_host_key": TrustedHostKey("ssh-ed25519 AAAA", SESSION, NOON),
    "public_key": PublicKey("key_" + "0" * 32, bytes(range(32)), NOON),
}
