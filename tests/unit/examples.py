"""One example of every event, and the order in which they would lie in a record."""

from datetime import UTC, datetime

from contracts.events import (
    AnyEvent,
    CommandEntered,
    CommandFinished,
    Confidence,
    EndReason,
    HostKeyPinned,
    InputEchoed,
    KeyframeTaken,
    OutputProduced,
    Person,
    Role,
    SessionClaimed,
    SessionEnded,
    SessionStarted,
    SessionWarned,
    Target,
    TerminalResized,
    TextShown,
    ViewerAttached,
    ViewerDetached,
)
from contracts.wire import GENESIS, Recorded

SESSION = "sess_123456"
ORG = "org_acme"
JOHN = Person("usr_123", "John Doe", "john@example.com")
FIRST_AT = 1_704_110_400_000_000
"""2024-01-01T12:00:00Z in microseconds."""

EVENTS: tuple[tuple[AnyEvent, bytes], ...] = (
    (
        SessionClaimed(
            user=JOHN,
            machine=Target("mch_456", "Production Server", "192.168.1.100"),
            cols=120,
            rows=40,
            ip_address="192.168.1.50",
            user_agent="Mozilla/5.0",
            requested_at=datetime(2024, 1, 1, 11, 59, 59, tzinfo=UTC),
            worker="worker-1",
        ),
        b"",
    ),
    (
        SessionStarted(
            login="deploy",
            authentication="publickey",
            host_key="SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            server_version="OpenSSH_9.2",
            connect_ms=85,
        ),
        b"",
    ),
    (ViewerAttached("view_1", JOHN, Role.DRIVER, "192.168.1.50", "Mozilla/5.0"), b""),
    (OutputProduced(bytes_total=8), b"$ \xff\x00\x1b[0m"),
    (TerminalResized(cols=100, rows=30), b""),
    (InputEchoed(bytes_total=7), b"ls -la\n"),
    (InputEchoed(bytes_total=7, masked=True), b""),
    (CommandEntered(1, "ls -la", Confidence.SCREEN, started_seq=4, output_from_seq=4), b""),
    (TextShown(1, "total 42\n", from_seq=4, to_seq=4), b""),
    (ViewerDetached("view_1", JOHN, "ended"), b""),
    (SessionEnded(EndReason.EXITED, exit_status=0, output_bytes_total=8, input_bytes_total=7, commands_total=1), b""),
    (KeyframeTaken(cols=100, rows=30, shown_seq=4), b"\x1bc$ "),
    # Shapes that came later; a session would not go on after its end.
    (InputEchoed(bytes_total=14, typed_after=((4, 6), (6, 1))), b"ls -la\n"),
    (CommandEntered(1, "login --password [masked]", Confidence.EXACT, 4, 4, "", "/srv", masked=True), b""),
    (CommandFinished(1, output_to_seq=4, exit_status=130), b""),
    (
        HostKeyPinned(
            machine=Target("mch_456", "Production Server", "192.168.1.100"),
            host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            fingerprint="SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        ),
        b"",
    ),
    (SessionWarned(EndReason.IDLE_TIMEOUT, "the session ends in 60 s: nobody has typed for 3540 s", 60), b""),
)


def record(session_id: str = SESSION, org_id: str = ORG) -> list[Recorded]:
    """The examples as a whole, valid record."""
    chain, recorded = GENESIS, []
    for seq, (event, data) in enumerate(EVENTS, start=1):
        sealed = Recorded.seal(
            chain, org_id=org_id, session_id=session_id, seq=seq, at=FIRST_AT + seq * 1000, event=event, data=data
        )
        recorded.append(sealed)
        chain = sealed.chain
    return recorded
