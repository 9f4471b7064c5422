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


CONTINUED_LATE = "a secondary prompt comes after 0.3 s of silence, when its command's first line was told"
MARKED_LATE = "the shell's mark comes after 0.3 s of silence, when the command was told without it"
STALLED: dict[str, str] = {
    **dict.fromkeys(
        (
            *("bash-here-document", "zsh-here-document", "marks-bash-here-document"),
            *("zsh-quotes-continue", "dash-quotes-continue", "ash-quotes-continue", "zsh-right-prompt"),
            *("zsh-backslash-continues", "dash-backslash-continues", "ash-backslash-continues"),
            *("bash-docker-exec-ash", "bash-docker-run", "ash-docker-exec-ash", "bash-docker-exec-dumb-bash", "bash-nspawn"),
            *("bash-chroot", "bash-chroot-on-a-terminal-of-its-own"),
            *("bash-python-basic", "bash-sqlite", "bash-psql", "bash-mysql", "bash-sqlite-history"),
        ),
        CONTINUED_LATE,
    ),
    **dict.fromkeys(
        ("marks-zsh-typing", "marks-zsh-quotes-continue", "marks-zsh-history", "marks-zsh-with-status", "marks-zsh-password"),
        MARKED_LATE,
    ),
    "bash-password-before-it-is-asked-for": "the silence lies between a question in the same line and the shell's prompt",
}
"""What is told wrongly, and why, when a machine stalls between the newline of a line and the prompt that follows."""


@EACH
def test_keys_may_be_faster_than_the_prompt(scenario: Scenario) -> None:
    recording = Recording.load(scenario).hurried()
    assert recording.problems(recording.replay()) == []


@EACH
def test_what_a_machine_that_stalls_before_its_prompt_makes_wrong_is_known(scenario: Scenario) -> None:
    recording = Recording.load(scenario).hurried(stalls=True)
    told = recording.replay()
    assert (recording.problems(told) != []) == (scenario.name in STALLED)
    assert not any(secret in str(each) for secret in scenario.secrets for each in told), "and never a secret"


def test_what_is_known_to_be_wrong_is_recorded() -> None:
    assert set(STALLED) <= {scenario.name for scenario in SCENARIOS}
