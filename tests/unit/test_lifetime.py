"""When a session ends by itself, and when its viewers are warned."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.directory import Machine
from contracts.events import EndReason
from services.ssh_worker.lifetime import Lifetime, Limits, limits
from services.ssh_worker.session import EndIsNear, Stopped


def run(
    lifetime: Lifetime, until: float, typed_at: tuple[float, ...] = (), now: float = 0.0
) -> list[tuple[float, EndIsNear | Stopped]]:
    """What happens at which time, when the owner looks as often as it is told, and somebody types at those times."""
    seen, to_type = [], list(typed_at)
    while now <= until:
        while to_type and to_type[0] <= now:
            lifetime.typed(to_type.pop(0))
        due, again_at = lifetime.look(now)
        if due:
            seen.append((now, due))
        if isinstance(due, Stopped):
            break
        now = again_at if due is None else now
    return seen


def test_an_idle_session_is_warned_and_then_ended() -> None:
    seen = run(Lifetime(Limits(idle=600, duration=0, warn=60), 0), 10_000)
    assert [(at, type(due), due.reason) for at, due in seen] == [
        (540, EndIsNear, EndReason.IDLE_TIMEOUT),
        (600, Stopped, EndReason.IDLE_TIMEOUT),
    ]
    assert isinstance(seen[0][1], EndIsNear)
    assert seen[0][1].ends_in_seconds == 60


def test_typing_after_the_warning_keeps_it_and_it_is_warned_again() -> None:
    lifetime = Lifetime(Limits(idle=600, duration=0, warn=60), 0)
    assert isinstance(lifetime.look(540)[0], EndIsNear)
    lifetime.typed(560)
    assert lifetime.look(600) == (None, 1100)
    assert isinstance(lifetime.look(1100)[0], EndIsNear)
    assert isinstance(lifetime.look(1160)[0], Stopped)


def test_a_session_that_is_used_ends_when_it_has_run_for_too_long() -> None:
    seen = run(Lifetime(Limits(idle=600, duration=1000, warn=60), 0), 10_000, typed_at=tuple(range(0, 5000, 50)))
    assert [(at, due.reason) for at, due in seen] == [(940, EndReason.MAX_DURATION), (1000, EndReason.MAX_DURATION)]


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0.1, 1e6))
def test_a_warning_always_comes_before_the_end(idle: float, duration: float, warn: float) -> None:
    seen = run(Lifetime(Limits(idle, duration, warn), 0), 1e9)
    last, reason = seen[-1][0], seen[-1][1].reason
    assert isinstance(seen[-1][1], Stopped)
    warned = [at for at, due in seen if isinstance(due, EndIsNear) and due.reason is reason]
    assert len(warned) == 1
    assert warned[0] <= last


def test_without_limits_nothing_ever_happens() -> None:
    assert run(Lifetime(Limits(0, 0, 60), 0), 1e6) == []


def test_a_machine_has_its_own_limits_where_it_says_so() -> None:
    plain = Machine("mch_1", "m", "org_a", "h", "l", "c")
    own = Machine("mch_1", "m", "org_a", "h", "l", "c", idle_timeout_seconds=5, max_duration_seconds=0)
    assert limits(plain, 100, 200, 10) == Limits(100, 200, 10)
    assert limits(own, 100, 200, 10) == Limits(5, 0, 10)
