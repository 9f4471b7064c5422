"""`/healthz` and `/readyz` for processes that serve no HTTP otherwise."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

log = logging.getLogger(__name__)

CHECK_SECONDS_MAX: Final = 3.0
REQUEST_BYTES_MAX: Final = 8 * 1024

type Check = Callable[[], Awaitable[None]]
"""Raises when the part is not well."""


@asynccontextmanager
async def serve(port: int, checks: Mapping[str, Check]) -> AsyncIterator[None]:
    """Serve health on `port` of all addresses while inside; nothing when `port` is 0. `checks` decide about readiness."""
    if not port:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX * 2):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _response(head.split(b" ", 2)[1], checks))
                await writer.drain()
        except (OSError, EOFError, IndexError, TimeoutError, asyncio.LimitOverrunError) as error:
            log.debug("a health request was not answered: %s", type(error).__name__)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, port=port, limit=REQUEST_BYTES_MAX)
    async with server:
        yield


async def _response(path: bytes, checks: Mapping[str, Check]) -> bytes:
    match path:
        case b"/healthz":
            return _http(200, {"status": "ok"})
        case b"/readyz":
            results = {name: await _result(check) for name, check in checks.items()}
            is_ready = all(result == "ok" for result in results.values())
            return _http(200 if is_ready else 503, {"status": "ok" if is_ready else "unavailable", "checks": results})
        case _:
            return _http(404, {"status": "not found"})


async def _result(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            await check()
    except Exception as error:  # noqa: BLE001  # whatever is wrong, it is not ready, and says why
        return f"{type(error).__name__}: {error}"[:200]
    return "ok"


def _http(status: int, body: object) -> bytes:
    payload = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + payload


_REASONS: Final = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}
