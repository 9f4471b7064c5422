"""Runs SQL in the embedded engine: one short-lived connection a query, so that settings of one never reach another."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import chdb
from msgspec import Struct

READ_ONLY_LIMITS: Final = {
    "max_execution_time": "60",
    "max_memory_usage": "4000000000",
}
"""Of a read-only user's query, which may ask for less; seconds and bytes."""

_SETTING: Final = re.compile(r"[a-z][a-z0-9_]*")
_DATABASE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ERROR_CODE: Final = re.compile(r"Code: (\d+)\.")
_INSERT: Final = re.compile(r"\s*insert\b", re.IGNORECASE)
_STREAMED: Final = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:select|with)\b", re.IGNORECASE | re.DOTALL)
"""The engine streams the results of these alone."""

_STREAMED_FORMATS: Final = frozenset(
    (
        *("native", "rowbinary", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv", "tskv", "lineasstring"),
        *("jsoneachrow", "jsonlines", "jsonl", "ndjson"),
        *("jsoncompacteachrow", "jsonstringseachrow", "jsoncompactstringseachrow"),
    )
)
"""Of these the pieces, one after the other, are the whole; of others the engine gives a head and a foot with every piece."""

_INTO_FILE: Final = re.compile(r"\binto\b.*\boutfile\b", re.IGNORECASE | re.DOTALL)
"""The engine writes where this says, also in a read-only query. Text that only looks so can be given as a parameter."""

_FORMAT: Final = re.compile(r"\bformat\s+(\w+)\s*$", re.IGNORECASE)


_FORMAT_WORD: Final = re.compile(r"\bformat\b", re.IGNORECASE)


class EngineError(Exception):
    """The engine refused the query; `code` is ClickHouse's number of the error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Query(Struct, frozen=True):
    """SQL with `{name:Type}` parameters; `rows` is a file with those of an `INSERT … FORMAT`."""

    sql: str
    format: str
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    database: str
    read_only: bool
    rows: str | None = None


class Engine:
    """One data directory; one process has it open."""

    def __init__(self, data: str, config: str = "") -> None:
        """`config` is the path of a configuration file of ClickHouse, if there is one."""
        self._path = str(Path(data).absolute()) + (f"?config-file={Path(config).absolute()}" if config else "")
        Path(data).mkdir(parents=True, exist_ok=True)
        self._keeper = chdb.connect(self._path)

    def interrupt(self) -> None:
        """Make every query that still runs fail soon."""
        self._keeper.query("KILL QUERY WHERE query_id != queryID() ASYNC")

    def close(self) -> None:
        """Write what is in memory and let go of the directory."""
        self._keeper.close()

    def run(self, query: Query) -> Iterator[bytes]:
        """The result in pieces; the query has begun, and been checked, once the first piece is there. Raises `EngineError`."""
        connection = chdb.connect(self._path)
        try:
            for statement in _preparations(query):
                connection.query(statement)
            if _STREAMED.match(query.sql) and result_format(query).lower() in _STREAMED_FORMATS:
                with connection.send_query(query.sql, query.format, params=dict(query.parameters) or None) as result:
                    for piece in result:
                        yield piece.bytes()
            else:
                yield connection.query(_with_rows(query), query.format, params=dict(query.parameters) or None).bytes()
        except RuntimeError as error:
            raise _engine_error(error) from error
        finally:
            connection.close()


def result_format(query: Query) -> str:
    """The format that the SQL names at its end, else the request's. Empty when the SQL may name one elsewhere."""
    if named := _FORMAT.search(query.sql):
        return named[1]
    return "" if _FORMAT_WORD.search(query.sql) else query.format


def _preparations(query: Query) -> Iterator[str]:
    if _INTO_FILE.search(query.sql) and (query.read_only or not _INSERT.match(query.sql)):
        raise EngineError(
            62, "Code: 62. DB::Exception: INTO OUTFILE is not allowed; give text that only looks so as a parameter. (SYNTAX_ERROR)"
        )
    if query.database:
        if not _DATABASE.fullmatch(query.database):
            raise EngineError(81, f"Code: 81. DB::Exception: Database {query.database!r} does not exist. (UNKNOWN_DATABASE)")
        yield f"USE {query.database}"
    for name, value in query.settings.items():
        if not _SETTING.fullmatch(name):
            raise EngineError(115, f"Code: 115. DB::Exception: Unknown setting {name!r}. (UNKNOWN_SETTING)")
        if name != "readonly":
            yield f"SET {name} = {_quoted(value)}"
    if query.read_only:
        for name, limit in READ_ONLY_LIMITS.items():
            yield f"SET {name} = {_at_most(limit, query.settings.get(name, ''))}"
        yield "SET readonly = 1"


def _at_most(limit: str, asked: str) -> str:
    return asked if asked.isdecimal() and 0 < int(asked) < int(limit) else limit


def _with_rows(query: Query) -> str:
    """An `INSERT … FORMAT F` whose rows come from a file."""
    if query.rows is None:
        return query.sql
    named = _FORMAT.search(query.sql)
    statement, format_ = (query.sql[: named.start()], named[1]) if named else (query.sql, query.format)
    return f"{statement.rstrip()} FROM INFILE {_quoted(query.rows)} FORMAT {format_}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _engine_error(error: RuntimeError) -> EngineError:
    code = _ERROR_CODE.search(str(error))
    return EngineError(int(code[1]) if code else 1002, str(error))
