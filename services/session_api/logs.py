"""A session's logs as an answer that is streamed: JSON as specified, or a readable transcript."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from contracts.api import LogEntry, LogFormat
from services.session_api.gateway import Gateway
from services.session_api.history import History
from services.session_api.streamed import in_chunks

CATCH_UP_SECONDS_MAX: Final = 5.0
"""How long logs wait for ClickHouse to have what was recorded when they were asked for."""

LOOK_SECONDS: Final = 0.05

_json = msgspec.json.Encoder()


async def caught_up(gateway: Gateway, history: History, session_id: str) -> bool:
    """Returns once ClickHouse has every event that is recorded now; False when that takes too long."""
    last = await gateway.record.last(session_id)
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    while last is not None and not await _has(history, session_id, last.recorded.seq):
        await gateway.hurry_audit()
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True


async def _has(history: History, session_id: str, seq: int) -> bool:
    return await history.recorded_seq(session_id) >= seq and await history.logs_are_filled(session_id)


def rendered(session_id: str, entries: AsyncIterator[LogEntry], format_: LogFormat, *, complete: bool) -> AsyncIterator[bytes]:
    """The answer's body in pieces."""
    body = _as_json(session_id, entries, complete=complete) if format_ is LogFormat.JSON else _as_text(entries, complete=complete)
    return in_chunks(body)


async def _as_json(session_id: str, entries: AsyncIterator[LogEntry], *, complete: bool) -> AsyncIterator[bytes]:
    yield b'{"success":true,"data":{"session_id":' + _json.encode(session_id) + b',"logs":['
    separator = b""
    async for entry in entries:
        yield separator + _json.encode(entry)
        separator = b","
    yield b'],"complete":' + _json.encode(complete) + b"}}"


async def _as_text(entries: AsyncIterator[LogEntry], *, complete: bool) -> AsyncIterator[bytes]:
    async for entry in entries:
        if entry.type == "command":
            yield f"[{entry.timestamp:%Y-%m-%dT%H:%M:%S.%fZ}] $ {entry.content}\n".encode()
        else:
            yield entry.content.encode() + (b"" if entry.content.endswith("\n") else b"\n")
    if not complete:
        yield b"[more was recorded and is not in the audit store yet]\n"
