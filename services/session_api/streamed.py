"""Answers that are made and sent a piece at a time, so that none is ever whole in memory."""

from collections.abc import AsyncIterator
from typing import Final

CHUNK_BYTES: Final = 64 * 1024


async def in_chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`pieces` joined to chunks of `CHUNK_BYTES` or a little more; at least one, which may be empty."""
    gathered: list[bytes] = []
    size = 0
    async for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


async def begun(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`body`, which is not empty, with its first piece made already, so that a store that does not answer is still a plain 503.

    A failure after that cuts the answer off, so that no client takes it for whole.
    """
    first = await anext(body)

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in body:
            yield piece

    return whole()
