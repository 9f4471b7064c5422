"""`python -m deploy.compose ARGUMENTS`: makes what `compose.yaml` mounts, then is `docker compose` with it.

Everything is kept below `VSAY_HOME/compose`: passwords, the keys of the machine `target`, and `directory.toml`, which declares it.
"""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import asyncssh

HERE: Final = Path(__file__).parent
IMAGES: Final = HERE.parent / "build/images.env"
"""Written by `make-images`: the images that were built, and what stands in for those that could not be pulled."""

PASSWORDS: Final = (
    "VSAY_NATS_PASSWORD",
    "VSAY_CLICKHOUSE_AUDIT_PASSWORD",
    "VSAY_CLICKHOUSE_API_PASSWORD",
    "VSAY_CLICKHOUSE_ANALYST_PASSWORD",
)

SSHD_CONFIG: Final = """Port 22
HostKey /etc/vsay/host_key
AuthorizedKeysFile /etc/vsay/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin no
PidFile none
"""

DIRECTORY: Final = """[[organizations]]
id = "org_acme"
name = "Acme"

[[users]]
id = "usr_admin"
name = "Ada Admin"
email = "ada@example.com"
org = "org_acme"
role = "admin"
machines = ["*"]

[[machines]]
id = "mch_target"
name = "Target"
org = "org_acme"
host = "target"
port = 22
login = "deploy"
host_keys = ["{host_key}"]
credential = "target-key"
"""


def main() -> None:
    """Become `docker compose`, or `docker-compose` where that plugin is missing."""
    home = Path(os.environ.get("VSAY_HOME", ".vsay")).absolute() / "compose"
    if not (home / "directory.toml").exists():
        make(home)
    add_passwords(home / "passwords.env")
    environment = (
        {"VSAY_COMPOSE_HOME": str(home), "COMPOSE_PROJECT_NAME": "vsay"}
        | _read(home / "passwords.env")
        | _read(IMAGES)
        | os.environ
    )
    files = ["--file", str(HERE / "compose.yaml")]
    if environment.get("VSAY_IMAGE_CLICKHOUSE_KIND") == "embedded":
        files += ["--file", str(HERE / "compose.embedded.yaml")]
    program = _program()
    os.execvpe(program[0], [*program, *files, *sys.argv[1:]], environment)  # noqa: S606  # without a shell


def make(home: Path) -> None:
    """Keys, all new. Containers run as other users: they see the files, and on this machine only the owner does."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("secrets", "target"):
        (home / name).mkdir(exist_ok=True)
    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519", comment="vsay compose") for _ in range(2))
    host_key.write_private_key(home / "target/host_key")  # sshd reads it as root
    (home / "target/host_key").chmod(0o600)
    client_key.write_public_key(home / "target/authorized_keys")
    client_key.write_private_key(home / "secrets/target-key")
    (home / "secrets/target-key").chmod(0o644)
    (home / "target/sshd_config").write_text(SSHD_CONFIG, encoding="utf-8")
    public = " ".join(host_key.export_public_key().decode().split()[:2])
    (home / "directory.toml").write_text(DIRECTORY.format(host_key=public), encoding="utf-8")  # last: now it is whole


def add_passwords(path: Path) -> None:
    """Those that the file does not have yet; it may be one of an older version."""
    there = _read(path)
    lines = [f"{name}={there.get(name) or secrets.token_urlsafe(24)}\n" for name in PASSWORDS]
    path.write_text("".join(lines), encoding="utf-8")


def _program() -> list[str]:
    if not (docker := shutil.which("docker")):
        sys.exit("compose: there is no program docker")
    asked = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)  # noqa: S603  # constant arguments
    if asked.returncode == 0:
        return [docker, "compose"]
    if old := shutil.which("docker-compose"):
        return [old]
    sys.exit("compose: docker has no compose plugin, and there is no docker-compose")


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)


if __name__ == "__main__":
    main()
