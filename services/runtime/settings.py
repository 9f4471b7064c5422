"""Settings from environment variables: field `nats_url` of a service's struct is `VSAY_NATS_URL`.

Every field carries `Annotated[…, Meta(description=…)]`; `docs/settings.md` is generated from these.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from contracts.ids import NAME_PATTERN

PREFIX = "VSAY_"


class SettingsError(Exception):
    """A variable has a value that it may not have; the message names the variable, never its value."""


SecretsDir = Annotated[
    str,
    Meta(
        description="Directory of secrets: of the machines' credentials, NAME a private key in OpenSSH's format, "
        "NAME.password a password, NAME.ca the private key of an SSH CA that signs certificates; NAME.signing.pem a key that signs "
        "the record."
    ),
]
MaskRulesFile = Annotated[
    str,
    Meta(
        description="TOML file of rules that mask secrets in the text of commands: `rules`, a list of regular expressions, "
        "and `built_in = false` to leave out the built-in ones; empty: only the built-in ones."
    ),
]
SigningKeyName = Annotated[
    str,
    Meta(
        description="NAME of the key NAME.signing.pem in the directory of secrets that signs the record; empty: unsigned.",
        pattern=rf"^$|{NAME_PATTERN}",
    ),
]


HealthPort = Annotated[int, Meta(description="Port of /healthz, /readyz and /metrics; 0: none.", ge=0, le=65535)]


class NatsSettings(Struct, frozen=True, kw_only=True):
    """What every process that talks to the bus needs."""

    nats_url: Annotated[str, Meta(description="Address of the NATS server; several, separated by commas, for a cluster.")] = (
        "nats://127.0.0.1:4222"
    )
    nats_user: Annotated[str, Meta(description="User name at the NATS server; empty for none.")] = ""
    nats_password: Annotated[str, Meta(description="Password at the NATS server.")] = ""
    log_level: Annotated[str, Meta(description="debug, info, warning or error.", pattern="^(debug|info|warning|error)$")] = "info"


class StreamSettings(NatsSettings, frozen=True, kw_only=True):
    """Sizes of the streams, for the processes that create them."""

    stream_replicas: Annotated[int, Meta(description="JetStream replicas of streams and buckets.", ge=1, le=5)] = 1
    stream_bytes_max: Annotated[
        int,
        Meta(
            description="Size of stream SESSIONS in bytes. When it is full, sessions stall until ClickHouse has caught up.",
            ge=1_000_000,
        ),
    ] = 20_000_000_000


class ClickHouseSettings(StreamSettings, frozen=True, kw_only=True):
    """What every process that talks to the bus and to ClickHouse needs."""

    clickhouse_url: Annotated[str, Meta(description="HTTP interface of ClickHouse.")] = "http://127.0.0.1:8123"
    clickhouse_user: Annotated[str, Meta(description="ClickHouse user.")] = "default"
    clickhouse_password: Annotated[str, Meta(description="Password of the ClickHouse user.")] = ""
    clickhouse_database: Annotated[str, Meta(description="Database that holds all our tables.", pattern="^[a-z_][a-z0-9_]*$")] = (
        "vsay"
    )
    clickhouse_cluster: Annotated[
        str,
        Meta(
            description="ClickHouse cluster, as `remote_servers` names it, on which the schema is made; empty: one server.",
            pattern="^[A-Za-z0-9_-]*$",
        ),
    ] = ""
    retention_days: Annotated[
        int,
        Meta(
            description="Events and logs go from ClickHouse when they are older than this, a month's at a time; 0: never.",
            ge=0,
            le=36500,
        ),
    ] = 0


class Variable(Struct, frozen=True):
    """One documented environment variable."""

    name: str
    field: str
    description: str
    default: str


WaitForPlace = Annotated[
    float,
    Meta(description="A request that no worker had a place for in this time is given up as no_capacity.", gt=0),
]
"""Read by the API, which gives up, and by the worker, which does so when no replica of the API did."""


def load[Settings: Struct](kind: type[Settings], environ: Mapping[str, str]) -> Settings:
    """`kind` with what `environ` sets. Raises `SettingsError` with the variable's name."""
    given = {variable.field: environ[variable.name] for variable in variables(kind) if variable.name in environ}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`").split("[")[0]
        raise SettingsError(f"{PREFIX}{field.upper()}: {message}" if field else message) from error


def variables(kind: type[Struct]) -> Iterator[Variable]:
    """The environment variables that `kind` is read from, in the order of its fields."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        yield Variable(
            name=PREFIX + field.name.upper(),
            field=field.name,
            description=_description(hints[field.name]),
            default="(required)" if field.required else str(field.default),
        )


def _description(hint: Any) -> str:
    if get_origin(hint) is not Annotated:
        return ""
    return next((meta.description for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.description), "")
