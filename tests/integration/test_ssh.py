"""Reaching machines: real OpenSSH servers for every way to log in, host keys, jump hosts, environment, and how shells end."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncssh
import pytest

from contracts.directory import LegacyAlgorithm, Machine
from contracts.events import ConnectError
from services.ssh_worker.credentials import Credential
from services.ssh_worker.ssh.route import ConnectFailedError, Hop, Timeouts, dial
from services.ssh_worker.ssh.shell import (
    DISTANT_BYTES_PER_SECOND,
    SSH_WINDOW_BYTES,
    SSH_WINDOW_BYTES_MAX,
    Exit,
    Shell,
    open_shell,
)
from tests.integration.openssh import OpenSsh, make_key, needs_openssh, needs_root, throwaway_user
from tests.integration.proxy import proxy_to

pytestmark = needs_openssh

KEY_ID = "usr_123 sess_456"
TIMEOUTS = Timeouts(connect=30, login=30, keepalive=15)
WAIT_SECONDS_MAX = 30.0


class Declared:
    """Trusts what machines declare, and pins on first use in memory."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}

    async def pinned(self, machine: Machine) -> tuple[str, ...]:
        return machine.host_keys or tuple(key for id_, key in self.first.items() if id_ == machine.id)

    async def first_use(self, machine: Machine, host_key: str, fingerprint: str) -> tuple[str, ...]:
        assert asyncssh.import_public_key(host_key).get_fingerprint() == fingerprint
        self.first[machine.id] = host_key
        return (host_key,)


class Terminal:
    """A shell, and what it has shown."""

    def __init__(self, shell: Shell, changed: asyncio.Event) -> None:
        self.shell = shell
        self.output = ""
        self._changed = changed

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while text not in self.output:
                await self._more()

    async def exit(self) -> Exit:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not self.shell.is_closed or self.shell.waiting_bytes:
                await self._more()
        return self.shell.exit

    async def _more(self) -> None:
        if not self.shell.waiting_bytes and not self.shell.is_closed:
            self._changed.clear()
            await self._changed.wait()
        self.output += self.shell.read(1_000_000).decode()


def machine_at(server: OpenSsh, id_: str = "mch_1", **changed: object) -> Machine:
    declared: dict[str, object] = {
        "id": id_,
        "name": id_,
        "org": "org_a",
        "host": server.address,
        "port": server.port,
        "login": server.login,
        "credential": "any",
        "host_keys": (server.host_key,),
    }
    return Machine(**(declared | changed))  # type: ignore[arg-type]


@asynccontextmanager
async def terminal(
    *hops: Hop, trust: Declared | None = None, environment: dict[str, str] | None = None, timeouts: Timeouts = TIMEOUTS
) -> AsyncIterator[Terminal]:
    changed, machine = asyncio.Event(), hops[-1].machine
    route = await dial(hops, trust or Declared(), timeouts, KEY_ID)
    shell = await open_shell(
        route,
        login=machine.login,
        command=machine.command,
        cols=80,
        rows=24,
        terminal_type=machine.terminal_type or "xterm-256color",
        environment=machine.environment | (environment or {}),
        timeout_seconds=timeouts.login,
        began=time.perf_counter(),
        changed=changed.set,
    )
    try:
        yield Terminal(shell, changed)
    finally:
        shell.close()
        await shell.wait_closed()


async def code_of(*hops: Hop, timeouts: Timeouts = TIMEOUTS, trust: Declared | None = None) -> tuple[ConnectError, str]:
    """Why there is no shell."""
    with pytest.raises(ConnectFailedError) as failed:
        async with terminal(*hops, timeouts=timeouts, trust=trust):
            pass
    return failed.value.code, failed.value.message


@contextmanager
def openssh_with(directory: Path, *settings: str, **more: str) -> Iterator[OpenSsh]:
    with OpenSsh(directory, settings, **more) as server:
        yield server


def by_key(server: OpenSsh, **changed: object) -> Hop:
    return Hop(machine_at(server, **changed), Credential(private_key=server.client_key))


# How much a machine may have on the way.


