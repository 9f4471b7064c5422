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
from contextlib import suppress
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
        resized: Callable[[int, int], None] = lambda cols, rows: None,
        cols: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
        directory: str = ".",
    ) -> None:
        self._typed, self._shown, self._quiet, self._resized = typed, shown, quiet, resized
        self._since_typed = b""
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.chdir(directory)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
            kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            os.execvpe(command[0], command, kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | dict(environment or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.close(self._master)
        os.waitpid(self._pid, 0)

    def type(self, keys: bytes) -> None:
        """Keys, all at once."""
        if not keys:
            return
        self._typed(keys)
        self._since_typed = b""
        os.write(self._master, keys)

    def type_slowly(self, keys: bytes) -> None:
        """Keys, one by one, each after the echo of the one before."""
        for key in keys:
            self.type(bytes([key]))
            self._read(0.02)

    def resize(self, cols: int, rows: int) -> None:
        """The terminal has this size from here on."""
        self._set_size(cols, rows)
        self._resized(cols, rows)

    def shows(self, text: bytes) -> None:
        """Returns once `text` was shown after what was typed last."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while text not in self._since_typed:
            assert time.monotonic() < deadline, f"{text!r} was not shown but {self._since_typed[-500:]!r}"
            self._read(0.1)

    def reads(self, seconds: float) -> None:
        """Returns after this time; what is shown meanwhile is heard."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def rests(self) -> None:
        """Returns once nothing was shown for `QUIET_SECONDS`."""
        while self._read(QUIET_SECONDS):
            pass
        self._quiet()

    def _set_size(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def _read(self, seconds: float) -> bytes:
        if not select.select([self._master], [], [], seconds)[0]:
            return b""
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has ended
            return b""
        self._since_typed += data
        self._shown(data)
        return data
