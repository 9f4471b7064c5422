"""The demo machine: an SSH server on loopback that gives the current user's login shell, for the first session.

`python -m deploy.demo_machine` prints `{"demo_machine": {"host": …, "port": …, "host_key": "ssh-ed25519 AAAA…"}}` once it
listens. Nobody but the holder of `VSAY_HOME/secrets/demo-key` gets in.
"""

import asyncio
import fcntl
import json
import os
import pwd
import signal
import struct
import sys
import termios
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Annotated, Final

import asyncssh
from msgspec import Meta, Struct

from services.runtime.process import run

HOST: Final = "127.0.0.1"
CREDENTIAL: Final = "demo-key"
"""Name of the client key in the worker's secrets directory."""

READ_BYTES_MAX: Final = 64 * 1024
WRITE_BYTES_MAX: Final = 64 * 1024
"""Typed input that the shell has not read yet, beyond which the channel is not read any further."""

ENVIRONMENT_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ")


class DemoSettings(Struct, frozen=True, kw_only=True):
    """The demo machine."""

    home: Annotated[str, Meta(description="Directory of everything that the single-machine stack keeps.")] = ".vsay"
    demo_port: Annotated[int, Meta(description="Port of the demo machine; 0: any free one.", ge=0, le=65535)] = 0
    log_level: Annotated[str, Meta(description="debug, info, warning or error.", pattern="^(debug|info|warning|error)$")] = "info"


