"""Workers that start, take sessions, drain and end; sessions that come, wait, live, and end or are cut."""

import heapq
import math
import random
from collections import deque
from typing import Final

from msgspec import Struct

from benchmarks.scaling.rule import Autoscaler, Rule
from services.ssh_worker.deletion_cost import WRITE_SECONDS_MIN, next_cost

DAY_SECONDS: Final = 86_400.0
SYNC_SECONDS: Final = 15.0
"""How often the autoscaler looks, and KEDA asks."""


class Demand(Struct, frozen=True):
    """One session that somebody wants, in seconds of the day; how long it lasts if nobody cuts it."""

    at: float
    seconds: float


class Conditions(Struct, frozen=True):
    """What a run of the model is given. `rule` None: `fixed` workers from the first moment to the last."""

    places: int
    drain_seconds: float
    rule: Rule | None = None
    fixed: int = 0
    prefers_empty: bool = True
    start_seconds: float = 20.0
    wait_seconds_max: float = 300.0


class Outcome(Struct):
    """What came of a day. `samples`: time, live, waiting, places of workers that take sessions, workers that drain."""

    served: int = 0
    cut: int = 0
    refused: int = 0
    waits: list[float] = []
    worker_seconds: float = 0.0
    samples: list[tuple[float, int, int, int, int]] = []


class Worker:
    """One pod. `is_ready` while it takes sessions."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.began = now
        self.is_ready = False
        self.drains = False
        self.sessions: set[int] = set()
        self.cost: int | None = None
        self._cost_written = -math.inf

    def keep_cost(self, now: float) -> None:
        """As `services.ssh_worker.deletion_cost` does."""
        new = next_cost(self.cost, len(self.sessions))
        if new != self.cost and now - self._cost_written >= WRITE_SECONDS_MIN:
            self.cost, self._cost_written = new, now


class Day:
    """Runs `demands` through `conditions`, once."""

    def __init__(self, demands: list[Demand], conditions: Conditions, seed: int) -> None:
        self._conditions = conditions
        self._demands = demands
        self._random = random.Random(seed)
        self._autoscaler = Autoscaler(conditions.rule) if conditions.rule else None
        self._events: list[tuple[float, int, str, int]] = []
        self._workers: dict[int, Worker] = {}
        self._where: dict[int, Worker] = {}
        self._waiting: deque[int] = deque()
        self._numbers = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Until the last session of the day has ended."""
        conditions = self._conditions
        for _ in range(conditions.rule.replicas_min if conditions.rule else conditions.fixed):
            self._ready(self._start(0.0))
        for index, demand in enumerate(self._demands):
            self._at(demand.at, "comes", index)
        self._at(0.0, "look", 0)
        now = 0.0
        while self._events:
            now, _, what, which = heapq.heappop(self._events)
            match what:
                case "comes":
                    self._waiting.append(which)
                case "ends":
                    self._end(which, now)
                case "ready":
                    if which in self._workers and not self._workers[which].drains:
                        self._ready(self._workers[which])
                case "deadline":
                    self._cut(which, now)
                case "look":
                    self._look(now)
            self._assign(now)
        for worker in list(self._workers.values()):
            self._gone(worker, now)
        return self.outcome

    def _at(self, when: float, what: str, which: int) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (when, self._numbers, what, which))

    def _start(self, now: float) -> Worker:
        self._numbers += 1
        worker = self._workers[self._numbers] = Worker(self._numbers, now)
        return worker

    def _ready(self, worker: Worker) -> None:
        worker.is_ready = True

    def _assign(self, now: float) -> None:
        """Whoever waits goes to any worker with a free place: JetStream gives to whichever asked."""
        while self._waiting and now - self._demands[self._waiting[0]].at > self._conditions.wait_seconds_max:
            self._waiting.popleft()
            self.outcome.refused += 1
        places = self._conditions.places
        while self._waiting:
            free = [each for each in self._workers.values() if each.is_ready and len(each.sessions) < places]
            if not free:
                return
            worker, session = self._random.choice(free), self._waiting.popleft()
            worker.sessions.add(session)
            self._where[session] = worker
            self.outcome.waits.append(now - self._demands[session].at)
            self._at(now + self._demands[session].seconds, "ends", session)

    def _end(self, session: int, now: float) -> None:
        worker = self._where.pop(session, None)
        if worker is None:
            return  # it was cut
        worker.sessions.remove(session)
        self.outcome.served += 1
        if worker.drains and not worker.sessions:
            self._gone(worker, now)

    def _look(self, now: float) -> None:
        counted = [each for each in self._workers.values() if not each.drains]
        for worker in counted:
            worker.keep_cost(now)
        if self._autoscaler:
            wanted = self._autoscaler.replicas(now, len(counted), len(self._waiting) + len(self._where))
            for _ in range(wanted - len(counted)):
                self._at(now + self._conditions.start_seconds, "ready", self._start(now).number)
            for worker in sorted(counted, key=self._order)[: max(0, len(counted) - wanted)]:
                self._drain(worker, now)
        ready = sum(each.is_ready for each in self._workers.values())
        draining = sum(each.drains for each in self._workers.values())
        self.outcome.samples.append((now, len(self._where), len(self._waiting), ready * self._conditions.places, draining))
        if now < DAY_SECONDS or self._where or self._waiting:
            self._at(now + SYNC_SECONDS, "look", 0)

    def _order(self, worker: Worker) -> tuple[bool, int, int]:
        """Which pod a ReplicaSet removes first: one that is not ready, then the lowest cost, then the newest."""
        cost = (worker.cost or 0) if self._conditions.prefers_empty else 0
        return worker.is_ready, cost, -worker.number

    def _drain(self, worker: Worker, now: float) -> None:
        worker.is_ready, worker.drains = False, True
        if worker.sessions:
            self._at(now + self._conditions.drain_seconds, "deadline", worker.number)
        else:
            self._gone(worker, now)

    def _cut(self, number: int, now: float) -> None:
        worker = self._workers.get(number)
        if worker is None:
            return  # it was empty before
        for session in worker.sessions:
            del self._where[session]
            self.outcome.cut += 1
        worker.sessions.clear()
        self._gone(worker, now)

    def _gone(self, worker: Worker, now: float) -> None:
        self.outcome.worker_seconds += now - worker.began
        del self._workers[worker.number]


