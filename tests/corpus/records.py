"""A recording as the record of a session that a worker would have written."""

from datetime import UTC, datetime

from contracts.events import AnyEvent, EndReason, Person, SessionClaimed, Target
from contracts.wire import GENESIS, Recorded
from services.ssh_worker.session import (
    Connected,
    Happening,
    Observed,
    OutputArrived,
    ResizeAsked,
    Session,
    ShellExited,
    decide,
    evolve,
)
from terminal import Observation, Observer
from tests.corpus.recordings import Recording

BEGAN_AT = 1_704_110_400_000_000
"""2024-01-01T12:00:00Z in microseconds."""

STEP_US, QUIET_US = 1_000, 500_000


class Writer:
    """Seals what happens in one session."""

    def __init__(self, session_id: str, cols: int, rows: int) -> None:
        self._session_id = session_id
        self._state = Session(cols=cols, rows=rows)
        self._at = BEGAN_AT
        self.events: list[Recorded] = []
        claimed = SessionClaimed(
            user=Person("usr_123", "John Doe", "john@example.com"),
            machine=Target("mch_456", "Production Server", "192.0.2.1"),
            cols=cols,
            rows=rows,
            ip_address="192.0.2.9",
            user_agent="",
            requested_at=datetime(2024, 1, 1, 12, tzinfo=UTC),
            worker="worker-1",
        )
        self._seal(claimed)
        self.happens(Connected("deploy", "publickey", "SHA256:abc", "SSH-2.0-OpenSSH_9.9", 42))

    def happens(self, happening: Happening) -> None:
        self._at += STEP_US
        for fact in decide(self._state, happening):
            self._seal(fact.event, fact.data)

    def quiet(self) -> None:
        self._at += QUIET_US

    def _seal(self, event: AnyEvent, data: bytes = b"") -> None:
        previous = self.events[-1].chain if self.events else GENESIS
        seq = len(self.events) + 1
        recorded = Recorded.seal(
            previous,
            org_id="org_acme",
            session_id=self._session_id,
            seq=seq,
            at=self._at,
            event=event,
            data=data,
        )
        self.events.append(recorded)
        self._state = evolve(self._state, event)


def written(recording: Recording, session_id: str) -> list[Recorded]:
    """From the claim to the end."""
    scenario = recording.scenario
    writer = Writer(session_id, scenario.cols, scenario.rows)
    observer = Observer(scenario.cols, scenario.rows)

    def observed(told: list[Observation]) -> None:
        for each in told:
            writer.happens(Observed(each))

    for kind, what in recording.steps:
        match kind, what:
            case "typed", str():
                observed(observer.typed(what.encode("latin-1")))
            case "shown", str():
                writer.happens(OutputArrived(what.encode("latin-1")))
                observed(observer.shown(what.encode("latin-1"), len(writer.events)))
            case "resized", [cols, rows]:
                observed(observer.resized(int(cols), int(rows)))
                writer.happens(ResizeAsked(int(cols), int(rows)))
            case _:
                writer.quiet()
                observed(observer.settle())
    observed(observer.finish())
    writer.happens(ShellExited(0, None))
    assert writer.events[-1].type == "ended"
    assert EndReason.EXITED
    return writer.events
