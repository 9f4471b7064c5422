"""The directory in a real server's buckets."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from nats.js import JetStreamContext

from contracts.directory import DirectoryFile, Machine, Organization, Ticket, User, UserRole, secret_key
from contracts.events import Role
from contracts.streams import MACHINES, TICKETS, TOKENS
from services.runtime import bus
from services.runtime.directory import Directory, DirectoryError, UnreadableValueError
from services.runtime.settings import StreamSettings

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)

ACME = Organization("org_acme", "Acme")
OTHER = Organization("org_other", "Other")
JOHN = User("usr_123", "John Doe", "john@example.com", "org_acme", machines=("*",))
JANE = User("usr_456", "Jane Roe", "jane@example.com", "org_other", UserRole.AUDITOR)
WEB = Machine("mch_web", "Web", "org_acme", "192.0.2.1", "deploy", "deploy-key")
DB = Machine("mch_db", "Database", "org_acme", "192.0.2.2", "deploy", "deploy-key", port=2222)
FAR = Machine("mch_far", "Far", "org_other", "192.0.2.3", "deploy", "deploy-key")

ALL = DirectoryFile((ACME, OTHER), (JOHN, JANE), (WEB, DB, FAR))
TICKET = Ticket("sess_1", JOHN.id, ACME.id, Role.DRIVER, NOW + timedelta(hours=1))


@pytest.fixture
async def jetstream(nats_url: str) -> AsyncIterator[JetStreamContext]:
    settings = StreamSettings(nats_url=nats_url, stream_bytes_max=10_000_000)
    nats = await bus.connect(settings, "test")
    jetstream = nats.jetstream()
    await bus.declare(jetstream, settings)
    yield jetstream
    await nats.close()


@pytest.fixture
async def directory(jetstream: JetStreamContext) -> Directory:
    return await Directory.open(jetstream)


async def test_an_empty_directory_knows_nobody(directory: Directory) -> None:
    assert await directory.user(JOHN.id) is None
    assert await directory.machine(WEB.id) is None
    assert await directory.organization(ACME.id) is None
    assert await directory.machines_of(ACME.id) == []
    assert await directory.authenticate("vsay_unknown") is None
    assert await directory.ticket("unknown", now=NOW) is None


@pytest.mark.parametrize("id_", ["", "mch_*", "mch_>", ".", "mch a", "mch_ö"])
async def test_what_can_be_no_key_is_unknown(directory: Directory, id_: str) -> None:
    assert await directory.machine(id_) is None


async def test_apply_writes_what_differs_and_keeps_the_rest(directory: Directory) -> None:
    changes = await directory.apply(ALL)
    assert changes.written == ("org_acme", "org_other", "mch_web", "mch_db", "mch_far", "usr_123", "usr_456")
    assert await directory.user(JOHN.id) == JOHN
    assert await directory.machine(DB.id) == DB
    assert await directory.organization(ACME.id) == ACME
    assert await directory.machines_of(ACME.id) == [DB, WEB]

    moved = replace(DB, host="192.0.2.20")
    changes = await directory.apply(DirectoryFile(machines=(moved, WEB)))
    assert (changes.written, changes.unchanged, changes.removed) == (("mch_db",), ("mch_web",), ())
    assert await directory.machines_of(ACME.id) == [moved, WEB]
    assert await directory.user(JANE.id) == JANE


async def test_prune_removes_what_is_not_declared_with_the_tokens_of_its_users(directory: Directory) -> None:
    await directory.apply(ALL)
    johns, janes = await directory.create_token(JOHN.id), await directory.create_token(JANE.id)

    changes = await directory.apply(DirectoryFile((ACME,), (JOHN,), (WEB,)), prune=True)
    assert changes.removed == ("usr_456", "mch_db", "mch_far", "org_other")
    assert await directory.machines_of(OTHER.id) == []
    assert await directory.organization(OTHER.id) is None

    await directory.apply(ALL)
    assert await directory.authenticate(janes) is None, "a user who comes back gets no old token back"
    assert await directory.authenticate(johns) == JOHN


@pytest.mark.parametrize(
    ("file", "prune", "said"),
    [
        pytest.param(DirectoryFile((ACME,), (JOHN, JANE), (WEB,)), False, "usr_456: there is no organization org_other", id="user"),
        pytest.param(DirectoryFile((ACME,), (JOHN,), (FAR,)), False, "mch_far: there is no organization org_other", id="machine"),
        pytest.param(DirectoryFile((ACME,), (JOHN, JOHN)), False, "usr_123 is declared twice", id="twice"),
        pytest.param(
            DirectoryFile((ACME,), (JOHN,), (replace(WEB, jump="mch_db"),)), False, "there is no machine mch_db", id="no jump host"
        ),
        pytest.param(
            DirectoryFile((ACME,), (JOHN,), (replace(WEB, jump="mch_db"), replace(DB, jump="mch_web"))),
            False,
            "a circle",
            id="circle",
        ),
        pytest.param(
            DirectoryFile((ACME, OTHER), (JOHN,), (replace(WEB, jump="mch_far"), FAR)),
            False,
            "in its organization",
            id="jump abroad",
        ),
        pytest.param(DirectoryFile((), (JOHN,)), True, "usr_123: there is no organization org_acme", id="pruned organization"),
    ],
)
async def test_nothing_of_a_wrong_file_is_applied(directory: Directory, file: DirectoryFile, prune: bool, said: str) -> None:
    if prune:
        await directory.apply(DirectoryFile((ACME,)))
    with pytest.raises(DirectoryError, match=said):
        await directory.apply(file, prune=prune)
    assert await directory.user(JOHN.id) is None
    assert await directory.machine(WEB.id) is None


async def test_an_organization_may_stand_in_the_directory_only(directory: Directory) -> None:
    await directory.apply(DirectoryFile((ACME,)))
    await directory.apply(DirectoryFile((), (JOHN,), (WEB,)))
    assert await directory.user(JOHN.id) == JOHN


async def test_a_token_admits_until_it_is_revoked(directory: Directory) -> None:
    await directory.apply(ALL)
    first, second = await directory.create_token(JOHN.id), await directory.create_token(JOHN.id)
    assert first != second
    assert first.startswith("vsay_")
    assert await directory.authenticate(first) == JOHN
    assert await directory.revoke_token(first)
    assert not await directory.revoke_token(first)
    assert await directory.authenticate(first) is None
    assert await directory.authenticate(second) == JOHN


async def test_an_unknown_user_gets_no_token(directory: Directory) -> None:
    with pytest.raises(DirectoryError, match="usr_nobody"):
        await directory.create_token("usr_nobody")


async def test_a_ticket_admits_until_it_expires(directory: Directory) -> None:
    secret = await directory.create_ticket(TICKET)
    assert await directory.ticket(secret, now=NOW) == TICKET
    assert await directory.ticket(secret, now=TICKET.expires_at - timedelta(microseconds=1)) == TICKET
    assert await directory.ticket(secret, now=TICKET.expires_at) is None
    assert await directory.ticket(secret + "x", now=NOW) is None


async def test_listing_is_complete_every_time_and_leaves_nothing_on_the_server(
    directory: Directory, jetstream: JetStreamContext
) -> None:
    machines = tuple(replace(WEB, id=f"mch_{n}") for n in range(601))
    await directory.apply(DirectoryFile((ACME,), (), machines))
    assert len(await directory.machines_of(ACME.id)) == 601
    await directory.apply(DirectoryFile((ACME,), (), (WEB,)), prune=True)
    for _ in range(200):
        assert await directory.machines_of(ACME.id) == [WEB]
    assert (await jetstream.stream_info(f"KV_{MACHINES.name}")).state.consumer_count == 0


async def test_secrets_are_stored_only_as_their_hash(directory: Directory, jetstream: JetStreamContext) -> None:
    await directory.apply(ALL)
    for declared, secret in (
        (TOKENS, await directory.create_token(JOHN.id)),
        (TICKETS, await directory.create_ticket(TICKET)),
    ):
        bucket = await bus.bucket(jetstream, declared)
        assert await bucket.keys() == [secret_key(secret)]
        value = (await bucket.get(secret_key(secret))).value
        assert value
        assert secret.encode() not in value


@pytest.mark.parametrize("value", [b"", b"{", b'{"id": "mch_web"}', b"\x81\xa2id"], ids=["empty", "cut", "incomplete", "msgpack"])
async def test_an_unreadable_value_is_named(directory: Directory, jetstream: JetStreamContext, value: bytes) -> None:
    await directory.apply(ALL)
    bucket = await bus.bucket(jetstream, MACHINES)
    await bucket.put(WEB.id, value)
    for reading in (directory.machine(WEB.id), directory.machines_of(ACME.id)):
        with pytest.raises(UnreadableValueError, match="bucket machines, key mch_web"):
            await reading
    assert await directory.machine(DB.id) == DB
