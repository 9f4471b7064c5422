"""A real OpenSSH server on a free port of 127.0.0.1 that lets the current user in by key."""

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.servers import Server

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_openssh = pytest.mark.skipif(SSHD is None, reason="openssh-server is not installed")


class OpenSsh(Server):
    """`client_key` is the private key that gets in; `host_key` the public key that clients pin."""

    @property
    def url(self) -> str:
        return f"ssh://127.0.0.1:{self.port}"

    @property
    def login(self) -> str:
        return getpass.getuser()

    @property
    def client_key(self) -> str:
        return (self.directory / "client_key").read_text()

    @property
    def host_key(self) -> str:
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    def _command(self) -> list[str]:
        assert SSHD
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host_key", "client_key"):
            if not (self.directory / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / name], check=True)
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
        (self.directory / "home").mkdir(exist_ok=True)  # whatever the developer's own profile does, tests do not wait for it
        authorized = self.directory / "authorized_keys"
        authorized.write_text((self.directory / "client_key.pub").read_text())
        config = self.directory / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host_key\nAuthorizedKeysFile {authorized}\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPrintMotd no\nPrintLastLog no\nMaxStartups 100\n"
            "UseDNS no\nPermitRootLogin prohibit-password\n"
            f"SetEnv HOME={self.directory}/home\n"
        )
        return [SSHD, "-D", "-e", "-f", str(config)]

    def _is_ready(self) -> bool:
        return "Server listening on" in self.log
