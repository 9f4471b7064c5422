"""The version is said in several places, and is the same in each."""

import re
import tomllib
from pathlib import Path

from services.runtime.version import VERSION

ROOT = Path(__file__).parent.parent.parent


def test_the_code_and_its_package_say_the_same() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_images_are_labelled_with_it() -> None:
    assert re.findall(r"^ARG VERSION=(.*)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE) == [VERSION]