def demands_of_a_day(count: int, seed: int) -> list[Demand]:
    """An ordinary working day: two humps, a lunch, and few at night; mostly short sessions, some of hours."""
    generator = random.Random(seed)
    hours = [
        0.1 + 1.0 * _hump(hour, 10.5, 1.8) + 0.9 * _hump(hour, 15.0, 2.0) + 0.15 * _hump(hour, 21.0, 1.5) for hour in _minutes()
    ]
    times = sorted(60 * (minute + generator.random()) for minute in generator.choices(range(1440), hours, k=count))
    return [Demand(at, _seconds(generator)) for at in times]


def _minutes() -> list[float]:
    return [minute / 60 for minute in range(1440)]


def _hump(hour: float, middle: float, width: float) -> float:
    return math.exp(-(((hour - middle) / width) ** 2))


def _seconds(generator: random.Random) -> float:
    median, spread = generator.choices([(240, 1.0), (1800, 0.8), (10_800, 0.5)], [70, 24, 6])[0]
    return min(8 * 3600.0, generator.lognormvariate(math.log(median), spread))


def oracle(demands: list[Demand], places: int) -> tuple[float, int]:
    """Worker seconds, and workers at the peak, of one who knows the future and can move sessions: never a place too many."""
    changes = sorted([(each.at, 1) for each in demands] + [(each.at + each.seconds, -1) for each in demands])
    seconds, live, peak, before = 0.0, 0, 0, 0.0
    for at, by in changes:
        seconds += math.ceil(live / places) * (at - before)
        live, before = live + by, at
        peak = max(peak, live)
    return seconds, math.ceil(peak / places)
