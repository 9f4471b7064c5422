"""The compose file asks for what `just compose` makes, and names users that ClickHouse has. Needs no Docker engine."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from deploy.compose import PASSWORDS, add_passwords

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/compose.yaml"
EMBEDDED = ROOT / "deploy/compose.embedded.yaml"


def environments(*files: Path) -> dict[str, dict[str, str]]:
    """Service → its variables, later files over earlier ones, as `docker compose` lays them."""
    merged: dict[str, dict[str, str]] = {}
    for file in files:
        services: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
        for name, service in services.items():
            merged.setdefault(name, {}).update(service.get("environment", {}))
    return merged


def login(environment: dict[str, str]) -> tuple[str, str]:
    return environment["VSAY_CLICKHOUSE_USER"], environment["VSAY_CLICKHOUSE_PASSWORD"]


def test_a_clickhouse_server_has_the_users_that_log_in_to_it() -> None:
    users = ElementTree.parse(ROOT / "k8s/backends/clickhouse/users.xml").getroot().find("users")
    assert users is not None
    named = {user.tag: variable for user in users for each in user.iter("password") if (variable := each.get("from_env"))}
    declared = environments(FILE)
    server = declared["clickhouse"]
    assert server.keys() == set(named.values())
    for service, user in (("audit", "vsay_audit"), ("session-api", "vsay_api")):
        assert login(declared[service]) == (user, server[named[user]])


def test_the_embedded_engine_has_the_one_user_that_both_are() -> None:
    declared = environments(FILE, EMBEDDED)
    assert login(declared["audit"]) == login(declared["session-api"]) == login(declared["clickhouse"])


@pytest.mark.parametrize("file", [FILE, EMBEDDED], ids=lambda file: file.name)
def test_what_it_asks_for_is_made(file: Path) -> None:
    assert set(re.findall(r"\$\{(\w+):\?\}", file.read_text())) <= {*PASSWORDS, "VSAY_COMPOSE_HOME"}


def test_passwords_stay_and_new_ones_come_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "passwords.env"
    path.write_text("VSAY_NATS_PASSWORD=kept\n")
    add_passwords(path)
    first = path.read_text()
    add_passwords(path)
    assert path.read_text() == first
    made = dict(line.split("=", 1) for line in first.splitlines())
    assert made.keys() == set(PASSWORDS)
    assert made["VSAY_NATS_PASSWORD"] == "kept"
    assert len(set(made.values())) == len(PASSWORDS)