async def test_a_distant_machine_has_a_window_that_fits_its_round_trip(openssh: OpenSsh) -> None:
    ways = dict.fromkeys((0.025, 0.05, 5 / 16), 0)
    for way_seconds in ways:
        async with proxy_to(openssh.port, way_seconds=way_seconds) as proxy, terminal(by_key(openssh, port=proxy.port)) as opened:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                while opened.shell.window_bytes == SSH_WINDOW_BYTES:
                    await asyncio.sleep(way_seconds)
            ways[way_seconds] = opened.shell.window_bytes
            opened.shell.write(b"head -c 3000000 /dev/zero | tr '\\0' x; echo mar''ker\n")
            await opened.shows("marker")
            assert opened.output.count("x") >= 3000000
    for way_seconds, window in ways.items():
        assert window >= min(2 * way_seconds * DISTANT_BYTES_PER_SECOND, SSH_WINDOW_BYTES_MAX)
    assert ways[5 / 16] == SSH_WINDOW_BYTES_MAX


# Ways to log in.


async def test_by_key(openssh: OpenSsh) -> None:
    async with terminal(by_key(openssh)) as opened:
        assert opened.shell.opening.authentication == "publickey"
        assert opened.shell.opening.host_key == asyncssh.import_public_key(openssh.host_key).get_fingerprint()
        opened.shell.write(b"echo mar''ker; exit 3\n")
        await opened.shows("marker")
        assert await opened.exit() == Exit(status=3)


async def test_by_a_certificate_that_names_user_and_session_in_the_log_of_sshd(tmp_path: Path) -> None:
    authority = tmp_path / "ca"
    public = make_key(authority)
    (tmp_path / "ca.trusted").write_text(public + "\n")
    (tmp_path / "principals").write_text("operators\n")
    settings = (f"TrustedUserCAKeys {tmp_path}/ca.trusted", f"AuthorizedPrincipalsFile {tmp_path}/principals", "LogLevel VERBOSE")
    credential = Credential(authority=authority.read_text())
    with openssh_with(tmp_path / "sshd", *settings) as server:
        async with terminal(Hop(machine_at(server, principals=("operators",)), credential)) as opened:
            assert opened.shell.opening.authentication == "certificate"
            opened.shell.write(b"echo mar''ker\n")
            await opened.shows("marker")
            forward = opened.shell._route.end.create_connection(asyncssh.SSHTCPSession, "127.0.0.1", server.port)
            with pytest.raises(asyncssh.ChannelOpenError):  # the certificate permits a terminal and nothing else
                await forward
        assert f"ID {KEY_ID} (serial 0) CA ED25519" in server.log
        code, _ = await code_of(Hop(machine_at(server), credential))  # its principal is then the login, which is not allowed in
        assert code is ConnectError.AUTH_FAILED


@needs_root
async def test_by_password_and_by_the_password_at_a_prompt_of_pam(tmp_path: Path) -> None:
    with throwaway_user() as user:
        right, wrong = Credential(password=user.password), Credential(password="guess")
        for method, settings in (
            ("password", ("PasswordAuthentication yes",)),
            ("keyboard-interactive", ("UsePAM yes", "KbdInteractiveAuthentication yes")),
        ):
            with openssh_with(tmp_path / method, *settings) as server:
                machine = machine_at(server, login=user.name)
                async with terminal(Hop(machine, right)) as opened:
                    assert opened.shell.opening.authentication == method
                    opened.shell.write(b"id -un\n")
                    await opened.shows(user.name)
                assert (await code_of(Hop(machine, wrong)))[0] is ConnectError.AUTH_FAILED


class Questions(asyncssh.SSHServer):
    """Asks what no password answers."""

    def __init__(self, prompts: Sequence[tuple[str, bool]], answers: list[object]) -> None:
        self.prompts = prompts
        self.answers = answers

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> object:
        return "", "", "", self.prompts

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        self.answers.append(responses)
        return False


@pytest.mark.parametrize(
    ("prompts", "answered"),
    [
        pytest.param([("What is your favourite colour? ", True)], [], id="an answer that would be shown"),
        pytest.param([("Password: ", False), ("Code: ", False)], [], id="two questions"),
        pytest.param([("Password: ", False)], [["secret"]], id="a password, once"),
    ],
)
async def test_a_machine_that_asks_is_told_a_password_once_and_nothing_else(
    prompts: list[tuple[str, bool]], answered: list[list[str]]
) -> None:
    answers = list[object]()
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen(
        "127.0.0.1", 0, server_factory=lambda: Questions(prompts, answers), server_host_keys=[key]
    ) as server:
        public = key.export_public_key().decode().strip()
        machine = Machine("mch_1", "m", "org_a", "127.0.0.1", "x", "any", (public,), server.get_port())
        assert (await code_of(Hop(machine, Credential(password="secret"))))[0] is ConnectError.AUTH_FAILED
    assert answers == answered


