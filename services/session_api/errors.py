"""Refusals: what a handler raises, and how each becomes an answer with a stable code."""

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap
from nats.errors import Error as NatsError

from contracts.api import ErrorCode, ErrorDetail, Failure
from services.session_api.gateway import GatewayUnavailableError
from services.session_api.history import HistoryUnavailableError

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2


class RefusedError(Exception):
    """The request is refused with this status, code and message."""

    def __init__(self, status: int, code: ErrorCode, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(code, message, fields)


def invalid(field: str, message: str) -> RefusedError:
    """A value outside the specification."""
    return RefusedError(422, ErrorCode.INVALID_REQUEST, f"{field}: {message}", **{field: message})


def session_not_found() -> RefusedError:
    """Also the answer for what belongs to somebody else."""
    return RefusedError(404, ErrorCode.SESSION_NOT_FOUND, "no session of this id is known")


def machine_not_found() -> RefusedError:
    """Also the answer for what the caller may not use."""
    return RefusedError(404, ErrorCode.MACHINE_NOT_FOUND, "no machine of this id is known")


def _refused(_: Request[Any, Any, Any], error: RefusedError) -> Response[Failure]:
    return _answer(error.status, error.detail)


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Failure]:
    """What Litestar itself refuses: no such path, a parameter outside its bounds, a body that is no JSON."""
    sources = error.extra if isinstance(error.extra, list) else []
    named = [each for each in sources if isinstance(each, dict) and "key" in each]
    fields = {str(each["key"]).rstrip("_"): str(each.get("message", "")) for each in named}
    code = _CODES.get(error.status_code, ErrorCode.INVALID_REQUEST if error.status_code < 500 else ErrorCode.INTERNAL)
    if not fields:
        return _answer(error.status_code, ErrorDetail(code, error.detail), error.headers)
    message = "; ".join(f"{field}: {text}" for field, text in fields.items())
    return _answer(422, ErrorDetail(code, message, fields))


def _unavailable(request: Request[Any, Any, Any], error: Exception) -> Response[Failure]:
    log.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    request.app.state.metrics.upstream_error(error)
    part = "the audit store" if isinstance(error, HistoryUnavailableError) else "the message bus"
    detail = ErrorDetail(ErrorCode.UNAVAILABLE, f"{part} does not answer; try again shortly")
    return _answer(503, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _internal(request: Request[Any, Any, Any], error: Exception) -> Response[Failure]:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, ErrorDetail(ErrorCode.INTERNAL, "something went wrong here; it is logged"))


def _answer(status: int, detail: ErrorDetail, headers: dict[str, str] | None = None) -> Response[Failure]:
    return Response(Failure(detail), status_code=status, media_type="application/json", headers=headers)


_CODES = {
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.MESSAGE_TOO_LARGE,
}

HANDLERS: ExceptionHandlersMap = {
    RefusedError: _refused,
    HTTPException: _http,
    GatewayUnavailableError: _unavailable,
    HistoryUnavailableError: _unavailable,
    NatsError: _unavailable,
    TimeoutError: _unavailable,
    Exception: _internal,
}
