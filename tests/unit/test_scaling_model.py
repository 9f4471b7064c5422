"""The model of `benchmarks/scaling`: the autoscaler's arithmetic, and that no session gets lost in it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scaling.model import Conditions, Day, Demand, demands_of_a_day, oracle
from benchmarks.scaling.rule import Autoscaler, Policy, Rule, desired, manifest_rule

RULE = Rule(
    lag_threshold=7,
    replicas_min=1,
    replicas_max=20,
    up=(Policy(4, 0, 30.0), Policy(0, 100, 30.0)),
    down=(Policy(1, 0, 120.0),),
    down_window_seconds=600.0,
)

demands = st.lists(
    st.builds(Demand, at=st.floats(0, 3600), seconds=st.floats(1, 7200)).filter(lambda demand: demand.seconds > 0), max_size=60
)


@pytest.mark.parametrize(
    ("sessions", "current", "expected"),
    [
        pytest.param(0, 3, 1, id="none: the minimum"),
        pytest.param(21, 3, 3, id="exactly right"),
        pytest.param(23, 3, 3, id="within a tenth"),
        pytest.param(24, 3, 4, id="more than a tenth over"),
        pytest.param(1000, 3, 20, id="the maximum"),
    ],
)
def test_desired(sessions: int, current: int, expected: int) -> None:
    assert desired(sessions, current, RULE) == expected


def test_it_grows_at_once_and_within_the_widest_policy() -> None:
    autoscaler = Autoscaler(RULE)
    assert autoscaler.replicas(0, 1, 140) == 5  # four pods are more than a hundred percent
    assert autoscaler.replicas(15, 5, 140) == 5  # the same half minute
    assert autoscaler.replicas(45, 5, 140) == 10


def test_it_shrinks_after_the_window_and_one_at_a_time() -> None:
    autoscaler = Autoscaler(RULE)
    assert autoscaler.replicas(0, 10, 70) == 10
    assert autoscaler.replicas(300, 10, 7) == 10  # five minutes ago ten were wanted
    assert autoscaler.replicas(615, 10, 7) == 9
    assert autoscaler.replicas(630, 9, 7) == 9
    assert autoscaler.replicas(750, 9, 7) == 8


def test_the_rule_of_the_manifests_is_read() -> None:
    rule = manifest_rule()
    assert rule.lag_threshold == 70
    assert {policy.period_seconds for policy in rule.up} == {30.0}
    assert rule.down_window_seconds > 0


@settings(deadline=None)
@given(demands, st.floats(0, 3600), st.booleans(), st.integers(0, 5))
def test_every_session_is_served_cut_or_refused(given: list[Demand], drain: float, prefers: bool, seed: int) -> None:
    outcome = Day(given, Conditions(10, drain, RULE, prefers_empty=prefers), seed).run()
    assert outcome.served + outcome.cut + outcome.refused == len(given)
    assert len(outcome.waits) == outcome.served + outcome.cut
    assert all(live <= len(given) for _, live, *_ in outcome.samples)


@settings(deadline=None)
@given(demands, st.integers(0, 5))
def test_nothing_is_cut_when_a_drain_outlasts_every_session(given: list[Demand], seed: int) -> None:
    assert Day(given, Conditions(10, 7200.0, RULE), seed).run().cut == 0


def test_nobody_needs_fewer_worker_hours_than_the_oracle() -> None:
    day = demands_of_a_day(2000, 3)
    seconds, peak = oracle(day, 100)
    assert peak >= 1
    assert Day(day, Conditions(100, 14_400.0, manifest_rule()), 3).run().worker_seconds >= seconds
    assert Day(day, Conditions(100, 0.0, fixed=peak), 3).run().cut == 0
