"""`GET /v1/workers`: who carries the sessions."""

from litestar import Controller, get

from contracts.api import ErrorCode, Success, WorkerList
from contracts.directory import UserRole
from services.session_api.auth import Call
from services.session_api.errors import RefusedError
from services.session_api.gateway import Gateway


class Workers(Controller):
    """`/v1/workers`."""

    path = "/v1/workers"
    tags = ("workers",)

    @get(summary="List workers")
    async def list_workers(self, request: Call, gateway: Gateway) -> Success[WorkerList]:
        """Every worker process of the installation, by name; for admins. They carry the sessions of all organizations."""
        if request.user.role is not UserRole.ADMIN:
            raise RefusedError(403, ErrorCode.FORBIDDEN, "only admins see the workers")
        return Success(WorkerList(await gateway.workers()))
