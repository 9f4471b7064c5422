"""The SSH side of a session: connect, log in, run a shell on a pty. The only user of asyncssh."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncssh
from msgspec import Struct

from contracts.directory import Machine
from contracts.events import ConnectError
from services.ssh_worker.credentials import Credential

SSH_WINDOW_BYTES: Final = 64 * 1024
"""The SSH channel's receive window. Measured (`benchmarks/terminal`): larger ones let a flood delay other sessions."""

FRAME_BYTES_MAX: Final = 32 * 1024
"""Of one output event."""

BUFFER_BYTES_MAX: Final = 32 * 1024
"""When so much has arrived and was not read, the channel is not read any further: its window closes and the machine waits."""

KEEPALIVES_MISSED_MAX: Final = 3

CLOSE_SECONDS: Final = 2.0
"""How long a machine may take to answer our goodbye."""

KEY_EXCHANGES: Final = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
)
"""Modern ones, the quick one first: OpenSSH's post-quantum exchange costs about 90 ms of CPU an open on both sides."""

CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)


class ConnectFailedError(Exception):
    """There is no shell; `code` says at which step it failed."""

    def __init__(self, code: ConnectError, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Timeouts(Struct, frozen=True):
    """All in seconds."""

    connect: float
    login: float
    keepalive: float


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

    def __init__(self, connection: asyncssh.SSHClientConnection, changed: Callable[[], None]) -> None:
        """`changed` is called when output has arrived and when there will be no more."""
        self._connection = connection
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

    async def write(self, data: bytes) -> None:
        """Type `data`; returns when the channel has it and its window has room. Silently nothing once the shell has ended."""
        if not self.is_closed and not self._channel.is_closing():
            self._channel.write(data)
        await self._room.wait()

    def resize(self, cols: int, rows: int) -> None:
        """Tell the remote pty its new size."""
        if not self.is_closed:
            self._channel.change_terminal_size(cols, rows)

    def close(self) -> None:
        """Hang up: the server sends SIGHUP to what runs on the pty."""
        self._channel.close()
        self._connection.close()

    async def wait_closed(self) -> None:
        """Returns when the connection is gone; after `CLOSE_SECONDS` it is dropped without a word."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan

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
            self.exit = Exit(connection_lost=_said(exc) if exc else "the connection was closed without an exit status")
        self._room.set()
        self._changed()


async def open_shell(
    machine: Machine,
    credential: Credential,
    *,
    cols: int,
    rows: int,
    terminal_type: str,
    timeouts: Timeouts,
    changed: Callable[[], None],
) -> Shell:
    """Log in to `machine` and run its shell on a pty of `cols` x `rows`; `changed` as for `Shell`. Raises `ConnectFailedError`."""
    if not machine.host_keys:
        raise ConnectFailedError(ConnectError.HOST_KEY_UNKNOWN, "no host key is pinned for this machine")
    began = time.perf_counter()
    connection = await _connect(machine, credential, timeouts)
    shell = Shell(connection, changed)
    try:
        async with asyncio.timeout(timeouts.login):
            channel, _ = await connection.create_session(
                lambda: shell,
                term_type=terminal_type,
                term_size=(cols, rows),
                encoding=None,
                window=SSH_WINDOW_BYTES,
                max_pktsize=FRAME_BYTES_MAX,
            )
    except (asyncssh.Error, OSError) as error:
        connection.abort()
        code = ConnectError.TIMEOUT if isinstance(error, TimeoutError) else ConnectError.UNREACHABLE
        raise ConnectFailedError(code, f"no shell: {_said(error)}") from error
    except BaseException:
        connection.abort()
        raise
    channel.set_write_buffer_limits(high=64 * 1024)
    host_key = connection.get_server_host_key()
    assert host_key, "connected"
    shell.opening = Opening(
        login=machine.login,
        authentication="publickey" if credential.private_key else "password",
        host_key=host_key.get_fingerprint(),
        server_version=str(connection.get_extra_info("server_version", "")),
        connect_ms=round((time.perf_counter() - began) * 1000),
    )
    return shell


async def _connect(machine: Machine, credential: Credential, timeouts: Timeouts) -> asyncssh.SSHClientConnection:
    try:
        pinned = [asyncssh.import_public_key(key) for key in machine.host_keys]
        client_keys = [asyncssh.import_private_key(credential.private_key)] if credential.private_key else None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConnectFailedError(ConnectError.AUTH_FAILED, "the machine's host key or credential is not a usable key") from error
    try:
        return await asyncssh.connect(
            machine.host,
            machine.port,
            username=machine.login,
            password=credential.password,
            client_keys=client_keys,
            known_hosts=(pinned, [], []),
            server_host_key_algs=_algorithms(pinned),
            kex_algs=list(KEY_EXCHANGES),
            encryption_algs=list(CIPHERS),
            compression_algs=None,
            agent_path=None,
            agent_forwarding=False,
            x509_trusted_certs=None,
            config=None,
            connect_timeout=timeouts.connect,
            login_timeout=timeouts.connect + timeouts.login,
            keepalive_interval=timeouts.keepalive,
            keepalive_count_max=KEEPALIVES_MISSED_MAX,
        )
    except Exception as error:
        raise ConnectFailedError(*_why(error)) from error


def _algorithms(pinned: list[asyncssh.SSHKey]) -> list[str]:
    """The host key algorithms that can be verified with the pinned keys: what else a server may offer is of no use."""
    return list(dict.fromkeys(algorithm.decode() for key in pinned for algorithm in key.sig_algorithms))


def _why(error: Exception) -> tuple[ConnectError, str]:
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return ConnectError.HOST_KEY_MISMATCH, "the machine's host key is not one of those pinned for it"
        case asyncssh.KeyExchangeFailed() if "host key" in str(error):
            return ConnectError.HOST_KEY_MISMATCH, "the machine offers no host key of a kind that is pinned for it"
        case asyncssh.PermissionDenied():
            return ConnectError.AUTH_FAILED, "the machine refused the login"
        case TimeoutError():
            return ConnectError.TIMEOUT, "the machine did not answer in time"
        case asyncssh.ConnectionLost() if "timeout" in str(error).lower():
            return ConnectError.TIMEOUT, "the machine did not answer in time"
        case asyncssh.Error() | OSError():
            return ConnectError.UNREACHABLE, f"the machine cannot be reached: {_said(error)}"
        case _:
            return ConnectError.UNREACHABLE, f"the machine broke the SSH protocol: {type(error).__name__}"


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
