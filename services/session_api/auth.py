"""Bearer tokens: who calls."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from contracts.directory import User

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
