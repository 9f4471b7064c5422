"""A real OpenSSH server on a free port that lets the current user in by key, or whom its test's settings let in."""

import getpass
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.containers import IN_CONTAINERS, Contained, Image
from tests.integration.servers import Server, free_port

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_openssh = pytest.mark.skipif(SSHD is None and not IN_CONTAINERS, reason="openssh-server is not installed")
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or IN_CONTAINERS, reason="only root may make a user that logs in by password, and only of this machine"
)


class OpenSsh(Server):
    """`client_key` is the private key that gets in; `host_key` the public key that clients pin."""

    def __init__(
        self, directory: Path, settings: Sequence[str] = (), *, address: str = "127.0.0.1", host_key_type: str = "ed25519"
    ):
        """`settings` are lines of sshd_config, which come before our own and so count first."""
        super().__init__(directory)
        self.address = address
        self.settings = list(settings)
        self._host_key_type = host_key_type

    @property
    def url(self) -> str:
        return f"ssh://{self.address}:{self.port}"

    @property
    def login(self) -> str:
        return "root" if IN_CONTAINERS else getpass.getuser()

    @property
    def client_key(self) -> str:
        return (self.directory / "client_key").read_text()

    @property
    def host_key(self) -> str:
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    @property
    def python(self) -> str:
        """A Python of the machine."""
        return "python3" if IN_CONTAINERS else sys.executable

    def has(self, program: str) -> bool:
        """Whether the machine has it."""
        return bool(self.says(f"command -v {program}"))

    def says(self, command: str) -> str:
        """What a shell of the machine prints, asked beside SSH."""
        if isinstance(self._process, Contained):
            return self._process.says(command)
        return subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False).stdout

    def new_host_key(self) -> None:
        """Forget the host key: the next start makes another."""
        for path in self.directory.glob("host_key*"):
            path.unlink()

    def _command(self) -> list[str]:
        assert SSHD
        return [SSHD, "-D", "-e", "-f", str(self._configuration())]

    def _image(self) -> Image:
        # A machine shows the test's files where they lie, so that a test can type their names.
        place = self.directory.parent
        return Image(part="OPENSSH", arguments=["-f", str(self._configuration())], writes=[place], capabilities=True)

    def _configuration(self) -> Path:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        make_key(self.directory / "host_key", self._host_key_type)
        make_key(self.directory / "client_key")
        self.port = self.port or free_port(self.address)
        (self.directory / "home").mkdir(exist_ok=True)  # whatever the developer's own profile does, tests do not wait for it
        authorized = self.directory / "authorized_keys"
        authorized.write_text((self.directory / "client_key.pub").read_text())
        ours = f"""\
Port {self.port}
ListenAddress {self.address}
HostKey {self.directory}/host_key
AuthorizedKeysFile {authorized}
SetEnv HOME={self.directory}/home
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
PrintMotd no
PrintLastLog no
MaxStartups 100
UseDNS no
PermitRootLogin prohibit-password
"""
        config = self.directory / "sshd_config"
        config.write_text("".join(f"{line}\n" for line in self.settings) + ours)
        return config

    def _is_ready(self) -> bool:
        return self.log.count("Server listening on") > self._starts

    def start(self) -> None:
        self._starts = self.log.count("Server listening on") if (self.directory / "log").exists() else 0
        super().start()


class User(NamedTuple):
    """A user of this system."""

    name: str
    password: str


@contextmanager
def throwaway_user() -> Iterator[User]:
    """A user with a password, for the time of a test; only root can make one."""
    user = User(f"vsay-test-{secrets.token_hex(4)}", secrets.token_hex(16))
    subprocess.run(["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", user.name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{user.name}:{user.password}\n", text=True, check=True)
        yield user
    finally:
        subprocess.run(["userdel", user.name], check=True, capture_output=True)


def make_key(path: Path, type_: str = "ed25519") -> str:
    """A key pair at `path`, unless it is there; returns the public key."""
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", type_, "-N", "", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()
