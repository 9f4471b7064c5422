"""The real backing services as tests start them: nats-server and the ClickHouse engine, each in a process of its own."""

import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.integration.containers import IN_CONTAINERS, Contained, Image, Process, this_user

PORTS_FROM = 12_000
PORTS_EACH = 2_000
"""For each of the processes that run tests beside each other."""

PORT_RANGES = 10

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.01


class Server:
    """A process on a free port of 127.0.0.1 that can be stopped, killed and started again on the same port and data.

    Methods block; in an async test that has other things going, call them with `asyncio.to_thread`.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` holds the data, `log`, which has what the process wrote to stderr, and `said`: what it said at this start."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = 0
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it serves."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process, "it runs"
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Of the process, when it has ended by itself."""
        assert self._process, "it was started"
        return self._process.poll()

    @property
    def log(self) -> str:
        """What it wrote to stderr, over all its starts."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Returns once it serves."""
        with (self.directory / "said").open("wb") as said, (self.directory / "log").open("ab") as log:
            if IN_CONTAINERS:
                self._process = Contained(self._image(), said, log)
            else:
                self._process = subprocess.Popen(self._command(), env=self._environment(), stdout=said, stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready():
            assert self._process.poll() is None, f"it ended at once: {self.log}"
            assert time.monotonic() < deadline, f"it is not ready in time: {self.log}"
            time.sleep(LOOK_SECONDS)

    def stop(self, *, kill: bool = False) -> None:
        """Returns once the process has ended; asked to, or killed. Does nothing when it is stopped."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill it, then start it again."""
        self.stop(kill=kill)
        self.start()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _image(self) -> Image:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _said(self) -> str:
        """The first line that it wrote to stdout; empty before it is whole."""
        line, end, _ = (self.directory / "said").read_text().partition("\n")
        return line if end else ""

    def _is_ready(self) -> bool:
        raise NotImplementedError


class NatsServer(Server):
    """nats-server with JetStream on disk."""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("nats-server")), *self._arguments()]

    def _image(self) -> Image:
        return Image(part="NATS", arguments=self._arguments(), writes=[self.directory], user=this_user())

    def _arguments(self) -> list[str]:
        for old in self.directory.glob("*.ports"):  # of one that was killed
            old.unlink()
        place = ["-a", "127.0.0.1", "-p", str(self.port or -1), "--ports_file_dir", str(self.directory)]
        return [*place, "-js", "-sd", str(self.directory / "jetstream")]

    def _is_ready(self) -> bool:
        # The server writes this file, named by its process id, once it listens, which it does after JetStream has recovered.
        texts = [path.read_text() for path in self.directory.glob("nats-server_*.ports")]
        if not any(texts):
            return False
        self.port = int(json.loads(texts[0])["nats"][0].rpartition(":")[2])
        return True


class ClickHouse(Server):
    """The embedded engine behind the ClickHouse HTTP interface; `analyst` is the password of its read-only user."""

    ANALYST_PASSWORD = "look-only"

    def __init__(self, directory: Path, config: str = "") -> None:
        """`config`: text of a configuration file of ClickHouse."""
        super().__init__(directory)
        self._config = directory / "config.d/test.xml" if config else None  # where a server looks for what is laid over its own
        if self._config:
            self._config.parent.mkdir(exist_ok=True)
            self._config.write_text(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def files(self) -> Path:
        """The directory from which its function `file` reads."""
        return self.directory / ("clickhouse/user_files" if IS_CLICKHOUSE_SERVER else "files")

    def query(self, sql: str) -> str:
        """What it answers, as tab separated text; bytes that are no UTF-8 become surrogates."""
        request = urllib.request.Request(self.url, data=sql.encode())
        with urllib.request.urlopen(request, timeout=START_SECONDS_MAX) as answer:
            return str(answer.read().decode(errors="surrogateescape"))

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "deploy.embedded_clickhouse"]

    def _environment(self) -> dict[str, str]:
        return dict(os.environ) | self._settings()

    def _settings(self) -> dict[str, str]:
        return {
            "VSAY_CLICKHOUSE_HOST": "127.0.0.1",
            "VSAY_CLICKHOUSE_PORT": str(self.port),
            "VSAY_CLICKHOUSE_DATA": str(self.directory / "clickhouse"),
            "VSAY_CLICKHOUSE_CONFIG": str(self._config or ""),
            "VSAY_CLICKHOUSE_ANALYST_PASSWORD": self.ANALYST_PASSWORD,
        }

    def _image(self) -> Image:
        if IS_CLICKHOUSE_SERVER:
            self.port = self.port or free_port()
            arguments = ["/usr/bin/clickhouse-server", f"--config-file={self._configuration()}"]
            return Image(part="CLICKHOUSE", entrypoint=arguments, writes=[self.directory], user=this_user())
        return Image(part="CLICKHOUSE", environment=self._settings(), writes=[self.directory], user=this_user())

    def _configuration(self) -> Path:
        """Of a ClickHouse server: what tests need, and nothing on any other port."""
        data = self.directory / "clickhouse"
        (self.directory / "config.xml").write_text(f"""<clickhouse>
  <logger><console>1</console><level>warning</level></logger>
  <listen_host>127.0.0.1</listen_host><http_port>{self.port}</http_port>
  <path>{data}/</path><tmp_path>{data}/tmp/</tmp_path><user_files_path>{data}/user_files/</user_files_path>
  <backups><allowed_path>{self.directory}/backups/</allowed_path></backups>
  <user_directories><users_xml><path>users.xml</path></users_xml></user_directories>
</clickhouse>""")
        (self.directory / "users.xml").write_text(f"""<clickhouse>
  <profiles><default/><readonly><readonly>1</readonly></readonly></profiles>
  <quotas><default/></quotas>
  <users>
    <default><password/><profile>default</profile><quota>default</quota><networks><ip>127.0.0.1</ip></networks></default>
    <analyst><password>{self.ANALYST_PASSWORD}</password><profile>readonly</profile><quota>default</quota>
      <networks><ip>127.0.0.1</ip></networks></analyst>
  </users>
</clickhouse>""")
        return self.directory / "config.xml"

    def _is_ready(self) -> bool:
        if IS_CLICKHOUSE_SERVER:
            try:
                with urllib.request.urlopen(f"{self.url}/ping", timeout=LOOK_SECONDS * 100) as answer:
                    return answer.status == 200
            except (OSError, urllib.error.URLError):
                return False
        if not (line := self._said()):
            return False
        self.port = int(json.loads(line)["clickhouse"].rpartition(":")[2])
        return True


IS_CLICKHOUSE_SERVER = IN_CONTAINERS and os.environ.get("VSAY_IMAGE_CLICKHOUSE_KIND") == "server"
"""A real one; otherwise the embedded engine, as a process or in a container."""


def free_port(address: str = "127.0.0.1") -> int:
    """One of this address that nobody listens on now, and that neither this process nor a test process beside it gives again soon.

    It is below those that Linux gives by itself, as to a connection that is made before a server has bound the port.
    """
    for port in _ports:
        try:
            with socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
                return port
        except OSError:
            continue  # somebody listens
    raise AssertionError("a cycle has no end")


def _own_ports() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PORT_RANGES
    first = PORTS_FROM + number * PORTS_EACH
    begin = os.getpid() % PORTS_EACH  # two runs beside each other begin in different places
    return itertools.cycle(first + (begin + each) % PORTS_EACH for each in range(PORTS_EACH))


_ports = _own_ports()
