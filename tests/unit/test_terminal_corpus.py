"""Every recorded session is understood, however its bytes are cut into frames."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
