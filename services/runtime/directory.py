"""The directory: organizations, users, machines, API tokens and tickets, in the key-value buckets of `contracts.directory`.

Values are JSON. Tokens and tickets are found by the SHA-256 of their secret, which itself is kept nowhere. All methods let
`nats.errors.Error` through when the bus does not answer.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.errors import InvalidKeyError, KeyNotFoundError
from nats.js.kv import KeyValue

from contracts.directory import JUMPS_MAX, ApiToken, DeclaredFile, DirectoryFile, Machine, Organization, Ticket, User, secret_key
from contracts.streams import MACHINES, ORGANIZATIONS, TICKETS, TOKENS, USERS, Bucket
from services.runtime import buckets, bus

TOKEN_PREFIX: Final = "vsay_"  # noqa: S105  # what a leaked token is recognized by, not a secret
SECRET_BYTES: Final = 32


class DirectoryError(Exception):
    """What was asked of the directory cannot be done as it stands; the message says what to mend."""


class UnreadableValueError(Exception):
    """A bucket holds a value that is not what it should be; the message names the bucket and the key."""


class Changes(Struct, frozen=True):
    """What `apply` did, by id."""

    written: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def read_file(path: Path) -> DirectoryFile:
    """The directory declared in a TOML file. Raises `DirectoryError`, which names the file and the field."""
    try:
        text = path.read_bytes()
        msgspec.toml.decode(text, type=DeclaredFile)
        return msgspec.toml.decode(text, type=DirectoryFile)
    except OSError as error:
        raise DirectoryError(f"{path}: {error.strerror or type(error).__name__}") from error
    except UnicodeDecodeError as error:
        raise DirectoryError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except msgspec.ValidationError as error:
        message, _, field = str(error).partition(" - at `$.")
        raise DirectoryError(f"{path}: {field.rstrip('`')}: {message}" if field else f"{path}: {message}") from error
    except msgspec.DecodeError as error:
        raise DirectoryError(f"{path}: not TOML: {error}") from error


class Directory:
    """One view of the buckets, which other processes may change at any time: nothing is cached."""

    def __init__(
        self,
        organizations: "Table[Organization]",
        users: "Table[User]",
        machines: "Table[Machine]",
        tokens: "Table[ApiToken]",
        tickets: "Table[Ticket]",
    ) -> None:
        """See `open`."""
        self._organizations = organizations
        self._users = users
        self._machines = machines
        self._tokens = tokens
        self._tickets = tickets

    @classmethod
    async def open(cls, jetstream: JetStreamContext) -> Self:
        """The directory on this bus. Raises `nats.js.errors.BucketNotFoundError` where `bus.declare` has not run."""
        return cls(
            await Table.open(jetstream, ORGANIZATIONS, Organization),
            await Table.open(jetstream, USERS, User),
            await Table.open(jetstream, MACHINES, Machine),
            await Table.open(jetstream, TOKENS, ApiToken),
            await Table.open(jetstream, TICKETS, Ticket),
        )

    async def organization(self, org_id: str) -> Organization | None:
        """The organization; None when there is none. Raises `UnreadableValueError`, as all that reads does."""
        return await self._organizations.get(org_id)

    async def organizations(self) -> list[Organization]:
        """All of them, by id."""
        found = await self._organizations.all()
        return [found[org_id] for org_id in sorted(found)]

    async def user(self, user_id: str) -> User | None:
        """The user, of whatever organization; None when there is none."""
        return await self._users.get(user_id)

    async def machine(self, machine_id: str) -> Machine | None:
        """The machine, of whatever organization; None when there is none."""
        return await self._machines.get(machine_id)

    async def machines_of(self, org_id: str) -> list[Machine]:
        """All machines of an organization, by id."""
        machines = await self._machines.all()
        return [machines[machine_id] for machine_id in sorted(machines) if machines[machine_id].org == org_id]

    async def apply(self, file: DirectoryFile, *, prune: bool = False) -> Changes:
        """Make the directory as `file` says; with `prune` what it does not declare is removed, tokens of removed users too.

        Everything is checked before anything is written. Raises `DirectoryError` for an id declared twice, and for a user
        or a machine of an organization, or a jump host, that is neither in the file nor (without `prune`) in the directory.
        """
        organizations, machines, users = await self._organizations.all(), await self._machines.all(), await self._users.all()
        _check(file, set() if prune else set(organizations), {} if prune else machines)
        written, unchanged = [], []
        # What others refer to comes first, and is removed last, so that a reader in between sees no dangling reference.
        tables: tuple[tuple[Table[Any], Mapping[str, Struct], Iterable[Organization | Machine | User]], ...] = (
            (self._organizations, organizations, file.organizations),
            (self._machines, machines, file.machines),
            (self._users, users, file.users),
        )
        for table, present, declared in tables:
            for entry in declared:
                if present.get(entry.id) == entry:
                    unchanged.append(entry.id)
                else:
                    await table.put(entry.id, entry)
                    written.append(entry.id)
        removed = await self._prune(file, users, machines, organizations) if prune else []
        return Changes(tuple(written), tuple(unchanged), tuple(removed))

    async def create_token(self, user_id: str) -> str:
        """A new API token of this user; shown here once. Raises `DirectoryError` for an unknown user."""
        if await self.user(user_id) is None:
            raise DirectoryError(f"there is no user {user_id}")
        token = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        await self._tokens.put(secret_key(token), ApiToken(user_id=user_id, created_at=datetime.now(UTC)))
        return token

    async def authenticate(self, token: str) -> User | None:
        """Whose API token this is; None when it is nobody's (any more)."""
        found = await self._tokens.get(secret_key(token))
        return await self.user(found.user_id) if found else None

    async def revoke_token(self, token: str) -> bool:
        """The token admits nobody from now on; False when it did not before either."""
        key = secret_key(token)
        if await self._tokens.get(key) is None:
            return False
        await self._tokens.remove(key)
        return True

    async def create_ticket(self, ticket: Ticket) -> str:
        """The secret under which `ticket` is found until it expires; shown here once."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        await self._tickets.put(secret_key(secret), ticket)
        return secret

    async def ticket(self, secret: str, *, now: datetime) -> Ticket | None:
        """What this secret admits to at the time `now`; None when it is unknown or has expired."""
        found = await self._tickets.get(secret_key(secret))
        return found if found and now < found.expires_at else None

    async def _prune(
        self, file: DirectoryFile, users: Iterable[str], machines: Iterable[str], organizations: Iterable[str]
    ) -> list[str]:
        kept_users = {user.id for user in file.users}
        for key, token in (await self._tokens.all()).items():
            if token.user_id not in kept_users:
                await self._tokens.remove(key)
        removed = []
        tables: tuple[tuple[Table[Any], Iterable[str], set[str]], ...] = (
            (self._users, users, kept_users),
            (self._machines, machines, {machine.id for machine in file.machines}),
            (self._organizations, organizations, {organization.id for organization in file.organizations}),
        )
        for table, present, kept in tables:
            for id_ in sorted(set(present) - kept):
                await table.remove(id_)
                removed.append(id_)
        return removed


class Table[Value: Struct]:
    """One bucket, with values of one type as JSON."""

    def __init__(self, jetstream: JetStreamContext, bucket: KeyValue, declared: Bucket, kind: type[Value]) -> None:
        """See `open`."""
        self._jetstream = jetstream
        self._bucket = bucket
        self._declared = declared
        self._decoder = msgspec.json.Decoder(kind)

    @classmethod
    async def open(cls, jetstream: JetStreamContext, declared: Bucket, kind: type[Value]) -> Self:
        """The table in this bucket. Raises `nats.js.errors.BucketNotFoundError`."""
        return cls(jetstream, await bus.bucket(jetstream, declared), declared, kind)

    async def get(self, key: str) -> Value | None:
        """None for a key that is not there, and for text that can be no key. Raises `UnreadableValueError`."""
        try:
            entry = await self._bucket.get(key)
        except (KeyNotFoundError, InvalidKeyError):
            return None
        return self._decode(key, entry.value or b"")

    async def all(self) -> dict[str, Value]:
        """Everything by key. Raises `UnreadableValueError`."""
        found = await buckets.values(self._jetstream, self._declared)
        return {key: self._decode(key, value) for key, value in found.items()}

    async def put(self, key: str, value: Value) -> None:
        """Write; the last writer wins."""
        await self._bucket.put(key, msgspec.json.encode(value))

    async def remove(self, key: str) -> None:
        """Remove the value and its history."""
        await self._bucket.purge(key)

    def _decode(self, key: str, value: bytes) -> Value:
        try:
            return self._decoder.decode(value)
        except msgspec.MsgspecError as error:
            raise UnreadableValueError(f"bucket {self._declared.name}, key {key}: {error}") from error


def _check(file: DirectoryFile, known: set[str], machines: Mapping[str, Machine]) -> None:
    seen: set[str] = set()
    entries: tuple[Organization | User | Machine, ...] = (*file.organizations, *file.users, *file.machines)
    for entry in entries:
        if entry.id in seen:
            raise DirectoryError(f"{entry.id} is declared twice")
        seen.add(entry.id)
    known = known | {organization.id for organization in file.organizations}
    members: tuple[User | Machine, ...] = (*file.users, *file.machines)
    for member in members:
        if member.org not in known:
            raise DirectoryError(f"{member.id}: there is no organization {member.org}")
    machines = {**machines, **{machine.id: machine for machine in file.machines}}
    for machine in file.machines:
        _check_jumps(machine, machines)


def _check_jumps(machine: Machine, machines: Mapping[str, Machine]) -> None:
    hop = machine
    for _ in range(JUMPS_MAX + 1):
        if hop.jump is None:
            return
        if hop.jump not in machines or machines[hop.jump].org != machine.org:
            raise DirectoryError(f"{hop.id}: there is no machine {hop.jump} in its organization to jump through")
        hop = machines[hop.jump]
    raise DirectoryError(f"{machine.id}: its way has more than {JUMPS_MAX} jump hosts, or leads in a circle")
