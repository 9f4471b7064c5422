"""The switch: with VSAY_TEST_CONTAINERS=1 every server and service of a test is a container instead of a process of this machine.

`just test-containers` sets it, and VSAY_IMAGE_* to the images. Containers use the machine's own network, so that ports, and
directories that are mounted where they lie, mean the same to both.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

from docker.errors import APIError
from docker.models.containers import Container as Running
from msgspec import Struct
from requests.exceptions import RequestException
from testcontainers.core.container import DockerContainer

IN_CONTAINERS: Final = os.environ.get("VSAY_TEST_CONTAINERS") == "1"

END_SECONDS_MAX: Final = 20.0


class Process(Protocol):
    """What a started thing can be asked and told: `subprocess.Popen` and `Contained` are of this kind."""

    @property
    def pid(self) -> int:
        """Its number among this machine's processes."""

    def poll(self) -> int | None:
        """The exit status once it has ended."""

    def terminate(self) -> None:
        """Ask it to end; nothing when it has."""

    def kill(self) -> None:
        """End it; nothing when it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises `subprocess.TimeoutExpired`."""


class Image(Struct, frozen=True, kw_only=True):
    """How a part is run as a container. `user` None: the one that the image names."""

    part: str
    arguments: Sequence[str] = ()
    entrypoint: Sequence[str] | None = None
    environment: Mapping[str, str] = {}
    writes: Sequence[Path] = ()
    reads: Sequence[Path] = ()
    user: str | None = None
    capabilities: bool = False
    """Docker's usual ones, for a machine that people log in to; otherwise none."""


def image_name(part: str) -> str:
    """The image of a part: `SESSION_API`, `SSH_WORKER`, `AUDIT`, `NATS`, `CLICKHOUSE` or `OPENSSH`."""
    return os.environ[f"VSAY_IMAGE_{part}"]


def this_user() -> str:
    """For parts that write into a test's directory."""
    return f"{os.getuid()}:{os.getgid()}"


def share(secrets: Path) -> None:
    """Let a container's user read keys that were written for this user alone; pytest's own directory above keeps others out."""
    if IN_CONTAINERS and secrets.is_dir():
        secrets.chmod(0o755)
        for key in secrets.glob("*.pem"):
            key.chmod(0o644)


class Contained:
    """A running container, read-only but for what it `writes` and /tmp, without privileges."""

    def __init__(self, image: Image, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        options: dict[str, Any] = {
            "network_mode": "host",
            "read_only": True,
            "tmpfs": {"/tmp": "mode=1777", "/run/sshd": "mode=0755"} if image.capabilities else {"/tmp": "mode=1777"},
            "security_opt": ["no-new-privileges"],
        }
        tmpfs = options.pop("tmpfs")
        if not image.capabilities:
            options["cap_drop"] = ["ALL"]
        if image.entrypoint is not None:
            options["entrypoint"] = list(image.entrypoint)
        if image.user is not None:
            options["user"] = image.user
        container = DockerContainer(image_name(image.part), command=list(image.arguments), env=dict(image.environment), **options)
        container.tmpfs.update(tmpfs)
        for mode, paths in (("rw", image.writes), ("ro", image.reads)):
            for path in paths:
                container.with_volume_mapping(str(path), str(path), mode)
        self._container = container.start()
        wrapped = container.get_wrapped_container()
        assert wrapped
        self._running: Running = wrapped
        self._status: int | None = None
        self._pid = 0
        self._logs = subprocess.Popen(["docker", "logs", "--follow", container.get_container_id()], stdout=stdout, stderr=stderr)

    @property
    def pid(self) -> int:
        self._running.reload()
        return int(self._running.attrs["State"]["Pid"])

    def poll(self) -> int | None:
        if self._status is None:
            self._running.reload()
            if self._running.status in ("exited", "dead"):
                self._end(int(self._running.attrs["State"]["ExitCode"]))
        return self._status

    def terminate(self) -> None:
        self._signal("SIGTERM")

    def kill(self) -> None:
        self._signal("SIGKILL")

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            try:
                status = int(self._running.wait(timeout=timeout)["StatusCode"])
            except RequestException as error:
                raise subprocess.TimeoutExpired(image_of(self._running), timeout or 0) from error
            self._end(status)
        assert self._status is not None
        return self._status

    def says(self, command: str) -> str:
        """What a shell in it prints."""
        return str(self._running.exec_run(["sh", "-c", command], stderr=False).output.decode())

    def _signal(self, name: str) -> None:
        if self.poll() is None:
            try:
                self._running.kill(signal=name)
            except APIError:  # it has ended in this moment
                self.wait(END_SECONDS_MAX)

    def _end(self, status: int) -> None:
        """All that it wrote is in the files; the container is removed, and the connection to the engine closed."""
        self._logs.wait(END_SECONDS_MAX)
        self._status = status
        self._container.stop()


def image_of(container: Running) -> str:
    """For messages."""
    return ", ".join(container.image.tags) if container.image else "container"
