"""`just bench scaling`, or `python -m benchmarks.scaling [--sessions N] [--seed N] [--output FILE]`."""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import msgspec
import plotext

from benchmarks.scaling.model import Conditions, Day, Demand, Outcome, demands_of_a_day, oracle
from benchmarks.scaling.rule import manifest_rule

PLACES = 100
DRAIN_SECONDS = 14_400.0
BURST = 500
BURST_AT = 8 * 3600.0


def main(arguments: argparse.Namespace) -> None:
    demands = demands_of_a_day(arguments.sessions, arguments.seed)
    rule = manifest_rule()
    seconds, peak = oracle(demands, PLACES)
    best = Conditions(PLACES, DRAIN_SECONDS, rule)
    runs = {
        "as in k8s/overlays/production": best,
        "  without deletion cost": msgspec.structs.replace(best, prefers_empty=False),
        "  drain of 10 min": msgspec.structs.replace(best, drain_seconds=600.0),
        "  drain of 10 min, without deletion cost": msgspec.structs.replace(best, drain_seconds=600.0, prefers_empty=False),
        "  killed, without deletion cost": msgspec.structs.replace(best, drain_seconds=0.0, prefers_empty=False),
        "  target use 0.5": msgspec.structs.replace(best, rule=msgspec.structs.replace(rule, lag_threshold=50)),
        "  target use 0.9": msgspec.structs.replace(best, rule=msgspec.structs.replace(rule, lag_threshold=90)),
        "  window of an hour before it shrinks": msgspec.structs.replace(
            best, rule=msgspec.structs.replace(rule, down_window_seconds=3600.0)
        ),
        "  a node has to be added: 180 s": msgspec.structs.replace(best, start_seconds=180.0),
        f"as many as the peak needs, always ({peak})": Conditions(PLACES, DRAIN_SECONDS, fixed=peak),
    }
    outcomes = {name: Day(demands, conditions, arguments.seed).run() for name, conditions in runs.items()}
    rows = {name: row(outcome, seconds) for name, outcome in outcomes.items()}
    crowd = sorted([*demands, *(Demand(BURST_AT + index * 0.02, 1800.0) for index in range(BURST))], key=lambda each: each.at)
    rows[f"  and {BURST} more at once at eight"] = row(Day(crowd, best, arguments.seed).run(), oracle(crowd, PLACES)[0])
    plot(next(iter(outcomes.values())), demands)
    print(table(rows, seconds))
    if arguments.output:
        Path(arguments.output).write_text(
            json.dumps({"sessions": len(demands), "seed": arguments.seed, "runs": rows}, indent=2) + "\n"
        )


def row(outcome: Outcome, oracle_seconds: float) -> dict[str, Any]:
    waits = sorted(outcome.waits)
    return {
        "served": outcome.served,
        "cut": outcome.cut,
        "refused": outcome.refused,
        "waited_at_all": sum(wait > 0 for wait in waits),
        "wait_seconds_p99": round(statistics.quantiles(waits, n=100)[98], 1),
        "wait_seconds_max": round(waits[-1], 1),
        "worker_hours": round(outcome.worker_seconds / 3600, 1),
        "times_the_oracle": round(outcome.worker_seconds / oracle_seconds, 2),
    }


def table(rows: dict[str, dict[str, Any]], oracle_seconds: float) -> str:
    names = ["served", "cut", "refused", "waited", "wait p99 s", "wait max s", "worker h", "x oracle"]
    lines = ["", f"{'':41}" + "".join(f"{name:>11}" for name in names)]
    lines += [f"{name:41}" + "".join(f"{value:>11}" for value in values.values()) for name, values in rows.items()]
    lines.append(f"{'oracle: knows the future, moves sessions':41}" + " " * 66 + f"{round(oracle_seconds / 3600, 1):>11}{1.0:>11}")
    return "\n".join(lines)


def plot(outcome: Outcome, demands: list[Demand]) -> None:
    samples = outcome.samples[::20]
    hours = [at / 3600 for at, *_ in samples]
    figure = plotext.figure.plot_size(110, 28).title(f"{len(demands)} sessions of a day, workers of {PLACES} places")
    lines = {
        "+ places of workers that take sessions": [places for *_, places, _ in samples],
        "* live sessions": [live for _, live, *_ in samples],
        ". places of workers that drain": [draining * PLACES for *_, draining in samples],
    }
    for label, values in lines.items():
        figure.draw(figure.signal(hours, values, marker=label[0]))
    figure.show(colorless=True)
    print(f"    hour of the day;  {';  '.join(lines)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just bench scaling", description=__doc__)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output")
    main(parser.parse_args())
