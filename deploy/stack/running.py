"""All processes of the single-machine stack together, and what a person is told about them."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from nats.js import JetStreamContext

from contracts import streams
from deploy.stack import directory
from deploy.stack.home import Home
from deploy.stack.programs import API, AUDIT, CLICKHOUSE, DEMO_MACHINE, NATS, WORKER, Ports, programs, service_environment
from deploy.stack.settings import HOST, StackSettings
from deploy.stack.supervisor import Child
from services.runtime import bus, signing
from services.runtime.settings import StreamSettings, load
from services.runtime.stack_file import Stack

LOOK_SECONDS: Final = 0.02
"""Between looks at whether a process is ready that does not say so itself."""

HOUSEKEEPING_SECONDS: Final = 60.0


class RunningStack:
    """All processes, and what a person is told about them."""

    def __init__(self, home: Home, settings: StackSettings, chosen: Ports) -> None:
        """`home` is locked. Raises `MissingProgramError`, `SettingsError`."""
        self._home = home
        self._ports = chosen
        self._bus = load(StreamSettings, service_environment(home, settings, chosen, os.environ))
        self._api = ""
        self._began = time.monotonic()
        self._children = {
            program.name: Child(program, home, report=self._report, changed=self._write_stack)
            for program in programs(home, settings, chosen, os.environ)
        }

    async def start(self) -> None:
        """Returns when everything is ready. Raises `StartError`, `DirectoryError`, `nats.errors.Error`."""
        _say(f"starting; everything is kept in {_short(self._home.path)}")
        _, _, demo_machine = await _all(
            self._start(NATS, lambda: _accepts(self._ports.nats)), self._start(CLICKHOUSE), self._start(DEMO_MACHINE)
        )
        nats = await bus.connect(self._bus, "stack")
        try:
            jetstream = nats.jetstream()
            await bus.declare(jetstream, self._bus)
            note = await directory.prepare(jetstream, self._home, demo_machine["demo_machine"])
            self._report(f"directory: {_short(self._home.directory)} applied")
            if note:
                self._report(note)
            if signing.DEFAULT_NAME not in signing.names(self._home.secrets):
                signer = await signing.create(jetstream, self._home.secrets, signing.DEFAULT_NAME)
                self._report(f"the record is signed with a new key, {signer.key_id}")
            await _all(
                self._start(AUDIT, lambda: _asks(jetstream, streams.AUDIT)),
                self._start(WORKER, lambda: _asks(jetstream, streams.SSH_WORKERS)),
            )
        finally:
            await nats.close()
        self._api = (await self._start(API))["api"]
        self._write_stack()
        _say(self._welcome())

    async def watch(self) -> None:
        """Until cancelled: processes are kept running by themselves, their logs are kept from growing."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            for name in self._children:
                self._home.bound_log(name)

    async def stop(self) -> None:
        """Stop everything, last started first. Cancelled meanwhile, it kills what is left."""
        self._api = ""
        self._home.remove_stack()
        self._began = time.monotonic()
        self._report("stopping; Ctrl-C again kills what is left")
        children = list(reversed(self._children.values()))
        try:
            for child in children:
                was_running = child.pid is not None
                await child.stop()
                if was_running:
                    self._report(f"{child.name} has stopped")
        except asyncio.CancelledError:
            self._report("in a hurry: what is left is killed")
            for child in children:
                await child.kill()
        self._report("everything has stopped")

    async def _start(self, name: str, ready: Callable[[], Awaitable[None]] | None = None) -> dict[str, Any]:
        announced = await self._children[name].start(ready)
        self._report(f"{name} is ready (process {self._children[name].pid})")
        return announced

    def _write_stack(self) -> None:
        if not self._api:
            return
        processes = {name: child.pid for name, child in self._children.items() if child.pid is not None}
        self._home.write_stack(Stack(self._api, self._bus.nats_url, self._clickhouse, processes))

    @property
    def _clickhouse(self) -> str:
        return f"http://{HOST}:{self._ports.clickhouse}"

    def _report(self, text: str) -> None:
        _say(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def _welcome(self) -> str:
        token = _short(self._home.admin_token)
        return f"""
  API         {self._api}   (documentation: {self._api}/docs)
  NATS        {self._bus.nats_url}
  ClickHouse  {self._clickhouse}
  API token   in {token}
  logs        in {_short(self._home.logs)}

Try:
  curl -s -H "Authorization: Bearer $(cat {token})" {self._api}/v1/machines

Ctrl-C stops everything."""


async def _all[Result](*starting: Coroutine[Any, Any, Result]) -> list[Result]:
    """All at once; when one fails, the others are given up, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in starting]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _accepts(port: int) -> None:
    """Returns once something listens on this port."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(LOOK_SECONDS)
        else:
            writer.close()
            return


async def _asks(jetstream: JetStreamContext, consumer: streams.Consumer) -> None:
    """Returns once a process asks this consumer for messages."""
    while True:
        info = await jetstream.consumer_info(consumer.stream, consumer.durable)
        if info.num_waiting:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _short(path: Path) -> str:
    """Relative to here when it lies below, as a person would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        pass  # the terminal is gone; the stack goes on, or is just being stopped for that
