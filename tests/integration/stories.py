"""Made-up sessions as their worker would have recorded them."""

import random
from datetime import UTC, datetime, timedelta

from nats.js import JetStreamContext

from contracts import subjects, wire
from contracts.events import (
    CommandEntered,
    CommandFinished,
    Confidence,
    EndReason,
    Event,
    InputEchoed,
    OutputProduced,
    Person,
    Role,
    SessionClaimed,
    SessionEnded,
    SessionStarted,
    Target,
    TerminalResized,
    TextShown,
    ViewerAttached,
    ViewerDetached,
)
from contracts.wire import GENESIS, Recorded

ORG = "org_acme"
JOHN = Person("usr_123", "John Doe", "john@example.com")
JANE = Person("usr_456", "Jane Roe", "jane@example.com")
WEB = Target("mch_web", "Web", "192.0.2.1")
DB = Target("mch_db", "Datenbank für alle 💾", "192.0.2.2")
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Story:
    """One session's record; time stands still but for `later`."""

    def __init__(self, session_id: str, *, org_id: str = ORG, at: datetime = NOON) -> None:
        self.session_id = session_id
        self.org_id = org_id
        self.at = at
        self.events: list[Recorded] = []
        self._output_bytes = 0
        self._commands = 0

    def later(self, **duration: float) -> "Story":
        self.at += timedelta(**duration)
        return self

    def record(self, event: Event, data: bytes = b"") -> Recorded:
        recorded = Recorded.seal(
            self.events[-1].chain if self.events else GENESIS,
            org_id=self.org_id,
            session_id=self.session_id,
            seq=len(self.events) + 1,
            at=(self.at - EPOCH) // timedelta(microseconds=1),
            event=event,
            data=data,
        )
        self.events.append(recorded)
        return recorded

    def claimed(self, user: Person = JOHN, machine: Target = WEB, worker: str = "worker-1") -> "Story":
        self.record(SessionClaimed(user, machine, 80, 24, "192.0.2.9", "curl/8", self.at - timedelta(seconds=1), worker))
        return self

    def started(self) -> "Story":
        self.record(SessionStarted("deploy", "publickey", "SHA256:abc", "SSH-2.0-OpenSSH_9.9", 42))
        return self

    def output(self, data: bytes = b"$ ") -> "Story":
        self._output_bytes += len(data)
        self.record(OutputProduced(self._output_bytes), data)
        return self

    def command(self, text: str, shown: str | None = None) -> "Story":
        seq = len(self.events)
        self._commands += 1
        self.record(CommandEntered(self._commands, text, Confidence.SCREEN, seq, seq + 1))
        if shown is not None:
            self.record(TextShown(self._commands, shown, seq, seq + 1, exit_status=0))
        return self

    def finished(self, exit_status: int | None = None) -> "Story":
        self.record(CommandFinished(self._commands, len(self.events), exit_status))
        return self

    def ended(self, reason: EndReason = EndReason.EXITED, **fields: object) -> "Story":
        totals = {"output_bytes_total": self._output_bytes, "commands_total": self._commands}
        self.record(SessionEnded(reason, **(totals | fields)))  # type: ignore[arg-type]
        return self


def some_story(randomness: random.Random, session_id: str) -> Story:
    """A session with events of every type; some of them go on."""
    start = NOON + timedelta(days=randomness.randrange(-40, 40), microseconds=randomness.randrange(10**9))
    story = Story(session_id, org_id=randomness.choice((ORG, "org_other")), at=start)
    story.claimed(randomness.choice((JOHN, JANE)), randomness.choice((WEB, DB)))
    if randomness.random() < 0.2:
        return story.ended(EndReason.CONNECT_FAILED, code=randomness.choice(("unreachable", "timeout")))
    story.later(seconds=1).started()
    story.record(ViewerAttached("view_1", JOHN, Role.DRIVER, "192.0.2.9", "curl/8"))
    for _ in range(randomness.randrange(30)):
        story.later(milliseconds=randomness.randrange(5000))
        match randomness.randrange(6):
            case 0:
                story.command(f"echo {randomness.random()}", f"out\n{randomness.random()}")
                if randomness.random() < 0.8:
                    story.later(seconds=randomness.randrange(5)).finished(randomness.choice((None, 0, 1, 130)))
            case 1:
                story.record(InputEchoed(len(story.events)), randomness.randbytes(3))
            case 2:
                story.record(TerminalResized(randomness.randrange(1, 1000), 24))
            case 3:
                story.record(ViewerAttached("view_2", JANE, Role.OBSERVER, "192.0.2.8", "curl/8"))
                story.record(ViewerDetached("view_2", JANE))
            case _:
                story.output(randomness.randbytes(randomness.randrange(1, 500)))
    if randomness.random() < 0.7:
        story.later(seconds=2).ended(exit_status=randomness.choice((0, 1, 255)))
    return story


async def publish(jetstream: JetStreamContext, *events: Recorded) -> None:
    """Store these events in the stream."""
    for event in events:
        await jetstream.publish(subjects.event(event.session_id, event.type), wire.encode(event))
