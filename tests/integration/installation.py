"""A whole installation out of real parts: nats-server, the ClickHouse engine, an OpenSSH server and our services."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import nats
from nats.js import JetStreamContext

from contracts.directory import DirectoryFile, Machine, Organization, User, UserRole
from contracts.wire import Recorded, decode
from services.runtime import bus
from services.runtime.directory import Directory
from services.runtime.settings import StreamSettings
from tests.integration.openssh import OpenSsh
from tests.integration.processes import Client, Service
from tests.integration.servers import ClickHouse, NatsServer

ORG = "org_acme"


class Installation:
    """`start` what a test needs; everything is stopped at its end. `settings` are for every service."""

    def __init__(self, directory: Path, running: ExitStack, **settings: str) -> None:
        self.directory = directory
        self._running = running
        self.nats = running.enter_context(NatsServer(directory / "nats"))
        self.openssh = running.enter_context(OpenSsh(directory / "openssh"))
        self.secrets = directory / "secrets"
        self.secrets.mkdir()
        (self.secrets / "deploy-key").write_text(self.openssh.client_key)
        self.settings = {
            "VSAY_NATS_URL": self.nats.url,
            "VSAY_SECRETS_DIR": str(self.secrets),
            "VSAY_STREAM_BYTES_MAX": "1000000000",
            "VSAY_DRAIN_SECONDS": "0",
            "VSAY_BATCH_SECONDS_MAX": "0.1",  # tests look into ClickHouse themselves, which does not hurry it as readers do
        } | settings
        self._count = 0

    def clickhouse(self) -> ClickHouse:
        """The engine, which services that are started later will use."""
        clickhouse = self._running.enter_context(ClickHouse(self.directory / "clickhouse"))
        self.settings["VSAY_CLICKHOUSE_URL"] = clickhouse.url
        return clickhouse

    def start(self, name: str, **settings: str) -> Service:
        """One more process of a service."""
        self._count += 1
        service = Service(self.directory / f"{name}-{self._count}", name, self.settings | settings)
        return self._running.enter_context(service)

    def machine(self, id_: str = "mch_456", **changed: object) -> Machine:
        """The OpenSSH server as the directory declares it."""
        declared: dict[str, object] = {
            "id": id_,
            "name": "Production Server",
            "org": ORG,
            "host": "127.0.0.1",
            "port": self.openssh.port,
            "login": self.openssh.login,
            "credential": "deploy-key",
            "host_keys": (self.openssh.host_key,),
        }
        return Machine(**(declared | changed))  # type: ignore[arg-type]

    async def declare(self, *machines: Machine) -> dict[str, str]:
        """Declare two organizations and their users; returns an API token for each user."""
        async with self.jetstream() as jetstream:
            await bus.declare(jetstream, StreamSettings(stream_bytes_max=int(self.settings["VSAY_STREAM_BYTES_MAX"])))
            directory = await Directory.open(jetstream)
            users = (
                User("usr_admin", "Ada Admin", "ada@example.com", ORG, UserRole.ADMIN, ("*",)),
                User("usr_123", "John Doe", "john@example.com", ORG, UserRole.OPERATOR, ("*",)),
                User("usr_other", "Olga Other", "olga@example.com", ORG, UserRole.OPERATOR, ()),
                User("usr_auditor", "Art Auditor", "art@example.com", ORG, UserRole.AUDITOR),
                User("usr_foreign", "Fay Foreign", "fay@example.com", "org_other", UserRole.ADMIN, ("*",)),
            )
            organizations = (Organization(ORG, "Acme"), Organization("org_other", "Other"))
            await directory.apply(DirectoryFile(organizations, users, machines or (self.machine(),)))
            return {user.id: await directory.create_token(user.id) for user in users}

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStreamContext]:
        """A connection of the test's own."""
        client = await nats.connect(self.nats.url)
        try:
            yield client.jetstream()
        finally:
            await client.close()

    async def record(self, session_id: str) -> list[Recorded]:
        """Every stored event of a session, as the stream has it, in the order of the stream."""
        async with self.jetstream() as jetstream:
            subscription = await jetstream.subscribe(f"session.{session_id}.>", ordered_consumer=True)
            record = []
            while True:
                message = await subscription.next_msg(5)
                record.append(decode(message.data))
                if message.metadata.num_pending == 0:
                    return record

    async def stored_bytes(self) -> int:
        """Size of stream SESSIONS."""
        async with self.jetstream() as jetstream:
            return (await jetstream.stream_info("SESSIONS")).state.bytes

    def client(self, api: Service, token: str) -> Client:
        """A client of one replica."""
        return Client(api.url, token)


@contextmanager
def installation(directory: Path, **settings: str) -> Iterator[Installation]:
    """An installation below `directory`."""
    with ExitStack() as running:
        yield Installation(directory, running, **settings)
