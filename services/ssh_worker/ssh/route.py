"""The way to a machine: through its jump hosts, each with its own host keys, credential and algorithms."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import asyncssh
from msgspec import Struct

from contracts.directory import Machine
from contracts.events import ConnectError
from services.ssh_worker.credentials import Credential
from services.ssh_worker.ssh.algorithms import Algorithms, of_host_keys, spoken_with
from services.ssh_worker.ssh.login import Identity, Login, UnusableCredentialError, identity
from services.ssh_worker.ssh.pacing import Pacing

KEEPALIVES_MISSED_MAX: Final = 3

CLOSE_SECONDS: Final = 2.0
"""How long a machine may take to answer our goodbye."""

ROUND_TRIPS: Final = 3
"""Of which the shortest counts: either end may be busy during one."""

METHODS: Final = "publickey,password,keyboard-interactive"


class ConnectFailedError(Exception):
    """There is no shell; `code` says at which step it failed."""

    def __init__(self, code: ConnectError, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Timeouts(Struct, frozen=True):
    """All in seconds: for TCP and the handshake, for the login after it, between keepalives."""

    connect: float
    login: float
    keepalive: float


class Hop(Struct, frozen=True):
    """One SSH server on the way."""

    machine: Machine
    credential: Credential


class Trust(Protocol):
    """Which host keys a machine may show, as `ssh-ed25519 AAAA…`."""

    async def pinned(self, machine: Machine) -> tuple[str, ...]:
        """The keys that are pinned for it; empty when there are none."""

    async def first_use(self, machine: Machine, host_key: str, fingerprint: str) -> tuple[str, ...]:
        """It may be trusted on its first use, and shows this one: what is pinned now."""


class Route:
    """Open connections, each through the one before; the last one leads to the machine."""

    def __init__(self, timeouts: Timeouts, key_id: str) -> None:
        """`key_id` names user and session in certificates."""
        self._timeouts = timeouts
        self._key_id = key_id
        self._connections: list[asyncssh.SSHClientConnection] = []
        self._pacing: Pacing
        self.authentication = "none"

    @property
    def end(self) -> asyncssh.SSHClientConnection:
        """The connection to the machine."""
        return self._connections[-1]

    async def writable(self) -> None:
        """Returns when the machine reads what it was sent."""
        await self._pacing.writable()

    async def round_trip_seconds(self) -> float:
        """How long the machine's answer takes to an empty request, through all hops."""
        took = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            await self.end._make_global_request(b"keepalive@openssh.com")  # noqa: SLF001  # there is no public way to it
            took.append(time.perf_counter() - began)
        return min(took)

    async def extend(self, hop: Hop, trust: Trust, *, is_jump: bool) -> None:
        """Log in to one server more. Raises `ConnectFailedError`."""
        try:
            shown = identity(hop.machine, hop.credential, self._key_id, is_jump=is_jump)
            keys = [asyncssh.import_public_key(key) for key in await self._host_keys(hop.machine, trust)]
        except UnusableCredentialError as error:
            raise ConnectFailedError(ConnectError.AUTH_FAILED, str(error)) from error
        except asyncssh.KeyImportError as error:
            raise ConnectFailedError(
                ConnectError.HOST_KEY_UNKNOWN, "a host key pinned for this machine is no usable key"
            ) from error
        algorithms = spoken_with(hop.machine)
        if not (host_key_algorithms := of_host_keys(keys, algorithms)):
            raise ConnectFailedError(ConnectError.HOST_KEY_MISMATCH, "the pinned host keys need an algorithm that is not allowed")
        connection = await self._log_in(hop.machine, shown, keys, algorithms, host_key_algorithms)
        self._connections.append(connection)
        self._pacing = Pacing(connection)

    def close(self) -> None:
        """Say goodbye to the machine, and behind it to every jump host."""
        for connection in reversed(self._connections):
            connection.close()

    def abort(self) -> None:
        """Drop every connection without a word."""
        for connection in reversed(self._connections):
            connection.abort()

    async def wait_closed(self) -> None:
        """Returns when all is closed; after `CLOSE_SECONDS` it is dropped without a word."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for connection in reversed(self._connections):
                    await connection.wait_closed()
        except TimeoutError:
            self.abort()

    async def _host_keys(self, machine: Machine, trust: Trust) -> tuple[str, ...]:
        if pinned := await trust.pinned(machine):
            return pinned
        if not machine.trust_on_first_use:
            raise ConnectFailedError(ConnectError.HOST_KEY_UNKNOWN, "no host key is pinned for this machine")
        # Nothing secret is sent before the key is pinned: the key exchange alone shows it, and then the connection is dropped.
        algorithms = spoken_with(machine)
        try:
            async with asyncio.timeout(self._timeouts.connect):
                key = await asyncssh.get_server_host_key(
                    machine.host,
                    machine.port,
                    tunnel=self._connections[-1] if self._connections else (),
                    kex_algs=list(algorithms.key_exchanges),
                    server_host_key_algs=list(algorithms.signatures),
                    config=None,
                    options=asyncssh.SSHClientConnectionOptions(
                        config=None,
                        client_keys=None,
                        agent_path=None,
                        encryption_algs=list(algorithms.ciphers),
                        mac_algs=list(algorithms.macs),
                        compression_algs=None,
                    ),
                )
        except Exception as error:
            raise ConnectFailedError(*_why(error, is_login=False)) from error
        if key is None:
            raise ConnectFailedError(ConnectError.HOST_KEY_UNKNOWN, "the machine shows no host key")
        return await trust.first_use(machine, key.export_public_key().decode().strip(), key.get_fingerprint())

    async def _log_in(
        self,
        machine: Machine,
        shown: Identity,
        pinned: list[asyncssh.SSHKey],
        algorithms: Algorithms,
        host_key_algorithms: list[str],
    ) -> asyncssh.SSHClientConnection:
        is_login = False

        def begun() -> None:
            nonlocal is_login
            if not is_login:
                is_login = True
                deadline.reschedule(asyncio.get_running_loop().time() + self._timeouts.login)

        login = Login(shown, begun)
        try:
            async with asyncio.timeout(self._timeouts.connect) as deadline:
                connection, _ = await asyncssh.create_connection(
                    lambda: login,
                    machine.host,
                    machine.port,
                    tunnel=self._connections[-1] if self._connections else (),
                    username=machine.login,
                    password=None,
                    client_keys=None,
                    preferred_auth=METHODS,
                    known_hosts=(pinned, [], []),
                    server_host_key_algs=host_key_algorithms,
                    kex_algs=list(algorithms.key_exchanges),
                    encryption_algs=list(algorithms.ciphers),
                    mac_algs=list(algorithms.macs),
                    signature_algs=list(algorithms.signatures),
                    compression_algs=None,
                    agent_path=None,
                    agent_forwarding=False,
                    gss_host=None,
                    x509_trusted_certs=None,
                    config=None,
                    login_timeout=0,  # `deadline` is both timeouts
                    keepalive_interval=self._timeouts.keepalive,
                    keepalive_count_max=KEEPALIVES_MISSED_MAX,
                )
        except Exception as error:
            raise ConnectFailedError(*_why(error, is_login=is_login)) from error
        self.authentication = login.method
        return connection


async def dial(hops: Sequence[Hop], trust: Trust, timeouts: Timeouts, key_id: str) -> Route:
    """Log in to one after the other; the last is the machine itself. Raises `ConnectFailedError`, and then nothing is left open."""
    route = Route(timeouts, key_id)
    try:
        for number, hop in enumerate(hops, start=1):
            is_jump = number < len(hops)
            try:
                await route.extend(hop, trust, is_jump=is_jump)
            except ConnectFailedError as error:
                message = f"jump host {hop.machine.name}: {error.message}" if is_jump else error.message
                raise ConnectFailedError(error.code, message) from error
    except BaseException:
        route.abort()
        raise
    return route


def elapsed_ms(began: float) -> int:
    """Since `began` on `time.perf_counter`."""
    return round((time.perf_counter() - began) * 1000)


def said(error: Exception) -> str:
    """What an error says, which a machine may have written: bounded, on one line and without control characters."""
    return "".join(each if each.isprintable() else " " for each in str(error)[:200]) or type(error).__name__


def _why(error: Exception, *, is_login: bool) -> tuple[ConnectError, str]:
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return ConnectError.HOST_KEY_MISMATCH, "the machine's host key is not one of those pinned for it"
        case asyncssh.KeyExchangeFailed() if "host key" in str(error):
            return ConnectError.HOST_KEY_MISMATCH, "the machine offers no host key of a kind that is pinned for it"
        case asyncssh.KeyExchangeFailed():
            return ConnectError.UNREACHABLE, f"the machine and we speak no common algorithms: {said(error)}"
        case asyncssh.PermissionDenied():
            return ConnectError.AUTH_FAILED, "the machine refused the login"
        case TimeoutError() if is_login:
            return ConnectError.TIMEOUT, "the machine did not finish the login in time"
        case TimeoutError():
            return ConnectError.TIMEOUT, "the machine did not answer in time"
        case asyncssh.ConnectionLost() if "timeout" in str(error).lower():
            return ConnectError.TIMEOUT, "the machine did not answer in time"
        case asyncssh.Error() | OSError():
            return ConnectError.UNREACHABLE, f"the machine cannot be reached: {said(error)}"
        case _:
            return ConnectError.UNREACHABLE, f"the machine broke the SSH protocol: {type(error).__name__}"
