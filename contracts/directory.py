"""Who may do what, as it lies in the key-value buckets: organizations, users, machines, tokens and tickets.

`DirectoryFile` is the shape of the TOML file that `vsay directory apply` reads. In the buckets fields that are not known are passed
over: processes of two versions read them while one replaces the other.
"""

from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Final

from msgspec import Meta, Struct

from contracts.events import Person, Role, Target
from contracts.ids import DisplayName, Environment, MachineId, Name, OrgId, Port, SessionId, UserId, Utc

JUMPS_MAX: Final = 4
"""Jump hosts on the way to a machine."""


class UserRole(StrEnum):
    """Operators use machines and see their own sessions; auditors see all of their organization; admins may do both."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class Organization(Struct, frozen=True):
    """Everything belongs to one organization, and nothing of another is visible."""

    id: OrgId
    name: DisplayName


class User(Struct, frozen=True):
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


class LegacyAlgorithm(StrEnum):
    """What is only spoken with a machine that lists it: broken or weak, and all that some old equipment knows."""

    KEX_GROUP14_SHA1 = "diffie-hellman-group14-sha1"
    KEX_GROUP1_SHA1 = "diffie-hellman-group1-sha1"
    KEX_GROUP_EXCHANGE_SHA1 = "diffie-hellman-group-exchange-sha1"
    KEX_GROUP_EXCHANGE_SHA256 = "diffie-hellman-group-exchange-sha256"
    CIPHER_AES128_CBC = "aes128-cbc"
    CIPHER_AES192_CBC = "aes192-cbc"
    CIPHER_AES256_CBC = "aes256-cbc"
    CIPHER_3DES_CBC = "3des-cbc"
    MAC_SHA1 = "hmac-sha1"
    MAC_SHA1_96 = "hmac-sha1-96"
    MAC_MD5 = "hmac-md5"
    SIGNATURE_RSA_SHA1 = "ssh-rsa"
    SIGNATURE_DSS = "ssh-dss"


class Machine(Struct, frozen=True):
    """An SSH server. `docs/machines.md` explains every field.

    `host_keys` are public keys as `ssh-ed25519 AAAA…`, several while one is replaced by another; `credential` names a secret of
    the worker; `jump` is the machine through which this one is reached. It travels to workers inside `OpenSession`, so fields of a
    later version are passed over; `DeclaredMachine` refuses them.
    """

    id: MachineId
    name: DisplayName
    org: OrgId
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    login: Annotated[str, Meta(min_length=1, max_length=64)]
    credential: Name
    host_keys: tuple[Annotated[str, Meta(max_length=4096)], ...] = ()
    port: Port = 22
    trust_on_first_use: bool = False
    jump: MachineId | None = None
    principals: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()
    legacy_algorithms: tuple[LegacyAlgorithm, ...] = ()
    terminal_type: Name | None = None
    environment: Environment = {}
    environment_allowed: tuple[Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]{0,63}\*?$")], ...] = ()
    command: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    idle_timeout_seconds: Annotated[float, Meta(ge=0)] | None = None
    max_duration_seconds: Annotated[float, Meta(ge=0)] | None = None
    shell_integration: bool = False

    def allows(self, variable: str) -> bool:
        """Whether a client may set this environment variable; a name in the list that ends in `*` stands for all that begin so."""
        return any(
            variable.startswith(allowed[:-1]) if allowed.endswith("*") else variable == allowed
            for allowed in self.environment_allowed
        )

    def target(self) -> Target:
        """This machine as events name it."""
        return Target(id=self.id, name=self.name, host=self.host)


class TrustedHostKey(Struct, frozen=True):
    """Value of bucket `host_keys`, by machine id: what was pinned at the first use of a machine with `trust_on_first_use`."""

    host_key: str
    session_id: SessionId
    pinned_at: Utc


class DeclaredOrganization(Organization, frozen=True, forbid_unknown_fields=True):
    """An organization in the TOML file, where a field that is not known is a misspelt one, not one of a later version."""


class DeclaredUser(User, frozen=True, forbid_unknown_fields=True):
    """A user in the TOML file, likewise."""


class DeclaredMachine(Machine, frozen=True, forbid_unknown_fields=True):
    """A machine in the TOML file, likewise."""


class DirectoryFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole directory, as declared in TOML."""

    organizations: tuple[Organization, ...] = ()
    users: tuple[User, ...] = ()
    machines: tuple[Machine, ...] = ()


class DeclaredFile(DirectoryFile, frozen=True, forbid_unknown_fields=True):
    """The TOML file as it is checked; `DirectoryFile` is what it says."""

    organizations: tuple[DeclaredOrganization, ...] = ()
    users: tuple[DeclaredUser, ...] = ()
    machines: tuple[DeclaredMachine, ...] = ()


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
