"""`/healthz`, `/readyz` and `/metrics` for processes that serve no HTTP otherwise."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from services.runtime import metrics
from services.runtime.metrics import Metrics

log = logging.getLogger(__name__)

CHECK_SECONDS_MAX: Final = 3.0
OK: Final = "ok"
REQUEST_BYTES_MAX: Final = 8 * 1024

type Check = Callable[[], Awaitable[str | None]]
"""Raises when the part is not well; else it may tell more, which is shown."""


@asynccontextmanager
async def serve(at: int | Path, checks: Mapping[str, Check], read_metrics: Metrics | None = None) -> AsyncIterator[None]:
    """Serve health while inside: at a port of all addresses (0: not at all), or at a Unix socket of that path.

    `checks` decide about readiness. Without `read_metrics` there is no `/metrics`.
    """
    if at == 0:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX * 2):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _response(head.split(b" ", 2)[1], checks, read_metrics))
                await writer.drain()
        except (OSError, EOFError, IndexError, TimeoutError, asyncio.LimitOverrunError) as error:
            log.debug("a health request was not answered: %s", type(error).__name__)
        finally:
            writer.close()

    if isinstance(at, Path):
        server = await asyncio.start_unix_server(answer, path=at, limit=REQUEST_BYTES_MAX)
    else:
        server = await asyncio.start_server(answer, port=at, limit=REQUEST_BYTES_MAX)
    async with server:
        yield


async def _response(path: bytes, checks: Mapping[str, Check], read_metrics: Metrics | None) -> bytes:
    match path:
        case b"/healthz":
            return _json(200, {"status": "ok"})
        case b"/metrics" if read_metrics:
            return _http(200, await read_metrics(), metrics.CONTENT_TYPE)
        case b"/readyz":
            results = {name: await _result(check) for name, check in checks.items()}
            is_ready = all(result.partition(":")[0] == OK for result in results.values())
            return _json(200 if is_ready else 503, {"status": "ok" if is_ready else "unavailable", "checks": results})
        case _:
            return _json(404, {"status": "not found"})


async def _result(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            told = await check()
    except Exception as error:  # noqa: BLE001  # whatever is wrong, it is not ready, and says why
        return f"{type(error).__name__}: {error}"[:200]
    return f"{OK}: {told}" if told else OK


def _json(status: int, body: object) -> bytes:
    return _http(status, json.dumps(body).encode(), "application/json")


def _http(status: int, payload: bytes, content_type: str) -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(payload)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + payload


_REASONS: Final = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}