async def main(settings: DemoSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    home = Path(settings.home)
    host_key = _key(home / "demo-machine" / "host_key")
    client_key = _key(home / "secrets" / CREDENTIAL)
    user = pwd.getpwuid(os.getuid())
    server = await asyncssh.listen(
        HOST,
        settings.demo_port,
        server_factory=partial(_Server, user, client_key.convert_to_public()),
        server_host_keys=[host_key],
        config=None,
        encoding=None,
        line_editor=False,
        agent_forwarding=False,
        x11_forwarding=False,
    )
    where = {"host": HOST, "port": server.get_port(), "host_key": host_key.export_public_key().decode().strip()}
    print(json.dumps({"demo_machine": where}), flush=True)
    await stop.wait()
    server.close()  # connections and terminals close with the process, which hangs up the shells


class _Server(asyncssh.SSHServer):
    """Lets the current user in, with the demo key only."""

    def __init__(self, user: pwd.struct_passwd, key: asyncssh.SSHKey) -> None:
        self._user = user
        self._key = key

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._user.pw_name and key == self._key

    def session_requested(self) -> "ShellSession":
        return ShellSession(self._user)


class ShellSession(asyncssh.SSHServerSession[bytes]):
    """One login shell, or one command of it, on a pty of its own."""

    def __init__(self, user: pwd.struct_passwd) -> None:
        self._user = user
        self._command: str | None = None
        self._channel: asyncssh.SSHServerChannel[bytes]
        self._master = -1
        self._typed = bytearray()
        self._is_reading = False
        self._running: asyncio.Task[None] | None = None

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]) -> bool:
        """Always; modes stay as the kernel sets them for a new terminal."""
        return True

    def shell_requested(self) -> bool:
        """A login shell; only on a terminal."""
        return self._channel.get_terminal_type() is not None

    def exec_requested(self, command: str) -> bool:
        """A command; only on a terminal."""
        self._command = command
        return self._channel.get_terminal_type() is not None

    def session_started(self) -> None:
        """Run it."""
        self._running = asyncio.create_task(self._run())

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Typed bytes, which the pty takes as fast as the shell reads them."""
        if self._master < 0:
            return
        self._typed += data
        self._write()
        if len(self._typed) > WRITE_BYTES_MAX:
            self._channel.pause_reading()

    def eof_received(self) -> bool:
        """Nothing more will be typed; the shell goes on until it ends or the channel is closed."""
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """The kernel tells the foreground processes with SIGWINCH."""
        if self._master >= 0:
            _set_size(self._master, width, height)

    def signal_received(self, signal: str) -> None:
        """A signal by its name without `SIG`, to the foreground processes."""
        self._signal(signal)

    def break_received(self, msec: int) -> bool:
        """A break is an interrupt."""
        self._signal("INT")
        return True

    def pause_writing(self) -> None:
        """The client does not read: neither do we, and the shell waits."""
        self._stop_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._start_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone: closing the pty hangs up, so that its processes get SIGHUP."""
        self._close()

    # The shell.

    async def _run(self) -> None:
        width, height, _, _ = self._channel.get_terminal_size()
        self._master, terminal = os.openpty()
        try:
            os.set_blocking(self._master, False)
            _set_size(self._master, width, height)
            shell = self._user.pw_shell or "/bin/sh"
            process = await asyncio.create_subprocess_exec(
                shell,
                *(["-l"] if self._command is None else ["-c", self._command]),
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                cwd=self._home(),
                env=self._environment(shell),
                preexec_fn=partial(_take_terminal, terminal),
            )
        except (OSError, SubprocessError) as error:
            self._channel.write(f"no shell: {error}\r\n".encode())
            self._channel.exit(1)
            self._close()
            return
        finally:
            os.close(terminal)
        self._start_reading()
        status = await process.wait()
        self._read_rest()
        if self._channel.is_closing():
            return
        if status < 0:
            self._channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            self._channel.exit(status)
        self._close()

    def _home(self) -> str:
        return self._user.pw_dir if Path(self._user.pw_dir).is_dir() else "/"

    def _environment(self, shell: str) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ},
            "HOME": self._user.pw_dir,
            "USER": self._user.pw_name,
            "LOGNAME": self._user.pw_name,
            "SHELL": shell,
            "TERM": self._channel.get_terminal_type() or "dumb",
        }

    def _start_reading(self) -> None:
        if self._master >= 0 and not self._is_reading:
            self._is_reading = True
            asyncio.get_running_loop().add_reader(self._master, self._read)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            asyncio.get_running_loop().remove_reader(self._master)

    def _read(self) -> bytes:
        try:
            data = os.read(self._master, READ_BYTES_MAX)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: no process has the terminal open any more
            data = b""
            self._stop_reading()
        if data and not self._channel.is_closing():
            self._channel.write(data)
        return data

    def _read_rest(self) -> None:
        """What the shell wrote before it ended: at most what the kernel buffers for a pty."""
        if self._master < 0:
            return
        self._stop_reading()
        while self._read():
            pass

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._typed:
                del self._typed[: os.write(self._master, self._typed)]
        except BlockingIOError:
            loop.add_writer(self._master, self._write)
            return
        except OSError:  # EIO: nobody reads the terminal any more
            self._typed.clear()
        loop.remove_writer(self._master)
        self._channel.resume_reading()

    def _signal(self, name: str) -> None:
        number = getattr(signal, f"SIG{name}", None)
        if self._master < 0 or not isinstance(number, signal.Signals):
            return
        try:
            os.killpg(os.tcgetpgrp(self._master), number)
        except OSError as error:  # they have ended in this moment
            print(f"signal {name}: {error.strerror}", file=sys.stderr)

    def _close(self) -> None:
        if self._master < 0:
            return
        self._stop_reading()
        asyncio.get_running_loop().remove_writer(self._master)
        os.close(self._master)
        self._master = -1


def _take_terminal(terminal: int) -> None:
    """In the new process: the leader of a session of its own, controlled by this terminal."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _set_size(terminal: int, width: int, height: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _key(path: Path) -> asyncssh.SSHKey:
    """The private key in this file, made at the first start."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".new")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(asyncssh.generate_private_key("ssh-ed25519", comment="vsay demo machine").export_private_key())
        unfinished.replace(path)
    return asyncssh.read_private_key(path)


if __name__ == "__main__":
    run(DemoSettings, main)
