"""Plays scenarios on real shells and shows what the observer makes of them: `python -m tests.corpus.play [--record] [NAME…]`."""

import re
import sys

from terminal import CommandEntered
from tests.corpus.recordings import record
from tests.corpus.sessions import SCENARIOS


def main() -> None:
    arguments = sys.argv[1:]
    wanted = [name for name in arguments if not name.startswith("--")]
    bad = 0
    for scenario in SCENARIOS:
        if wanted and not any(re.match(name, scenario.name) for name in wanted):
            continue
        if not scenario.is_installed:
            print("MISSING", scenario.name)
            continue
        recording = record(scenario)
        told = recording.replay()
        got = tuple((each.context, each.text) if each.context else each.text for each in told if isinstance(each, CommandEntered))
        problems = recording.problems(told)
        print("ok " if not problems else "BAD", scenario.name)
        if problems:
            bad += 1
            for problem in problems:
                print("    ", problem)
            print("     got", got)
            if "--trace" in arguments:
                for step in recording.steps:
                    print("       ", step)
                for each in told:
                    print("       ", each)
        if "--record" in arguments:
            recording.save()
    print(bad, "bad")


if __name__ == "__main__":
    main()
