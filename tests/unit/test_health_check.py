"""The program that a container asks about its own health."""

import subprocess
import sys

import pytest


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.runtime.health_check", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        pytest.param((), {}, id="no variable named"),
        pytest.param(("VSAY_HEALTH_PORT",), {}, id="the variable is not set"),
        pytest.param(("VSAY_HEALTH_PORT",), {"VSAY_HEALTH_PORT": "tcp://10.0.0.1:80"}, id="it has no port"),
        pytest.param(("A", "/b", "c"), {"A": "1"}, id="too much said"),
    ],
)
def test_a_wrong_call_says_how_to_call_it(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    done = run(*arguments, **environment)
    assert done.returncode == 2
    assert "VARIABLE_WITH_THE_PORT" in done.stderr
