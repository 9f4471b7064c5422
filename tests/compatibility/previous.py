"""The release before this one, as a tree of its own, and its services as processes."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.integration.processes import Service

ROOT = Path(__file__).parent.parent.parent
VARIABLE = "VSAY_TEST_PREVIOUS"
"""Any commit to take for the release before; else it is the newest tag `v…` that is not this very commit."""


def previous() -> str | None:
    """The commit or tag; None when nothing has been released yet, or this is no git repository."""
    if given := os.environ.get(VARIABLE):
        return given
    tags = _git("tag", "--list", "v*", "--sort=-version:refname", "--no-contains", "HEAD")
    return tags.split()[0] if tags.split() else None


def unpack(revision: str, directory: Path) -> Path:
    """The files of `revision` below `directory`."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(directory, filter="data")
    return directory


class PreviousService(Service):
    """`python -m services.<name>` of another tree, with this environment's packages."""

    def __init__(self, tree: Path, directory: Path, name: str, settings: Mapping[str, str]) -> None:
        super().__init__(directory, name, settings)
        self._tree = tree

    def _command(self) -> list[str]:
        program = (
            f"import runpy, sys; sys.path.insert(0, {str(self._tree)!r}); "
            f"import contracts; assert contracts.__file__.startswith({str(self._tree)!r}); "
            f"runpy.run_module('services.{self._name}', run_name='__main__', alter_sys=True)"
        )
        return [sys.executable, "-c", program]


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    return run.stdout if run.returncode == 0 else ""
