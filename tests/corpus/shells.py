"""Drives a real program on a real pty: types as a person would and hands every byte, both ways, to whoever listens."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

QUIET_SECONDS = 0.35
"""As long as the worker waits before it settles what is open."""

WAIT_SECONDS_MAX = 15.0


class Shell:
    """A program on a pty. `typed` and `shown` hear every byte; `quiet` is called whenever nothing came for a while."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        typed: Callable[[bytes], None],
        shown: Callable[[bytes], None],
        quiet: Callable[[], None],
        cols: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._typed, self._shown, self._quiet = typed, shown, quiet
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            os.execvpe(command[0], command, kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | dict(environment or {}))
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._master)
        os.waitpid(self._pid, 0)

    def type(self, keys: bytes) -> None:
        """Keys, all at once."""
        self._typed(keys)
        os.write(self._master, keys)

    def type_slowly(self, keys: bytes) -> None:
        """Keys, one by one, each after the echo of the one before."""
        for key in keys:
            self.type(bytes([key]))
            self._read(0.02)

    def shows(self, text: bytes) -> None:
        """Returns once `text` was shown."""
        seen = b""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while text not in seen:
            assert time.monotonic() < deadline, f"{text!r} was not shown but {seen[-500:]!r}"
            seen += self._read(0.1)

    def rests(self) -> None:
        """Returns once nothing was shown for `QUIET_SECONDS`."""
        while self._read(QUIET_SECONDS):
            pass
        self._quiet()

    def _read(self, seconds: float) -> bytes:
        if not select.select([self._master], [], [], seconds)[0]:
            return b""
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has ended
            return b""
        self._shown(data)
        return data
