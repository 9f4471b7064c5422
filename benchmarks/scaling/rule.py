"""The rule as Kubernetes follows it: KEDA's metric, the autoscaler's desired number, its window and its policies.

Source: Kubernetes, "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior).
"""

import math
from collections import deque
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct

MANIFESTS: Final = Path(__file__).parent.parent.parent / "k8s"
TOLERANCE: Final = 0.1
"""The autoscaler lets a figure be this far from its target."""


class Policy(Struct, frozen=True):
    """How far the number may move within a period; the widest of several counts."""

    pods: int
    percent: int
    period_seconds: float

    def may_change(self, replicas: int) -> int:
        """By how many, from `replicas` at the period's begin."""
        return max(self.pods, math.ceil(replicas * self.percent / 100))


class Rule(Struct, frozen=True):
    """What the ScaledObject of the workers says."""

    lag_threshold: int
    replicas_min: int
    replicas_max: int
    up: tuple[Policy, ...]
    down: tuple[Policy, ...]
    down_window_seconds: float


class Autoscaler:
    """Asked every quarter of a minute how many replicas there should be."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._recommended: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def replicas(self, now: float, current: int, sessions: int) -> int:
        """How many from now on; `current` without those that drain, `sessions` waiting or live."""
        wanted = desired(sessions, current, self._rule)
        self._recommended.append((now, wanted))
        while self._recommended[0][0] < now - self._rule.down_window_seconds:
            self._recommended.popleft()
        if wanted < current:
            wanted = min(current, max(each for _, each in self._recommended))
        new = max(self._rule.replicas_min, min(self._rule.replicas_max, self._within_policies(now, current, wanted)))
        if new != current:
            self._changes.append((now, new - current))
        return new

    def _within_policies(self, now: float, current: int, wanted: int) -> int:
        sign = 1 if wanted > current else -1
        bounds = []
        for policy in self._rule.up if sign > 0 else self._rule.down:
            moved = sum(by for at, by in self._changes if at > now - policy.period_seconds and by * sign > 0)
            began = current - moved
            bounds.append(began + sign * policy.may_change(began))
        return min(wanted, max(bounds)) if sign > 0 else max(wanted, min(bounds))


def desired(sessions: int, current: int, rule: Rule) -> int:
    """A replica for each `lag_threshold` sessions; as many as there are when that is nearly right."""
    if current and abs(sessions / (rule.lag_threshold * current) - 1) <= TOLERANCE:
        return current
    return max(rule.replicas_min, min(rule.replicas_max, math.ceil(sessions / rule.lag_threshold)))


def manifest_rule() -> Rule:
    """The rule in `k8s/autoscaling/ssh-worker.yaml`."""
    spec: dict[str, Any] = yaml.safe_load((MANIFESTS / "autoscaling" / "ssh-worker.yaml").read_text())["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return Rule(
        lag_threshold=int(spec["triggers"][0]["metadata"]["lagThreshold"]),
        replicas_min=spec["minReplicaCount"],
        replicas_max=spec["maxReplicaCount"],
        up=tuple(_policy(each) for each in behavior["scaleUp"]["policies"]),
        down=tuple(_policy(each) for each in behavior["scaleDown"]["policies"]),
        down_window_seconds=behavior["scaleDown"]["stabilizationWindowSeconds"],
    )


def _policy(policy: dict[str, Any]) -> Policy:
    is_percent = policy["type"] == "Percent"
    return Policy(0 if is_percent else policy["value"], policy["value"] if is_percent else 0, policy["periodSeconds"])
