"""When the deletion cost of a worker's pod changes, and to what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ssh_worker.deletion_cost import Pod, next_cost, own_pod


@pytest.mark.parametrize(
    ("cost", "sessions", "expected"),
    [
        pytest.param(None, 0, 0, id="empty from the start"),
        pytest.param(None, 5, 8, id="unknown"),
        pytest.param(0, 1, 1, id="the first session"),
        pytest.param(4, 5, 8, id="one more than the cost covers"),
        pytest.param(8, 4, 8, id="half of the cost"),
        pytest.param(8, 2, 2, id="a quarter of the cost"),
        pytest.param(8, 0, 0, id="the last one is gone"),
        pytest.param(100, 100, 100, id="covered exactly"),
    ],
)
def test_next_cost(cost: int | None, sessions: int, expected: int) -> None:
    assert next_cost(cost, sessions) == expected


@given(st.one_of(st.none(), st.integers(0, 1 << 20)), st.integers(0, 100_000))
def test_a_cost_covers_its_sessions_and_stays_once_it_does(cost: int | None, sessions: int) -> None:
    new = next_cost(cost, sessions)
    assert sessions <= new <= 4 * sessions
    assert next_cost(new, sessions) == new


@given(st.integers(1, 10_000), st.lists(st.sampled_from([-1, 1]), max_size=200))
def test_a_worker_that_has_now_one_more_and_now_one_less_writes_seldom(sessions: int, steps: list[int]) -> None:
    cost, writes = next_cost(None, sessions), 0
    low, high = sessions, sessions
    for step in steps:
        sessions = max(1, sessions + step)
        low, high = min(low, sessions), max(high, sessions)
        new = next_cost(cost, sessions)
        writes += new != cost
        cost = new
    if high < 2 * low:  # it went to and fro within one doubling
        assert writes <= 1


def test_only_a_named_pod_on_kubernetes_has_a_cost() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert own_pod("", inside) is None
    assert own_pod("ssh-worker-1", {}) is None
    assert own_pod("ssh-worker-1", inside) == Pod("ssh-worker-1", "https://10.0.0.1:6443")
    assert own_pod("w", {"KUBERNETES_SERVICE_HOST": "fd00::1"}) == Pod("w", "https://[fd00::1]:443")
