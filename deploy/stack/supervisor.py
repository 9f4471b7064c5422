"""Keeps processes running: starts them, starts again what dies, and leaves none behind, however this process itself ends."""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, Final

from msgspec import Struct

from deploy.stack.home import Home

START_SECONDS_MAX: Final = 60.0
"""From the start of a process until it is ready; a first start on a slow disk takes seconds."""

BACK_OFF_SECONDS: Final = 0.5
BACK_OFF_SECONDS_MAX: Final = 10.0
"""Before a process is started again; doubled each time."""

STEADY_SECONDS: Final = 30.0
"""A process that has run this long begins with the first back-off again."""

TAIL_LINES: Final = 8

AUTOGROUP: Final = Path("/proc/self/autogroup")
"""Where Linux groups processes by session (sched(7)), niceness counts only within one, and this file has that of the group."""

PR_SET_PDEATHSIG: Final = 1
"""prctl(2), Linux only."""


class Program(Struct, frozen=True):
    """What to run. One that `announces` prints a line of JSON on its standard output when it is ready."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    announces: bool = False
    stop_seconds: float = 10.0
    niceness: int = 0
    """Above that of the supervisor; see nice(2)."""


class StartError(Exception):
    """A process did not become ready; the message has the end of its log."""


class Child:
    """One program's process, from `start` to `stop`."""

    def __init__(self, program: Program, home: Home, *, report: Callable[[str], None], changed: Callable[[], None]) -> None:
        """`report` is given what a person should know; `changed` is called when the process id is another one."""
        self._program = program
        self._home = home
        self._report = report
        self._changed = changed
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The program's."""
        return self._program.name

    @property
    def pid(self) -> int | None:
        """Of the process, while one runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, ready: Callable[[], Awaitable[None]] | None = None) -> dict[str, Any]:
        """Start it and keep it running. Returns, once it is ready, what it announced; `ready` waits for one that says nothing.

        Raises `StartError`.
        """
        self._home.begin_log(self.name)
        announced: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        process = await self._spawn(announced)
        waits = [announced] if self._program.announces else [asyncio.ensure_future(ready())] if ready else []
        ended = asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await asyncio.wait([*waits, ended], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise StartError(self._failed(f"was not ready after {START_SECONDS_MAX:.0f} s")) from error
        finally:
            ended.cancel()
            for wait in waits:
                wait.cancel()
        if process.returncode is not None:
            raise StartError(self._failed(_how(process.returncode)))
        for wait in waits:
            await wait
        self._keeper = asyncio.create_task(self._keep())
        return announced.result() if announced.done() and not announced.cancelled() else {}

    async def stop(self) -> None:
        """Ask it to end; kill it when it takes too long."""
        if self._keeper:
            self._keeper.cancel()
        process = self._process
        if process and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(self._program.stop_seconds):
                    await process.wait()
            except TimeoutError:
                self._report(f"{self.name} did not stop within {self._program.stop_seconds:.0f} s and is killed")
                await self.kill()
        if self._reader:
            await self._reader

    async def kill(self) -> None:
        """End it at once, with everything that it started in its own process group."""
        if self._keeper:
            self._keeper.cancel()
        if self._process and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended in this moment
            await self._process.wait()

    async def _spawn(self, announced: asyncio.Future[dict[str, Any]] | None) -> Process:
        with self._home.log(self.name).open("ab") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._program.command,
                env=self._program.environment,
                stdin=DEVNULL,
                stdout=PIPE if self._program.announces else log,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C reaches only the supervisor, which stops them in order
                preexec_fn=partial(_begin, self._program.niceness),
            )
        if process.stdout:
            self._reader = asyncio.create_task(self._read(process.stdout, announced))
        self._changed()
        return process

    async def _read(self, output: asyncio.StreamReader, announced: asyncio.Future[dict[str, Any]] | None) -> None:
        with self._home.log(self.name).open("ab", buffering=0) as log:
            while line := await output.readline():
                said = _object(line)
                if said is not None and announced and not announced.done():
                    announced.set_result(said)
                else:
                    log.write(line)

    async def _keep(self) -> None:
        back_off = BACK_OFF_SECONDS
        while True:
            assert self._process, "it was started"
            began = time.monotonic()
            status = await self._process.wait()
            if time.monotonic() - began > STEADY_SECONDS:
                back_off = BACK_OFF_SECONDS
            self._report(f"{self.name} {_how(status)}; it is started again in {back_off:.1f} s; log: {self._home.log(self.name)}")
            self._changed()
            await asyncio.sleep(back_off)
            back_off = min(back_off * 2, BACK_OFF_SECONDS_MAX)
            try:
                await self._spawn(None)
            except (OSError, SubprocessError) as error:
                self._report(f"{self.name} could not be started: {error}")
            else:
                self._report(f"{self.name} runs again (process {self.pid})")

    def _failed(self, how: str) -> str:
        tail = "".join(f"\n    {line[:500]}" for line in self._home.log_tail(self.name, TAIL_LINES))
        return f"{self.name} {how}; the end of its log {self._home.log(self.name)}:{tail or ' (nothing)'}"


def _how(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


_SUPERVISOR: Final = os.getpid()
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _begin(niceness: int) -> None:
    """In the new process: step back as far as is asked, and be killed when the supervisor is.

    Elsewhere than on Linux only an orderly end stops everything.
    """
    if niceness:
        os.nice(niceness)
        with suppress(OSError):  # there is none, or it was written less than 0.1 s ago
            AUTOGROUP.write_text(str(niceness))
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != _SUPERVISOR:
            os._exit(1)
