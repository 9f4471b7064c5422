"""A remote shell on a pty."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import asyncssh
from msgspec import Struct

from contracts.events import ConnectError
from services.ssh_worker.ssh.route import ConnectFailedError, Route, elapsed_ms, said

SSH_WINDOW_BYTES: Final = 32 * 1024
"""The SSH channel's receive window. Measured (`benchmarks/terminal`): larger ones let a flood delay Ctrl-C and other sessions."""

SSH_WINDOW_BYTES_MAX: Final = 1024 * 1024
"""Of a distant machine."""

DISTANT_BYTES_PER_SECOND: Final = 8 * 1024 * 1024
"""What a distant machine's window is made for: a machine sends at most one window in each round trip."""

FRAME_BYTES_MAX: Final = 32 * 1024
"""Of one output event."""

BUFFER_BYTES_MAX: Final = 32 * 1024
"""When so much has arrived and was not read, the channel is not read any further: its window closes and the machine waits."""

INPUT_BUFFER_BYTES_MAX: Final = 64 * 1024
"""Typed input that the machine has not taken, beyond which `write` waits."""


class Opening(Struct, frozen=True):
    """How the shell was reached; `host_key` is the fingerprint as OpenSSH prints it."""

    login: str
    authentication: str
    host_key: str
    server_version: str
    connect_ms: int


class Exit(Struct, frozen=True):
    """How the shell ended: by status or by signal (`SIG` left out, RFC 4254); neither when the connection was lost."""

    status: int | None = None
    signal: str | None = None
    connection_lost: str | None = None


class Shell(asyncssh.SSHClientSession[bytes]):
    """A remote shell on a pty: `read` its output, `write` to it, until `read` gives nothing and `exit` says why."""

    def __init__(self, route: Route, changed: Callable[[], None]) -> None:
        """`changed` is called when output has arrived and when there will be no more."""
        self._route = route
        self._changed = changed
        self._chunks: list[bytes] = []
        self._size = 0
        self._room = asyncio.Event()
        self._room.set()
        self._paused = False
        self.is_closed = False
        self.exit = Exit()
        self.opening: Opening
        self._channel: asyncssh.SSHClientChannel[bytes]
        self._measuring: asyncio.Task[None] | None = None

    @property
    def window_bytes(self) -> int:
        """How much the machine may send before we have taken what it sent."""
        return self._channel.get_recv_window()

    @property
    def waiting_bytes(self) -> int:
        """Output that has arrived and was not read yet."""
        return self._size

    def read(self, bytes_max: int) -> bytes:
        """What has arrived, in order, at most `bytes_max`; empty when there is nothing."""
        joined = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        taken, rest = (joined, b"") if len(joined) <= bytes_max else (joined[:bytes_max], joined[bytes_max:])
        self._chunks = [rest] if rest else []
        self._size = len(rest)
        if self._paused and self._size < BUFFER_BYTES_MAX:
            self._paused = False
            self._channel.resume_reading()
        return taken

    def write(self, data: bytes) -> None:
        """Type `data`; wait for `writable` before the next. Silently nothing once the shell has ended."""
        if not self.is_closed and not self._channel.is_closing():
            self._channel.write(data)

    async def writable(self) -> None:
        """Returns when the channel has what was typed and its window has room."""
        await self._room.wait()
        if not self.is_closed:
            await self._route.writable()

    def resize(self, cols: int, rows: int) -> None:
        """Tell the remote pty its new size."""
        if not self.is_closed:
            self._channel.change_terminal_size(cols, rows)

    def close(self) -> None:
        """Hang up: SIGHUP to what runs on the pty, by name where the server passes signals on, and by closing it."""
        if not self.is_closed and not self._channel.is_closing():
            self._channel.send_signal("HUP")
        self._channel.close()
        self._route.close()

    async def wait_closed(self) -> None:
        """Returns when the connection is gone, at the latest a moment after it was dropped without a word."""
        await self._route.wait_closed()

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan
        self._measuring = asyncio.create_task(self._fit_window())

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Output came; on a pty there is only one kind."""
        self._chunks.append(data)
        self._size += len(data)
        self._changed()
        if self._size >= BUFFER_BYTES_MAX and not self._paused:
            self._paused = True
            self._channel.pause_reading()

    def exit_status_received(self, status: int) -> None:
        """The shell's exit status."""
        self.exit = Exit(status=status)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """The signal that ended the shell."""
        self.exit = Exit(signal=signal)

    def pause_writing(self) -> None:
        """The remote end does not read."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The remote end reads again."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        self.is_closed = True
        if self.exit == Exit():
            self.exit = Exit(connection_lost=said(exc) if exc else "the connection was closed without an exit status")
        self._room.set()
        self._changed()
        if self._measuring:
            self._measuring.cancel()

    async def _fit_window(self) -> None:
        """Let a distant machine have more on the way; asyncssh grants it when next it grants anything."""
        fitting = int(await self._route.round_trip_seconds() * DISTANT_BYTES_PER_SECOND)
        window = min(max(fitting, SSH_WINDOW_BYTES), SSH_WINDOW_BYTES_MAX)
        self._channel._init_recv_window = window  # noqa: SLF001  # there is no public way to it


async def open_shell(
    route: Route,
    *,
    login: str,
    command: str | None,
    cols: int,
    rows: int,
    terminal_type: str,
    environment: Mapping[str, str],
    timeout_seconds: float,
    began: float,
    changed: Callable[[], None],
) -> Shell:
    """Run the login shell, or `command`, on a pty of `cols` x `rows` at the end of `route`; `changed` as for `Shell`.

    `began` is when connecting began, on `time.perf_counter`. Raises `ConnectFailedError`, and then the route is closed.
    """
    shell = Shell(route, changed)
    try:
        async with asyncio.timeout(timeout_seconds):
            channel, _ = await route.end.create_session(
                lambda: shell,
                command,
                term_type=terminal_type,
                term_size=(cols, rows),
                env=list(environment.items()),
                x11_forwarding=False,
                encoding=None,
                window=SSH_WINDOW_BYTES,
                max_pktsize=FRAME_BYTES_MAX,
            )
    except (asyncssh.Error, OSError) as error:
        route.abort()
        code = ConnectError.TIMEOUT if isinstance(error, TimeoutError) else ConnectError.UNREACHABLE
        raise ConnectFailedError(code, f"no shell: {said(error)}") from error
    except BaseException:
        route.abort()
        raise
    channel.set_write_buffer_limits(high=INPUT_BUFFER_BYTES_MAX)
    host_key = route.end.get_server_host_key()
    assert host_key, "connected"
    shell.opening = Opening(
        login=login,
        authentication=route.authentication,
        host_key=host_key.get_fingerprint(),
        server_version=str(route.end.get_extra_info("server_version", "")),
        connect_ms=elapsed_ms(began),
    )
    return shell
