"""What a session does next, whatever happens."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

import terminal
from contracts.commands import Attach, OpenSession
from contracts.directory import Machine
from contracts.events import ConnectError, EndReason, OutputProduced, Role, SessionEnded, ViewerDetached
from services.ssh_worker.session import (
    AttachAsked,
    Claimed,
    Connected,
    ConnectFailed,
    EndIsNear,
    Fact,
    Happening,
    HostKeyTrusted,
    Observed,
    OutputArrived,
    ResizeAsked,
    Session,
    ShellExited,
    Status,
    Stopped,
    ViewerLeft,
    decide,
    evolve,
)
from tests.unit.examples import JOHN, ORG, SESSION

MACHINE = Machine("mch_456", "Production Server", ORG, "192.168.1.100", "deploy", "deploy-key")
COMMAND = OpenSession(SESSION, ORG, JOHN, MACHINE, 80, 24, "192.168.1.50", "curl", datetime(2024, 1, 1, tzinfo=UTC))

viewers = st.sampled_from(["view_1", "view_2", "view_3"])
happenings: st.SearchStrategy[Happening] = st.one_of(
    st.just(Claimed(COMMAND, "worker-1")),
    st.just(Connected("deploy", "publickey", "SHA256:x", "OpenSSH_9.2", 5)),
    st.binary(max_size=50).map(OutputArrived),
    st.binary(max_size=9).map(lambda data: Observed(terminal.InputEchoed(data))),
    st.just(Observed(terminal.InputMasked())),
    st.integers(1, 9).map(lambda n: Observed(terminal.CommandEntered(n, "ls", "screen", 1, 1))),
    st.just(Observed(terminal.TextShown(1, "text", 1, 2))),
    st.builds(ResizeAsked, st.integers(1, 1000), st.integers(1, 1000)),
    viewers.map(lambda viewer: AttachAsked(Attach(viewer, JOHN, Role.DRIVER, "", ""))),
    viewers.map(lambda viewer: ViewerLeft(viewer, "left")),
    st.just(HostKeyTrusted(MACHINE.target(), "ssh-ed25519 AAAA", "SHA256:x")),
    st.just(EndIsNear(EndReason.IDLE_TIMEOUT, "soon", 60)),
    st.just(ConnectFailed(ConnectError.TIMEOUT, "slow")),
    st.just(ShellExited(0, None)),
    st.sampled_from(list(EndReason)).map(Stopped),
)


def happen(state: Session, happening: Happening) -> tuple[Session, tuple[Fact, ...]]:
    facts = decide(state, happening)
    for fact in facts:
        state = evolve(state, fact.event)
    return state, facts


@given(st.lists(happenings, max_size=40))
def test_whatever_happens_there_is_at_most_one_end_and_nothing_after_it(story: list[Happening]) -> None:
    state, events = Session(), []
    for happening in story:
        state, facts = happen(state, happening)
        events += [fact.event for fact in facts]
    ends = [number for number, event in enumerate(events) if isinstance(event, SessionEnded)]
    assert ends in ([], [len(events) - 1])
    assert (state.status is Status.ENDED) == bool(ends)


@given(st.lists(happenings, max_size=40))
def test_counters_are_cumulative_and_the_end_repeats_them(story: list[Happening]) -> None:
    state, total = Session(), 0
    for happening in story:
        before = state
        state, facts = happen(state, happening)
        for fact in facts:
            if isinstance(fact.event, OutputProduced):
                total += len(fact.data)
                assert fact.event.bytes_total == total
            if isinstance(fact.event, SessionEnded):
                assert fact.event.output_bytes_total == total
                assert fact.event.input_bytes_total == before.input_bytes_total


@given(st.lists(viewers.map(lambda viewer: AttachAsked(Attach(viewer, JOHN, Role.OBSERVER, "", ""))), max_size=6))
def test_who_is_attached_at_the_end_is_detached_before_it(story: list[Happening]) -> None:
    state, _ = happen(Session(), Claimed(COMMAND, "worker-1"))
    for happening in story:
        state, _ = happen(state, happening)
    attached = set(state.viewers)
    _, facts = happen(state, ShellExited(0, None))
    assert {fact.event.viewer_id for fact in facts if isinstance(fact.event, ViewerDetached)} == attached
    assert isinstance(facts[-1].event, SessionEnded)


def test_a_size_that_does_not_change_is_no_event() -> None:
    state, _ = happen(Session(), Claimed(COMMAND, "worker-1"))
    assert decide(state, ResizeAsked(80, 24)) == ()
    state, facts = happen(state, ResizeAsked(81, 24))
    assert len(facts) == 1
    assert (state.cols, state.rows) == (81, 24)


def test_masked_input_carries_neither_bytes_nor_their_number() -> None:
    state, _ = happen(Session(), Observed(terminal.InputEchoed(b"ls\r")))
    masked, facts = happen(state, Observed(terminal.InputMasked()))
    assert facts[0].data == b""
    assert masked.input_bytes_total == state.input_bytes_total == 3