async def test_a_credential_that_is_no_key(openssh: OpenSsh) -> None:
    code, message = await code_of(Hop(machine_at(openssh), Credential(private_key="no key at all")))
    assert code is ConnectError.AUTH_FAILED
    assert "no key at all" not in message


# Host keys.


async def test_a_host_key_is_replaced_while_both_are_pinned(openssh: OpenSsh) -> None:
    old = openssh.host_key
    await asyncio.to_thread(openssh.stop)
    openssh.new_host_key()
    await asyncio.to_thread(openssh.start)
    assert openssh.host_key != old
    async with terminal(by_key(openssh, host_keys=(old, openssh.host_key))) as opened:
        assert opened.shell.opening.host_key == asyncssh.import_public_key(openssh.host_key).get_fingerprint()
    assert (await code_of(by_key(openssh, host_keys=(old,))))[0] is ConnectError.HOST_KEY_MISMATCH


async def test_first_use_is_trusted_only_where_it_is_declared_and_only_once(openssh: OpenSsh) -> None:
    assert (await code_of(by_key(openssh, host_keys=())))[0] is ConnectError.HOST_KEY_UNKNOWN
    trust, hop = Declared(), by_key(openssh, host_keys=(), trust_on_first_use=True)
    async with terminal(hop, trust=trust):
        assert trust.first == {"mch_1": openssh.host_key}
    async with terminal(hop, trust=trust):
        pass
    await asyncio.to_thread(openssh.stop)
    openssh.new_host_key()
    await asyncio.to_thread(openssh.start)
    assert (await code_of(hop, trust=trust))[0] is ConnectError.HOST_KEY_MISMATCH


# The way.


async def test_through_a_chain_of_jump_hosts_each_with_its_own_credential(tmp_path: Path) -> None:
    with (
        openssh_with(tmp_path / "first", "AllowTcpForwarding yes") as first,
        openssh_with(tmp_path / "second", "AllowTcpForwarding yes") as second,
        openssh_with(tmp_path / "third") as third,
    ):
        hops = [by_key(first, id_="mch_first"), by_key(second, id_="mch_second"), by_key(third, id_="mch_third")]
        async with terminal(*hops) as opened:
            assert opened.shell.opening.host_key == asyncssh.import_public_key(third.host_key).get_fingerprint()
            opened.shell.write(b"echo $SSH_CONNECTION; exit 4\n")
            assert await opened.exit() == Exit(status=4)
            assert f"127.0.0.1 {third.port}" in opened.output
        wrong = Hop(hops[1].machine, Credential(private_key=first.client_key))
        code, message = await code_of(hops[0], wrong, hops[2])
        assert (code, message) == (ConnectError.AUTH_FAILED, "jump host mch_second: the machine refused the login")
        unknown = by_key(second, id_="mch_second", host_keys=(first.host_key,))
        assert (await code_of(hops[0], unknown, hops[2]))[0] is ConnectError.HOST_KEY_MISMATCH
        first_use = by_key(third, id_="mch_third", host_keys=(), trust_on_first_use=True)
        trust = Declared()
        async with terminal(hops[0], hops[1], first_use, trust=trust):
            assert trust.first == {"mch_third": third.host_key}


async def test_over_ipv6(tmp_path: Path) -> None:
    with openssh_with(tmp_path / "sshd", address="::1") as server:
        async with terminal(by_key(server)) as opened:
            opened.shell.write(b"exit 6\n")
            assert await opened.exit() == Exit(status=6)


