"""The real backing services as tests start them: nats-server and the ClickHouse engine, each in a process of its own."""

import json
import os
import select
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.01


class Server:
    """A process on a free port of 127.0.0.1 that can be stopped, killed and started again on the same port and data.

    Methods block; in an async test that has other things going, call them with `asyncio.to_thread`.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` holds the data and `log`, which has what the process wrote to stderr."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

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
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), env=self._environment(), stdout=subprocess.PIPE, stderr=log)
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
            assert self._process.stdout
            self._process.stdout.close()
            self._process = None

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill it, then start it again."""
        self.stop(kill=kill)
        self.start()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _is_ready(self) -> bool:
        raise NotImplementedError


class NatsServer(Server):
    """nats-server with JetStream on disk."""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        program = str(Path(sys.executable).with_name("nats-server"))
        place = ["-a", "127.0.0.1", "-p", str(self.port or -1), "--ports_file_dir", str(self.directory)]
        return [program, *place, "-js", "-sd", str(self.directory / "jetstream")]

    def _is_ready(self) -> bool:
        # The server writes this file once it listens, which it does after JetStream has recovered.
        ports = self.directory / f"nats-server_{self.pid}.ports"
        if not ports.exists() or not (text := ports.read_text()):
            return False
        self.port = int(json.loads(text)["nats"][0].rpartition(":")[2])
        return True


class ClickHouse(Server):
    """The embedded engine behind the ClickHouse HTTP interface; `analyst` is the password of its read-only user."""

    ANALYST_PASSWORD = "look-only"

    def __init__(self, directory: Path, config: str = "") -> None:
        """`config`: text of a configuration file of ClickHouse."""
        super().__init__(directory)
        self._config = directory / "config.xml" if config else None
        if self._config:
            self._config.write_text(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def query(self, sql: str) -> str:
        """What it answers, as tab separated text; bytes that are no UTF-8 become surrogates."""
        request = urllib.request.Request(self.url, data=sql.encode())
        with urllib.request.urlopen(request, timeout=START_SECONDS_MAX) as answer:
            return str(answer.read().decode(errors="surrogateescape"))

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "deploy.embedded_clickhouse"]

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "VSAY_CLICKHOUSE_PORT": str(self.port),
            "VSAY_CLICKHOUSE_DATA": str(self.directory / "clickhouse"),
            "VSAY_CLICKHOUSE_CONFIG": str(self._config or ""),
            "VSAY_CLICKHOUSE_ANALYST_PASSWORD": self.ANALYST_PASSWORD,
        }

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], LOOK_SECONDS)[0] or not (line := self._process.stdout.readline()):
            return False
        self.port = int(json.loads(line)["clickhouse"].rpartition(":")[2])
        return True
