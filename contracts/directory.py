"""Who may do what, as it lies in the key-value buckets: organizations, users, machines, tokens and tickets.

`DirectoryFile` is the shape of the TOML file that `vsay directory apply` reads.
"""

from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct

from contracts.events import Person, Role, Target
from contracts.ids import DisplayName, MachineId, Name, OrgId, Port, SessionId, UserId, Utc


class UserRole(StrEnum):
    """Operators use machines and see their own sessions; auditors see all of their organization; admins may do both."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class Organization(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything belongs to one organization, and nothing of another is visible."""

    id: OrgId
    name: DisplayName


class User(Struct, frozen=True, forbid_unknown_fields=True):
    """A person or a program. `machines` lists what it may open sessions on: ids, or `*` for all of its organization."""

    id: UserId
    name: DisplayName
    email: Annotated[str, Meta(max_length=254)]
    org: OrgId
    role: UserRole = UserRole.OPERATOR
    machines: tuple[Annotated[str, Meta(pattern=r"^(\*|mch_[A-Za-z0-9_-]{1,64})$")], ...] = ()

    def person(self) -> Person:
        """This user as events name it."""
        return Person(id=self.id, name=self.name, email=self.email)

    def sees_all_sessions(self) -> bool:
        """Whether every session of the organization is visible, not only the user's own."""
        return self.role in (UserRole.ADMIN, UserRole.AUDITOR)

    def may_use(self, machine: "Machine") -> bool:
        """Whether this user may open a session on `machine`."""
        if machine.org != self.org or self.role is UserRole.AUDITOR:
            return False
        return "*" in self.machines or machine.id in self.machines


class Machine(Struct, frozen=True, forbid_unknown_fields=True):
    """An SSH server. `host_keys` are public keys as `ssh-ed25519 AAAA…`; `credential` names a secret of the worker."""

    id: MachineId
    name: DisplayName
    org: OrgId
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    login: Annotated[str, Meta(min_length=1, max_length=64)]
    credential: Name
    host_keys: tuple[Annotated[str, Meta(max_length=4096)], ...] = ()
    port: Port = 22

    def target(self) -> Target:
        """This machine as events name it."""
        return Target(id=self.id, name=self.name, host=self.host)


class DirectoryFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole directory, as declared in TOML."""

    organizations: tuple[Organization, ...] = ()
    users: tuple[User, ...] = ()
    machines: tuple[Machine, ...] = ()


class ApiToken(Struct, frozen=True):
    """Value of bucket `tokens`; the key is `secret_key()` of the bearer token, which itself is kept nowhere."""

    user_id: UserId
    created_at: Utc


class Ticket(Struct, frozen=True):
    """Value of bucket `tickets`: admits to one session's WebSocket; the key is `secret_key()` of the ticket."""

    session_id: SessionId
    user_id: UserId
    org_id: OrgId
    role: Role
    expires_at: Utc


def secret_key(secret: str) -> str:
    """The bucket key under which a token or ticket is found: its SHA-256 in lower-case hex."""
    return sha256(secret.encode()).hexdigest()
