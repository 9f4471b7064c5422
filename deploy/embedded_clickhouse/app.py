"""The ClickHouse HTTP interface (https://clickhouse.com/docs/interfaces/http) over the embedded engine, as far as clients use it.

`query` in the URL or the body, rows of an `INSERT` in the body, `param_*`, `database`, `default_format` and settings in the
URL, users by header, basic authentication or URL. Sessions (`session_id`) and external data are not kept.
"""

import asyncio
import base64
import binascii
import json
import logging
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import IO, Any, Final

from litestar import Litestar, Request, Response, get, route
from litestar.datastructures import State
from litestar.response import Stream

from deploy.embedded_clickhouse import body, compression
from deploy.embedded_clickhouse.engine import Engine, EngineError, Query, result_format
from deploy.embedded_clickhouse.settings import EngineSettings

log = logging.getLogger(__name__)

QUERIES_AT_ONCE: Final = 16
"""Those beyond wait."""

AUTHENTICATION_FAILED: Final = 516
_TRANSPORT: Final = frozenset(
    (
        *("query", "database", "default_format", "user", "password", "session_id", "session_timeout", "session_check", "query_id"),
        *("quota_key", "role", "compress", "decompress", "enable_http_compression", "http_zlib_compression_level"),
        *("client_protocol_version", "wait_end_of_query", "buffer_size", "send_progress_in_http_headers", "add_http_cors_header"),
        *("http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close"),
    )
)
"""Parameters of the URL that concern the transport alone."""

type Call = Request[Any, Any, State]


def make_app(settings: EngineSettings) -> Litestar:
    """The interface as an ASGI application."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        engine = await asyncio.to_thread(Engine, settings.clickhouse_data, settings.clickhouse_config)
        threads = ThreadPoolExecutor(QUERIES_AT_ONCE, "query")
        with tempfile.TemporaryDirectory(prefix="vsay-rows-") as rows:
            app.state.update(engine=engine, threads=threads, rows=rows)
            try:
                yield
            finally:
                await asyncio.to_thread(engine.interrupt)
                await asyncio.to_thread(threads.shutdown, cancel_futures=True)
                await asyncio.to_thread(engine.close)

    return Litestar(
        route_handlers=[ping, answer],
        lifespan=[lifespan],
        state=State({"settings": settings}),
        exception_handlers={EngineError: _refused},
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
    )


@get("/ping", media_type="text/plain")
async def ping() -> str:
    """Alive."""
    return "Ok.\n"


@route("/", http_method=["GET", "POST"], status_code=200)
async def answer(request: Call, state: State) -> Stream | Response[str]:
    """Run one query. Errors are answered with ClickHouse's text and code."""
    if not request.query_params and request.method == "GET":
        return Response("Ok.\n", media_type="text/plain")
    read_only = _is_read_only(request, state.settings)
    with tempfile.NamedTemporaryFile(dir=state.rows) as rows:
        query = await _query(request, rows, read_only=read_only)
        pieces = _pieces(state.engine.run(query), state.threads)
        first = await anext(pieces, b"")

    tag = secrets.token_hex(8)

    async def whole() -> AsyncIterator[bytes]:
        yield first
        try:
            async for piece in pieces:
                yield piece
        except EngineError as error:
            yield _late_error(error, tag)
            raise  # the answer is cut off, so that no client takes it for whole

    format_ = result_format(query) or query.format
    headers = {
        "X-ClickHouse-Query-Id": request.query_params.get("query_id") or secrets.token_hex(16),
        "X-ClickHouse-Format": format_,
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Server-Display-Name": "embedded",
        "X-ClickHouse-Exception-Tag": tag,
        "X-ClickHouse-Summary": json.dumps({}),
    }
    asked = str(request.query_params.get("enable_http_compression", "0")) == "1"
    if encoding := compression.encoding(request.headers.get("accept-encoding", ""), asked=asked):
        headers["Content-Encoding"] = encoding
    return Stream(compression.compressed(whole(), encoding), media_type=_media_type(format_), headers=headers)


async def _pieces(result: Iterator[bytes], threads: ThreadPoolExecutor) -> AsyncIterator[bytes]:
    """`result`, whose every step blocks, one step at a time in a thread."""
    loop = asyncio.get_running_loop()
    try:
        while (piece := await loop.run_in_executor(threads, next, result, None)) is not None:
            if piece:
                yield piece
    finally:
        await loop.run_in_executor(threads, getattr(result, "close", lambda: None))


async def _query(request: Call, rows: IO[bytes], *, read_only: bool) -> Query:
    given = dict(request.query_params.items())
    sql, has_rows = await body.read(request, str(given.get("query", "")), rows)
    return Query(
        sql=sql.strip().rstrip(";"),
        format=str(given.get("default_format") or request.headers.get("x-clickhouse-format") or "TabSeparated"),
        parameters={name.removeprefix("param_"): str(value) for name, value in given.items() if name.startswith("param_")},
        settings={name: str(value) for name, value in given.items() if name not in _TRANSPORT and not name.startswith("param_")},
        database=str(given.get("database") or request.headers.get("x-clickhouse-database") or ""),
        read_only=read_only or request.method == "GET",
        rows=rows.name if has_rows else None,
    )


def _is_read_only(request: Call, settings: EngineSettings) -> bool:
    """Whether the user may only read. Raises `EngineError` for a wrong user or password."""
    user, password = _credentials(request)
    known = {settings.clickhouse_user: settings.clickhouse_password}
    if settings.clickhouse_analyst_password:
        known["analyst"] = settings.clickhouse_analyst_password
    if user not in known or not secrets.compare_digest(known[user].encode(), password.encode()):
        raise EngineError(AUTHENTICATION_FAILED, "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
    return user != settings.clickhouse_user


def _credentials(request: Call) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeError):
            return "", ""
        return user, password
    user = request.headers.get("x-clickhouse-user") or request.query_params.get("user") or "default"
    return user, request.headers.get("x-clickhouse-key") or request.query_params.get("password") or ""


def _late_error(error: EngineError, tag: str) -> bytes:
    """How ClickHouse (25.11 and later) says within an answer that has begun that the query failed."""
    message = f"{error}\n".encode()
    return b"__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (tag.encode(), message, len(message), tag.encode())


def _refused(_: Request[Any, Any, Any], error: EngineError) -> Response[str]:
    status = 403 if error.code == AUTHENTICATION_FAILED else 404 if error.code in (60, 81) else 500
    return Response(
        f"{error}\n", status_code=status, media_type="text/plain", headers={"X-ClickHouse-Exception-Code": str(error.code)}
    )


def _media_type(format_: str) -> str:
    if format_.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if format_.startswith(("TabSeparated", "TSV")):
        return "text/tab-separated-values; charset=UTF-8"
    if format_.startswith("CSV"):
        return "text/csv; charset=UTF-8"
    return "application/octet-stream"
