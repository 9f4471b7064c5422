"""What the Dockerfile puts into each image is what its program imports, from the one lock. Needs no Docker engine."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "deploy/requirements"
OWN = ("contracts", "terminal", "services", "deploy")

PROGRAMS = {
    "session-api": ("services.session_api.app", "services.session_api.__main__", "services.cli.commands"),
    "ssh-worker": ("services.ssh_worker.app", "services.ssh_worker.__main__"),
    "audit": ("services.audit.app", "services.audit.__main__", "services.audit.migrate"),
}
"""Image → what is run in it; each has `services.runtime.health_check` besides."""

OTHERS = {
    "session-api": {"asyncssh", "faststream"},
    "ssh-worker": {"clickhouse-connect", "litestar", "uvicorn", "websockets"},
    "audit": {"asyncssh", "litestar", "par-term-emu-core-rust", "uvicorn", "websockets"},
}
"""Image → what other services need and this one does not."""


def locked(path: Path) -> dict[str, str]:
    """Package → its whole entry, with version, marker and hashes."""
    entries = re.findall(r"^(?:[^\s#].*\\\n(?:    .*\n)+)", path.read_text(), re.MULTILINE)
    return {entry.split("==")[0]: entry for entry in entries}


IMPORT = """
import importlib, json, sys
modules, refused = json.loads(sys.argv[1])
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
for module in modules:
    importlib.import_module(module)
print(json.dumps(list(sys.modules)))
"""


def imported(image: str) -> set[str]:
    """Every module that is loaded when the image's programs are imported where only its packages can be."""
    has = set(locked(REQUIREMENTS / f"{image}.txt"))
    refused = [top for top, names in packages_distributions().items() if not {normal(name) for name in names} & (has | {"vsay"})]
    modules = [*PROGRAMS[image], "services.runtime.health_check"]
    done = subprocess.run([sys.executable, "-c", IMPORT, json.dumps([modules, refused])], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"add it to this service's extra in pyproject.toml and run `just lock`: {done.stderr}"
    return set(json.loads(done.stdout))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("image", [*PROGRAMS, "embedded-clickhouse"])
def test_an_image_installs_what_the_lock_says(image: str) -> None:
    lock, own = locked(ROOT / "requirements.lock"), locked(REQUIREMENTS / f"{image}.txt")
    assert own
    for name, entry in own.items():
        assert entry.splitlines()[0].split(";")[0].rstrip(" \\") == lock[name].splitlines()[0].split(";")[0].rstrip(" \\")
        assert entry.splitlines()[1:] == lock[name].splitlines()[1:], "run `just lock`"


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_has_not_what_only_others_need(image: str) -> None:
    assert not OTHERS[image] & set(locked(REQUIREMENTS / f"{image}.txt"))


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_has_what_its_programs_import(image: str) -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    stage = dockerfile.partition(f"FROM install AS install-{image}\n")[2].partition("\nFROM ")[0]
    copied = re.findall(r"^COPY (\S+) /app/", stage, re.MULTILINE)
    assert copied
    for module in imported(image):
        if module.partition(".")[0] in OWN:
            path = module.replace(".", "/")
            assert any(f"{path}/__init__.py".startswith(source) or f"{path}.py".startswith(source + "/") for source in copied), (
                module
            )
