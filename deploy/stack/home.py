"""`VSAY_HOME`: the directory of everything that the single-machine stack keeps."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from services.runtime.stack_file import FILE_NAME, Stack

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one process's log, beyond which it begins anew; one older one is kept."""

DIRECTORY_AT_FIRST: Final = """\
# Who may do what. Applied at every start of the stack, and by `vsay directory apply FILE`; yours to edit.
# The demo machine mch_demo is not declared here: the stack puts it into the directory itself.

[[organizations]]
id = "org_demo"
name = "Demo"

[[users]]
id = "usr_admin"
name = "Admin"
email = "admin@example.com"
org = "org_demo"
role = "admin"                  # admin, operator or auditor
machines = ["*"]

# [[machines]]
# id = "mch_456"
# name = "Production Server"
# org = "org_demo"
# host = "192.168.1.100"
# port = 22
# login = "deploy"
# host_keys = ["ssh-ed25519 AAAA..."]   # as `ssh-keyscan HOST` prints them, without the host
# credential = "deploy-key"             # secrets/deploy-key, or secrets/deploy-key.password, beside this file
"""


class HomeInUseError(Exception):
    """Another stack runs in this directory."""


class Home:
    """The directory and the files in it, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist before `lock`."""
        self.path = path.absolute()
        self.nats = self.path / "nats"
        self.clickhouse = self.path / "clickhouse"
        self.secrets = self.path / "secrets"
        self.logs = self.path / "logs"
        self.directory = self.path / "directory.toml"
        self.admin_token = self.path / "admin-token"
        self.stack = self.path / FILE_NAME

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make what is missing, and keep other stacks out. Raises `HomeInUseError`, and `OSError` when it cannot be written."""
        for directory in (self.path, self.nats, self.secrets, self.logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.path / "lock").open("a+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise HomeInUseError(f"a stack is running in {self.path} (process {file.read().strip() or '?'})") from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            self.stack.unlink(missing_ok=True)
            if not self.directory.exists():
                _replace(self.directory, DIRECTORY_AT_FIRST.encode(), mode=0o644)
            yield

    def write_stack(self, stack: Stack) -> None:
        """Say where everything is; whoever reads sees the old or the new state, nothing between."""
        _replace(self.stack, msgspec.json.format(msgspec.json.encode(stack), indent=2) + b"\n", mode=0o644)

    def remove_stack(self) -> None:
        """Nothing serves any more."""
        self.stack.unlink(missing_ok=True)

    def write_config(self, name: str, text: str) -> Path:
        """Write a configuration file, and return its path."""
        path = self.path / name
        _replace(path, text.encode(), mode=0o600)
        return path

    def read_admin_token(self) -> str | None:
        """The API token for whoever owns this directory; None when there is none."""
        try:
            return self.admin_token.read_text(encoding="ascii").strip() or None
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def write_admin_token(self, token: str) -> None:
        """Keep the token, readable by nobody else."""
        _replace(self.admin_token, f"{token}\n".encode(), mode=0o600)

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.logs / f"{name}.log"

    def begin_log(self, name: str) -> None:
        """Set the log of the run before aside."""
        log = self.log(name)
        if log.exists():
            log.replace(_older(log))

    def bound_log(self, name: str) -> None:
        """When a log has grown too long, set its content aside while its process goes on appending to it."""
        log = self.log(name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            _older(log).write_bytes(log.read_bytes()[-LOG_BYTES_MAX:])
            os.truncate(log, 0)

    def log_tail(self, name: str, lines: int) -> list[str]:
        """The last lines of a log."""
        try:
            return self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []


def _older(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
