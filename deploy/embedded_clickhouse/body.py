"""A request's body: SQL, or the rows of an INSERT, with the statement before them or in the URL; decompressed."""

import re
import zlib
from collections.abc import AsyncIterator
from typing import IO, Any, Final, Protocol

import lz4.frame
import zstandard
from litestar import Request

from deploy.embedded_clickhouse.engine import EngineError

QUERY_BYTES_MAX: Final = 1024 * 1024
"""Of SQL; rows are not limited."""

_INSERT: Final = re.compile(r"\s*insert\b", re.IGNORECASE)
_VALUES: Final = re.compile(r"\bvalues\b|\bselect\b", re.IGNORECASE)
_INSERT_WITH_ROWS: Final = re.compile(
    rb"\s*insert\b(?:(?!\b(?:values|select)\b).){0,65536}?\bformat\s+(?!values\b)\w+(?=\W)[ \t]*(?:\r?\n)?",
    re.IGNORECASE | re.DOTALL,
)
"""Rows begin after the format's name; what follows it must be there, as a chunk may end within the name."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


async def read(request: Request[Any, Any, Any], sql: str, rows: IO[bytes]) -> tuple[str, bool]:
    """The whole SQL, and whether the rows of an INSERT are in `rows` now. Raises `EngineError`."""
    pieces = _decompressed(request)
    if _INSERT.match(sql) and not _VALUES.search(sql):
        await _spool(b"", pieces, rows)
        return sql, True
    head = b""
    async for piece in pieces:
        head += piece
        if insert := _INSERT_WITH_ROWS.match(head):
            await _spool(head[insert.end() :], pieces, rows)
            return insert[0].decode(), True
        if len(head) > QUERY_BYTES_MAX:
            raise EngineError(62, "Code: 62. DB::Exception: Max query size exceeded. (SYNTAX_ERROR)")
    if insert := _INSERT_WITH_ROWS.match(head + b"\n"):
        return insert[0].decode(), True
    return "\n".join(part for part in (sql, head.decode("utf-8", "replace")) if part), False


async def _spool(head: bytes, pieces: AsyncIterator[bytes], rows: IO[bytes]) -> None:
    rows.write(head)
    async for piece in pieces:
        rows.write(piece)
    rows.flush()


async def _decompressed(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    decompressor = _decompressor(request.headers.get("content-encoding", ""))
    try:
        async for piece in request.stream():
            yield decompressor.decompress(piece) if decompressor and piece else piece
    except (zlib.error, RuntimeError, zstandard.ZstdError) as error:
        raise EngineError(354, f"Code: 354. DB::Exception: Cannot decompress the body: {error}. (CANNOT_DECOMPRESS)") from error


def _decompressor(encoding: str) -> _Decompressor | None:
    match encoding:
        case "" | "identity":
            return None
        case "gzip" | "deflate":
            return zlib.decompressobj(zlib.MAX_WBITS | 32)
        case "lz4":
            decompressor: _Decompressor = lz4.frame.LZ4FrameDecompressor()
            return decompressor
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj()
        case _:
            raise EngineError(36, f"Code: 36. DB::Exception: Unknown Content-Encoding {encoding!r}. (BAD_ARGUMENTS)")
