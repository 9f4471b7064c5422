"""The TOML file of the directory: what it may say, and what is said about one that may not."""

from pathlib import Path

import pytest

from contracts.directory import UserRole
from services.runtime.directory import DirectoryError, read_file

ACME = """
[[organizations]]
id = "org_acme"
name = "Acme"

[[users]]
id = "usr_123"
name = "John Doe"
email = "john@example.com"
org = "org_acme"
role = "operator"
machines = ["*"]

[[machines]]
id = "mch_456"
name = "Production Server"
org = "org_acme"
host = "192.168.1.100"
port = 22
login = "deploy"
host_keys = ["ssh-ed25519 AAAA..."]
credential = "deploy-key"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "directory.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_documented_shape(tmp_path: Path) -> None:
    declared = read_file(written(tmp_path, ACME))
    (organization,), (user,), (machine,) = declared.organizations, declared.users, declared.machines
    assert organization.name == "Acme"
    assert user.role is UserRole.OPERATOR
    assert user.may_use(machine)
    assert machine.host_keys == ("ssh-ed25519 AAAA...",)


def test_defaults(tmp_path: Path) -> None:
    text = ACME.replace('role = "operator"', "").replace('machines = ["*"]', "").replace("port = 22", "")
    declared = read_file(written(tmp_path, text))
    assert declared.users[0].role is UserRole.OPERATOR
    assert not declared.users[0].may_use(declared.machines[0])
    assert declared.machines[0].port == 22


def test_an_empty_file_declares_nothing(tmp_path: Path) -> None:
    declared = read_file(written(tmp_path, ""))
    assert (declared.organizations, declared.users, declared.machines) == ((), (), ())


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        pytest.param('role = "boss"', 'role = "operator"', ["users[0].role", "boss"], id="role"),
        pytest.param("port = 70000", "port = 22", ["machines[0].port"], id="port"),
        pytest.param('port = "22"', "port = 22", ["machines[0].port"], id="port as text"),
        pytest.param('id = "usr_a.b"', 'id = "usr_123"', ["users[0].id"], id="an id that NATS would misread"),
        pytest.param('id = "mch_*"', 'id = "mch_456"', ["machines[0].id"], id="wildcard id"),
        pytest.param('machines = ["all"]', 'machines = ["*"]', ["users[0].machines[0]"], id="machines of a user"),
        pytest.param('credential = "../key"', 'credential = "deploy-key"', ["machines[0].credential"], id="path as credential"),
        pytest.param('name = ""', 'name = "Acme"', ["organizations[0].name"], id="empty name"),
        pytest.param("", 'login = "deploy"', ["machines[0]", "login"], id="missing field"),
        pytest.param('hots = "a"', 'host = "192.168.1.100"', ["machines[0]", "hots"], id="misspelt field"),
        pytest.param("[[machine]]", "[[machines]]", ["machine"], id="misspelt table"),
        pytest.param("port = ", "port = 22", ["not TOML", "line"], id="not TOML"),
    ],
)
def test_an_error_names_file_and_field(tmp_path: Path, wrong: str, right: str, said: list[str]) -> None:
    assert right in ACME
    path = written(tmp_path, ACME.replace(right, wrong))
    with pytest.raises(DirectoryError) as refused:
        read_file(path)
    for part in [str(path), *said]:
        assert part in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match=r"absent\.toml: No such file"):
        read_file(tmp_path / "absent.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "directory.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DirectoryError, match="not UTF-8"):
        read_file(path)
