"""Every recorded session is understood, however its bytes are cut into frames."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terminal import CommandEntered, CommandFinished
from tests.corpus.recordings import Recording
from tests.corpus.scenarios import Scenario
from tests.corpus.sessions import SCENARIOS

EACH = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@EACH
def test_commands_masking_and_text_are_as_they_were(scenario: Scenario) -> None:
    recording = Recording.load(scenario)
    assert recording.problems(recording.replay()) == []


@EACH
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_frames_do_not_matter(scenario: Scenario, seed: int) -> None:
    recording = Recording.load(scenario)
    assert recording.problems(recording.replay(random.Random(seed))) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_with_marks_tells_status_and_directory(shell: str) -> None:
    scenario = next(each for each in SCENARIOS if each.name == f"marks-{shell}-with-status")
    told = Recording.load(scenario).replay()
    assert [each.exit_status for each in told if isinstance(each, CommandFinished)] == [0, 1, 7, 0]
    assert [each.cwd for each in told if isinstance(each, CommandEntered)][1:] == ["/usr"] * 3
