"""From a command to a running shell: credentials, host keys, jump hosts, environment."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nats.errors import Error as NatsError

from contracts.commands import OpenSession
from contracts.directory import Machine, TrustedHostKey
from contracts.events import ConnectError
from services.ssh_worker import credentials, shell_integration
from services.ssh_worker.host_keys import HostKeys
from services.ssh_worker.journal import Journal
from services.ssh_worker.session import Connected, HostKeyTrusted
from services.ssh_worker.settings import WorkerSettings
from services.ssh_worker.ssh.route import ConnectFailedError, Hop, Timeouts, dial
from services.ssh_worker.ssh.shell import Shell, open_shell


class Connecting:
    """Connects one session, and says which host keys to trust on the way (it is the route's `Trust`)."""

    def __init__(self, command: OpenSession, settings: WorkerSettings, host_keys: HostKeys, journal: Journal) -> None:
        self._command = command
        self._settings = settings
        self._host_keys = host_keys
        self._journal = journal

    async def shell(self, changed: Callable[[], None]) -> Shell:
        """The running shell, not yet recorded; `changed` as for `Shell`. Raises `ConnectFailedError`."""
        settings, command, machine = self._settings, self._command, self._command.machine
        began = time.perf_counter()
        hops = [Hop(each, self._credential(each)) for each in (*command.jumps, machine)]
        timeouts = Timeouts(settings.connect_timeout_seconds, settings.login_timeout_seconds, settings.keepalive_seconds)
        route = await dial(hops, self, timeouts, key_id=f"{command.user.id} {command.session_id}")
        return await open_shell(
            route,
            login=machine.login,
            command=machine.command or (shell_integration.COMMAND if machine.shell_integration else None),
            cols=command.cols,
            rows=command.rows,
            terminal_type=machine.terminal_type or settings.terminal_type,
            environment=self._environment(),
            timeout_seconds=timeouts.login,
            began=began,
            changed=changed,
        )

    def connected(self, shell: Shell) -> Connected:
        """What happened, for the record."""
        opening = shell.opening
        return Connected(
            login=opening.login,
            authentication=opening.authentication,
            host_key=opening.host_key,
            server_version=opening.server_version,
            connect_ms=opening.connect_ms,
            jumps=tuple(each.id for each in self._command.jumps),
        )

    # Which host keys to trust.

    async def pinned(self, machine: Machine) -> tuple[str, ...]:
        """Those that the directory declares; else, where first use is trusted, the one that was pinned then."""
        if machine.host_keys or not machine.trust_on_first_use:
            return machine.host_keys
        try:
            host_key = await self._host_keys.pinned(machine.id)
        except (NatsError, TimeoutError, msgspec.MsgspecError) as error:
            raise ConnectFailedError(ConnectError.HOST_KEY_UNKNOWN, "the pinned host key cannot be read") from error
        return (host_key,) if host_key else ()

    async def first_use(self, machine: Machine, host_key: str, fingerprint: str) -> tuple[str, ...]:
        """Pin `host_key` and record it; when another session was faster, what that one pinned."""
        trusted = TrustedHostKey(host_key, self._command.session_id, datetime.now(UTC))
        try:
            is_ours = await self._host_keys.pin(machine.id, trusted)
        except (NatsError, TimeoutError) as error:
            raise ConnectFailedError(ConnectError.HOST_KEY_UNKNOWN, "the host key cannot be pinned") from error
        if not is_ours:
            return await self.pinned(machine)
        await self._journal.happens(HostKeyTrusted(machine.target(), host_key, fingerprint))
        return (host_key,)

    def _credential(self, machine: Machine) -> credentials.Credential:
        try:
            return credentials.read(Path(self._settings.secrets_dir), machine.credential)
        except credentials.CredentialError as error:
            raise ConnectFailedError(ConnectError.AUTH_FAILED, str(error)) from error

    def _environment(self) -> dict[str, str]:
        machine = self._command.machine
        wanted = {name: value for name, value in self._command.environment.items() if machine.allows(name)}
        return machine.environment | wanted
