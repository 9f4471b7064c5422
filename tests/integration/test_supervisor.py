"""The stack's supervisor, with real processes."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.stack import ports, supervisor
from deploy.stack.home import Home
from deploy.stack.supervisor import Child, Program, StartError

READY = 'print(\'{"it": "serves"}\', flush=True);'
FOR_EVER = "import signal; signal.pause()"


class Watched:
    """A child, and what was said about it."""

    def __init__(self, home: Home, code: str, *, announces: bool = True, stop_seconds: float = 10.0, niceness: int = 0) -> None:
        program = Program("thing", (sys.executable, "-c", code), dict(os.environ), announces, stop_seconds, niceness)
        self.reports: list[str] = []
        self.happened = asyncio.Condition()
        self._wakes: set[asyncio.Task[None]] = set()
        self.child = Child(program, home, report=self._report, changed=lambda: None)

    def _report(self, text: str) -> None:
        self.reports.append(text)
        wake = asyncio.create_task(self._wake())
        self._wakes.add(wake)

    async def _wake(self) -> None:
        async with self.happened:
            self.happened.notify_all()

    async def until_said(self, part: str) -> None:
        async with asyncio.timeout(20), self.happened:
            await self.happened.wait_for(lambda: any(part in report for report in self.reports))


@asynccontextmanager
async def watched(
    home: Home, code: str, *, announces: bool = True, stop_seconds: float = 10.0, niceness: int = 0
) -> AsyncIterator[Watched]:
    thing = Watched(home, code, announces=announces, stop_seconds=stop_seconds, niceness=niceness)
    try:
        yield thing
    finally:
        await thing.child.stop()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.logs.mkdir()
    return home


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_ready_when_it_says_so_and_its_words_are_kept(home: Home) -> None:
    code = (
        f"import sys; print('before', flush=True); {READY} print('after'); print('wrong', file=sys.stderr, flush=True); {FOR_EVER}"
    )
    async with watched(home, code) as thing:
        assert await thing.child.start() == {"it": "serves"}
        pid = thing.child.pid
        assert pid
        while "wrong" not in home.log("thing").read_text():
            await asyncio.sleep(0.01)
    assert thing.child.pid is None
    assert not is_alive(pid)
    assert {"before", "wrong"} <= set(home.log("thing").read_text().split())


async def test_it_has_a_session_of_its_own_so_that_control_c_passes_it_by(home: Home) -> None:
    async with watched(home, READY + FOR_EVER) as thing:
        await thing.child.start()
        assert thing.child.pid
        assert os.getsid(thing.child.pid) == thing.child.pid != os.getsid(0)


async def test_it_steps_back_behind_others_and_its_group_does_where_groups_have_a_niceness(home: Home) -> None:
    async with watched(home, READY + FOR_EVER, niceness=5) as thing:
        await thing.child.start()
        pid = thing.child.pid
        assert pid is not None
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5
        group = Path(f"/proc/{pid}/autogroup")
        assert not group.exists() or group.read_text().endswith("nice 5\n")


async def test_one_that_ends_before_it_is_ready_fails_with_its_last_words(home: Home) -> None:
    async with watched(home, "import sys; print('no such luck', file=sys.stderr); sys.exit(3)") as thing:
        with pytest.raises(StartError, match=r"(?s)thing ended with status 3.*no such luck"):
            await thing.child.start()


async def test_one_that_is_not_ready_in_time_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "START_SECONDS_MAX", 0.2)
    async with watched(home, FOR_EVER) as thing:
        with pytest.raises(StartError, match="thing was not ready"):
            await thing.child.start()
        pid = thing.child.pid
        assert pid
    assert not is_alive(pid)


async def test_a_wait_for_readiness_that_fails_fails_the_start(home: Home) -> None:
    async def never_ready() -> None:
        raise OSError("it cannot be asked")

    async with watched(home, FOR_EVER, announces=False) as thing:
        with pytest.raises(OSError, match="it cannot be asked"):
            await thing.child.start(never_ready)


async def test_what_dies_is_reported_and_started_again(home: Home) -> None:
    async with watched(home, READY + FOR_EVER) as thing:
        await thing.child.start()
        first = thing.child.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await thing.until_said("thing runs again")
        assert thing.child.pid not in (None, first)
        assert "thing was killed by SIGKILL; it is started again in 0.5 s" in thing.reports[0]


async def test_back_off_grows(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "BACK_OFF_SECONDS_MAX", 0.25)
    async with watched(home, READY) as thing:
        await thing.child.start()
        for pause in ("0.0 s", "0.1 s", "0.2 s"):
            await thing.until_said(f"started again in {pause}")


async def test_one_that_will_not_stop_is_killed(home: Home) -> None:
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} signal.pause(); signal.pause()"
    async with watched(home, code, stop_seconds=0.2) as thing:
        await thing.child.start()
        pid = thing.child.pid
        assert pid
    assert not is_alive(pid)
    assert "did not stop" in thing.reports[0]


async def test_a_long_log_begins_anew_and_keeps_its_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.stack.home.LOG_BYTES_MAX", 10)
    home.log("thing").write_text("0123456789ABCDEF")
    home.bound_log("thing")
    assert home.log("thing").read_text() == ""
    assert (home.logs / "thing.log.1").read_text() == "6789ABCDEF"


def test_a_taken_port_is_refused_and_a_free_one_is_usable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ports.PortTakenError, match=f"port {port} on 127.0.0.1 is taken: choose another with VSAY_NATS_PORT"):
            ports.choose("127.0.0.1", port, "VSAY_NATS_PORT")
    assert ports.choose("127.0.0.1", port, "VSAY_NATS_PORT") == port
    free = ports.choose("127.0.0.1", 0, "VSAY_NATS_PORT")
    socket.create_server(("127.0.0.1", free)).close()
