"""Recorded scenarios: every byte as it went by, to be observed again with other frame boundaries."""

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from terminal import CommandEntered, InputEchoed, InputMasked, Observation, Observer, TextShown
from tests.corpus.scenarios import Scenario, play
from tests.corpus.shells import Shell

DIRECTORY = Path(__file__).with_name("recordings")

type Event = tuple[str, str | list[int]]
"""`typed` or `shown` with bytes as Latin-1 text, `resized` with columns and rows, `quiet` with nothing."""


class Recording(NamedTuple):
    scenario: Scenario
    steps: list[Event]

    @classmethod
    def load(cls, scenario: Scenario) -> Self:
        return cls(scenario, [(kind, what) for kind, what in json.loads(_file(scenario).read_text())])

    def save(self) -> None:
        DIRECTORY.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(step) for step in self.steps)
        _file(self.scenario).write_text(f"[\n{lines}\n]\n")

    def replay(self, randomness: random.Random | None = None) -> list[Observation]:
        """What an observer tells of it; with `randomness`, of the same bytes in other frames."""
        observer = Observer(self.scenario.cols, self.scenario.rows)
        told: list[Observation] = []
        seq = 3
        for kind, what in _reframed(self.steps, randomness) if randomness else self.steps:
            match kind, what:
                case "typed", str():
                    told += observer.typed(what.encode("latin-1"))
                case "shown", str():
                    seq += 1
                    told += observer.shown(what.encode("latin-1"), seq)
                    seq += 0 if not told else 1
                case "resized", [cols, rows]:
                    told += observer.resized(int(cols), int(rows))
                case _:
                    told += observer.settle()
        return [*told, *observer.finish()]

    def hurried(self, *, stalls: bool = False) -> Self:
        """The same with every prompt drawn only after the keys that were typed at it; `stalls`: and after a silence before them."""
        steps: list[Event] = []
        for step in self.steps:
            if step[0] == "typed":
                is_quiet = bool(steps) and steps[-1][0] == "quiet"
                while steps and steps[-1][0] == "quiet":
                    steps.pop()
                kind, shown = steps.pop() if steps and steps[-1][0] == "shown" else ("", "")
                output, newline, prompt = str(shown).rpartition("\n")
                steps += [(kind, output + newline)] if newline else []
                steps += [("quiet", "")] if stalls and is_quiet else []
                steps += [step, (kind, prompt)] if prompt else [step]
            else:
                steps.append(step)
        return self._replace(steps=steps)

    def problems(self, told: list[Observation]) -> list[str]:
        """In what these observations differ from the truth."""
        scenario = self.scenario
        entered = [each for each in told if isinstance(each, CommandEntered)]
        commands = tuple((each.context, each.text) if each.context else each.text for each in entered)
        problems = []
        if commands != scenario.commands:
            problems.append(f"commands {commands} instead of {scenario.commands}")
        if [each.n for each in entered] != list(range(1, len(entered) + 1)):
            problems.append("numbers are not 1, 2, 3 …")
        if scenario.confidence and any(each.confidence != scenario.confidence for each in entered):
            problems.append(f"confidence {[each.confidence for each in entered]}")
        problems += [f"{secret!r} in {each}" for secret in scenario.secrets for each in told if secret in str(each)]
        unshown = [each for each in told if not isinstance(each, TextShown)]
        problems += [f"{secret!r} in {each}" for secret in scenario.displayed for each in unshown if secret in str(each)]
        is_masked = any(isinstance(each, InputMasked) for each in told)
        if (scenario.secrets or scenario.displayed) and not is_masked:
            problems.append("that something was masked is not told")
        text = "\n".join(each.text for each in told if isinstance(each, TextShown))
        problems += [f"text {wanted!r} not in {text!r}" for wanted in scenario.texts if wanted not in text]
        typed = b"".join(what.encode("latin-1") for kind, what in self.steps if kind == "typed" and isinstance(what, str))
        if not scenario.secrets and not scenario.displayed:
            echoed = b"".join(each.data for each in told if isinstance(each, InputEchoed))
            if not is_masked and echoed != typed:
                problems.append(f"echoed {echoed!r} instead of {typed!r}")
        return problems


def record(scenario: Scenario) -> Recording:
    """Play it on a real shell."""
    steps: list[Event] = []
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PS1": "$ ", "HISTFILE": f"{home}/history", "PYTHON_HISTORY": f"{home}/python"}
        for name, content in scenario.files.items():
            Path(home, name).write_text(content)
        shell = Shell(
            scenario.shell,
            typed=lambda data: steps.append(("typed", data.decode("latin-1"))),
            shown=lambda data: steps.append(("shown", data.decode("latin-1"))),
            quiet=lambda: steps.append(("quiet", "")),
            resized=lambda cols, rows: steps.append(("resized", [cols, rows])),
            cols=scenario.cols,
            rows=scenario.rows,
            environment=environment | dict(scenario.environment),
            directory=home,
        )
        with shell:
            play(scenario, shell)
    return Recording(scenario, steps)


def _reframed(steps: list[Event], randomness: random.Random) -> Iterator[Event]:
    """The same bytes in the same order; output between two other steps is cut anew, anywhere."""
    gathered = ""
    for kind, what in [*steps, ("end", "")]:
        if kind == "shown" and isinstance(what, str):
            gathered += what
            continue
        while gathered:
            size = randomness.choice((1, 2, 3, 7, 30, 200, 5000))
            yield "shown", gathered[:size]
            gathered = gathered[size:]
        if kind != "end":
            yield kind, what


def _file(scenario: Scenario) -> Path:
    return DIRECTORY / f"{scenario.name}.json"
