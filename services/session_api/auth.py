"""Bearer tokens: who calls, from where and with what."""

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from contracts.directory import User

USER_AGENT_CHARACTERS_MAX: Final = 500

type Call = Request[User, None, State]
"""An authenticated request."""


class BearerTokens(AbstractAuthenticationMiddleware):
    """Every request but those marked `exclude_from_auth` names a user by an API token."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """The user of the token. Raises `NotAuthorizedException`, the same for a missing and for an unknown one."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        user = None
        if scheme.lower() == "bearer" and token.strip():
            user = await connection.app.state.gateway.directory.authenticate(token.strip())
        if user is None:
            raise NotAuthorizedException("a valid API token is needed", headers={"WWW-Authenticate": "Bearer"})
        return AuthenticationResult(user=user, auth=None)


def address(request: Call) -> str:
    """Where the request came from; behind a trusted proxy, where that says that it came from."""
    return request.client.host if request.client else ""


def user_agent(request: Call) -> str:
    """The program that calls, as it names itself."""
    return request.headers.get("user-agent", "")[:USER_AGENT_CHARACTERS_MAX]
