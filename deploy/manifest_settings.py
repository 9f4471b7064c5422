"""The settings files of `k8s/base/settings`: every variable of a service is in one, set or as a comment with its default.

`just documents` keeps them complete: it adds what is new, takes away what is gone, and leaves what is set as it is.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from services.audit.settings import AuditSettings
from services.runtime.settings import ClickHouseSettings, StreamSettings, Variable, variables
from services.session_api.settings import ApiSettings
from services.ssh_worker.settings import WorkerSettings

BASE: Final = Path(__file__).parent.parent / "k8s" / "base"

SERVICES: Final[dict[str, type[msgspec.Struct]]] = {
    "session-api": ApiSettings,
    "ssh-worker": WorkerSettings,
    "audit": AuditSettings,
}

_SET: Final = re.compile(r"^(VSAY_\w+)=(.*)$", re.MULTILINE)
_ENV: Final = re.compile(r"- name: (VSAY_\w+)")


def files() -> Iterator[tuple[Path, str]]:
    """Each settings file and what it should say."""
    common: dict[str, Variable] = {}
    shared: tuple[tuple[str, type[msgspec.Struct]], ...] = (("bus", StreamSettings), ("clickhouse", ClickHouseSettings))
    elsewhere = {name for service in SERVICES for name in _ENV.findall((BASE / f"{service}.yaml").read_text(encoding="utf-8"))}
    for file, kind in (*shared, *SERVICES.items()):
        own = {each.name: each for each in variables(kind) if each.name not in common}
        if file not in SERVICES:
            common |= own
        path = BASE / "settings" / f"{file}.env"
        yield path, _text(own, elsewhere, chosen(path))


def chosen(path: Path) -> dict[str, str]:
    """What a settings file sets."""
    return dict(_SET.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _text(own: Mapping[str, Variable], elsewhere: set[str], values: Mapping[str, str]) -> str:
    lines = ["# Kept complete by `just documents`: what is set stays, the rest is shown with its default."]
    for name in sorted(own.keys() - elsewhere | values.keys()):
        if name in own:
            lines += ["", f"# {own[name].description}"]
        lines.append(f"{name}={values[name]}" if name in values else f"# {name}={own[name].default}")
    return "\n".join(lines) + "\n"
