"""How the schema lies on one ClickHouse server, and how on a cluster: everything in which the two differ is here.

The files in `schema/` are written for one server. On a cluster (`VSAY_CLICKHOUSE_CLUSTER` names it, as `remote_servers` of
ClickHouse's configuration does) each table `T` becomes two: `T_local`, a Replicated table on every node, which holds rows,
and `T`, a Distributed table over these, which is read and written. Rows with a session lie on the shard of the session, all
others on the first, so that what belongs together is on one shard: `FINAL` and the materialized views, which read and fill
local tables, need no other. Replicated tables take their path in Keeper from `default_replica_path`, which must have
`{uuid}` in it, as it has unless the server's configuration changes it.
"""

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

LOCAL: Final = "_local"

_HEAD: Final = re.compile(
    r"^(?P<kind>CREATE (?:TABLE|MATERIALIZED VIEW|(?:OR REPLACE )?VIEW))(?P<careful> IF NOT EXISTS)? (?P<name>\w+)\b"
    r"|^ALTER TABLE (?P<altered>\w+)\b(?= (?P<change>[A-Z]+ [A-Z]+))"
    r"|^INSERT INTO \w+\s+\([^)]*\)\s+SELECT\b[^;]*?\bFROM (?P<copied>\w+)\b",
    re.MULTILINE,
)
_ENGINE: Final = re.compile(r"^ENGINE = (?=\w*MergeTree\b)", re.MULTILINE)
_TARGET: Final = re.compile(r"(?<= TO )\w+\b")
_SOURCE: Final = re.compile(r"\bFROM (\w+)\b")
_COMMENT: Final = re.compile(r"^COMMENT ('(?:[^'\\]|\\.|'')*')", re.MULTILINE)
_SESSION: Final = re.compile(r"^\s+session_id\b", re.MULTILINE)


class NotForClustersError(ValueError):
    """A statement of the schema is of a kind that this module does not know how to put on a cluster."""


class Layout(Struct, frozen=True):
    """`cluster` is empty for one server."""

    database: str
    cluster: str = ""

    @property
    def on_cluster(self) -> str:
        """What follows the name of that which a statement of DDL is about."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    @property
    def processes(self) -> str:
        """The table of running queries, of all nodes."""
        return f"clusterAllReplicas('{self.cluster}', system.processes)" if self.cluster else "system.processes"

    def local(self, table: str) -> str:
        """The table that holds the rows."""
        return table + LOCAL if self.cluster else table

    def create_like(self, new: str, table: str) -> Iterator[str]:
        """Statements that make `new`, empty, as `table` is."""
        yield f"CREATE TABLE {self.local(new)}{self.on_cluster} AS {self.local(table)}"
        if self.cluster:
            yield self._distributed("CREATE TABLE", new, "cityHash64(session_id)", "")

    def drop(self, table: str) -> Iterator[str]:
        """Statements that drop what `create_like` made."""
        yield f"DROP TABLE IF EXISTS {self.local(table)}{self.on_cluster}"
        if self.cluster:
            yield f"DROP TABLE IF EXISTS {table}{self.on_cluster}"

    def synced(self, table: str) -> Iterator[str]:
        """Statements that return once every node has all rows of `table`."""
        if self.cluster:
            yield f"SYSTEM SYNC REPLICA{self.on_cluster} {self.local(table)}"

    def statements(self, statement: str) -> Iterator[str]:
        """The statement as it is run: itself on one server. Raises `NotForClustersError`."""
        if not self.cluster:
            yield statement
            return
        head = _HEAD.search(statement)
        if head is None:
            raise NotForClustersError(statement)
        if altered := head["altered"]:
            changed = f"ALTER TABLE {altered}{LOCAL}{self.on_cluster}"
            yield statement[: head.start()] + changed + statement[head.end() :]
            if head["change"].endswith("COLUMN"):
                yield statement[: head.start()] + f"ALTER TABLE {altered}{self.on_cluster}" + statement[head.end() :]
            return
        if copied := head["copied"]:
            yield from self.synced(copied)
            yield statement
            return
        create, name = head["kind"] + (head["careful"] or ""), head["name"]
        before, after = statement[: head.start()], statement[head.end() :]
        match head["kind"]:
            case "CREATE VIEW" | "CREATE OR REPLACE VIEW":
                yield f"{before}{create} {name}{self.on_cluster}{after}"
            case "CREATE MATERIALIZED VIEW":
                into_local = _TARGET.sub(lambda target: target[0] + LOCAL, after, count=1)
                body = _SOURCE.sub(lambda source: f"FROM {source[1]}{LOCAL} AS {source[1]}", into_local)
                yield f"{before}{create} {name}{self.on_cluster}{body}"
            case _:
                yield f"{before}{create} {name}{LOCAL}{self.on_cluster}{_ENGINE.sub('ENGINE = Replicated', after)}"
                comment = _COMMENT.search(after)
                key = "cityHash64(session_id)" if _SESSION.search(after) else "0"
                yield self._distributed(create, name, key, f" COMMENT {comment[1]}" if comment else "")

    def _distributed(self, create: str, name: str, key: str, comment: str) -> str:
        engine = f"Distributed('{self.cluster}', '{self.database}', '{name}{LOCAL}', {key})"
        return f"{create} {name}{self.on_cluster} AS {name}{LOCAL} ENGINE = {engine}{comment}"
