"""Compressed answers: what the client accepts, when it asks for it (`enable_http_compression=1`), as ClickHouse does."""

import zlib
from collections.abc import AsyncIterator
from typing import Final, Protocol

import lz4.frame
import zstandard

LEVEL: Final = 1
"""Of gzip and deflate; the way is short."""

PREFERRED: Final = ("zstd", "lz4", "gzip", "deflate")


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Lz4:
    def __init__(self) -> None:
        self._compressor = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes, /) -> bytes:
        head = b"" if self._begun else self._compressor.begin()
        self._begun = True
        return bytes(head + self._compressor.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else self._compressor.begin()
        return bytes(head + self._compressor.flush())


def encoding(accepted: str, *, asked: bool) -> str:
    """The `Content-Encoding` of the answer; empty: none."""
    if not asked:
        return ""
    names = {name.partition(";")[0].strip().lower() for name in accepted.split(",") if "q=0" not in name.replace("q=0.", "")}
    return next((name for name in PREFERRED if name in names), "")


async def compressed(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """`pieces` in this encoding."""
    if not encoding:
        async for piece in pieces:
            yield piece
        return
    compressor = _compressor(encoding)
    async for piece in pieces:
        if small := compressor.compress(piece):
            yield small
    yield compressor.flush()


def _compressor(encoding: str) -> _Compressor:
    match encoding:
        case "zstd":
            return zstandard.ZstdCompressor(level=LEVEL).compressobj()
        case "lz4":
            return _Lz4()
        case "gzip":
            return zlib.compressobj(LEVEL, wbits=zlib.MAX_WBITS | 16)
        case _:
            return zlib.compressobj(LEVEL)