@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
@pytest.mark.parametrize(
    ("settings", "listed"),
    [
        pytest.param(("KexAlgorithms diffie-hellman-group14-sha1",), (LegacyAlgorithm.KEX_GROUP14_SHA1,), id="key exchange"),
        pytest.param(("Ciphers aes128-cbc",), (LegacyAlgorithm.CIPHER_AES128_CBC,), id="cipher"),
        pytest.param(("Ciphers aes128-ctr", "MACs hmac-sha1"), (LegacyAlgorithm.MAC_SHA1,), id="mac"),
        pytest.param(("HostKeyAlgorithms ssh-rsa",), (LegacyAlgorithm.SIGNATURE_RSA_SHA1,), id="signature"),
    ],
)
async def test_old_equipment_is_reached_only_with_what_it_lists(
    tmp_path: Path, settings: tuple[str, ...], listed: tuple[LegacyAlgorithm, ...]
) -> None:
    with openssh_with(tmp_path / "sshd", *settings, host_key_type="rsa") as server:
        assert (await code_of(by_key(server)))[0] in (ConnectError.UNREACHABLE, ConnectError.HOST_KEY_MISMATCH)
        async with terminal(by_key(server, legacy_algorithms=listed)) as opened:
            opened.shell.write(b"exit 5\n")
            assert await opened.exit() == Exit(status=5)


# What runs, and how it ends.


async def test_terminal_type_environment_and_a_forced_command(tmp_path: Path) -> None:
    with openssh_with(tmp_path / "sshd", "AcceptEnv LANG LC_*") as server:
        hop = by_key(
            server,
            terminal_type="vt100",
            environment={"LANG": "de_DE.UTF-8", "PATH_X": "no"},
            command='echo "$TERM $LANG $LC_TIME ${PATH_X:-unset} ${SSH_AUTH_SOCK:-none} ${DISPLAY:-none}"; test -t 0 && exit 9',
        )
        async with terminal(hop, environment={"LC_TIME": "C"}) as opened:
            assert await opened.exit() == Exit(status=9)
            assert opened.output.strip() == "vt100 de_DE.UTF-8 C unset none none"


async def test_a_shell_that_a_signal_ends(openssh: OpenSsh) -> None:
    async with terminal(by_key(openssh, command="kill -TERM $$; sleep 60")) as opened:
        assert await opened.exit() == Exit(signal="TERM")


async def test_a_connection_that_is_cut(openssh: OpenSsh) -> None:
    async with terminal(by_key(openssh)) as opened:
        opened.shell.write(b"echo re''ady\n")
        await opened.shows("ready")
        opened.shell.write(b"kill -9 $PPID\n")
        ended = await opened.exit()
    assert ended.status is None
    assert ended.signal is None
    assert ended.connection_lost


async def test_hanging_up_sends_sighup_to_what_runs(openssh: OpenSsh, tmp_path: Path) -> None:
    sign = tmp_path / "hung-up"
    async with terminal(
        by_key(openssh, command=f"trap 'echo hup > {sign}; exit' HUP; echo re''ady; while :; do sleep 0.1; done")
    ) as opened:
        await opened.shows("ready")
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not sign.exists() or not sign.read_text():
            await asyncio.sleep(0.02)


# Time.


async def test_a_machine_that_accepts_and_says_nothing(tmp_path: Path) -> None:
    async with silent_server() as port:
        machine = Machine("mch_1", "m", "org_a", "127.0.0.1", "x", "any", (make_key(tmp_path / "k"),), port)
        quick = Timeouts(connect=0.5, login=30, keepalive=15)
        code, message = await code_of(Hop(machine, Credential(password="x")), timeouts=quick)
        assert (code, message) == (ConnectError.TIMEOUT, "the machine did not answer in time")


@needs_root
async def test_a_login_that_takes_longer_than_it_may(tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    script.chmod(0o755)
    shutil.chown(script, "root", "root")
    # sshd runs the command only from a path that root alone can write.
    safe = Path("/run/sshd") / f"vsay-slow-{tmp_path.name}"
    shutil.copy(script, safe)
    safe.chmod(0o755)
    try:
        with openssh_with(tmp_path / "sshd", f"AuthorizedKeysCommand {safe}", "AuthorizedKeysCommandUser root") as server:
            hop = Hop(machine_at(server), Credential(private_key=make_private(tmp_path / "other")))
            code, message = await code_of(hop, timeouts=Timeouts(connect=30, login=0.5, keepalive=15))
            assert (code, message) == (ConnectError.TIMEOUT, "the machine did not finish the login in time")
    finally:
        safe.unlink()


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    over = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        over.set()


def make_private(path: Path) -> str:
    make_key(path)
    return path.read_text()
