"""Reading records is itself recorded: one call of `record` in each endpoint that shows them, and the list of what was read.

`record` returns once the entry is stored in stream ACCESS; when it cannot be, it raises, the request is answered with 503
and nothing is shown. `audit` moves entries into ClickHouse, as it does events.
"""

import json
from typing import Annotated, Final

from litestar import Controller, get
from litestar.params import QueryParameter

from contracts.access import DETAIL_CHARACTERS_MAX, READER_ID_PATTERN, Action, Reader
from contracts.api import AccessList, ErrorCode, Success
from contracts.ids import SESSION_ID_PATTERN
from services.runtime import access
from services.session_api import listing
from services.session_api.auth import Call, address, user_agent
from services.session_api.errors import RefusedError
from services.session_api.gateway import Gateway
from services.session_api.history import History

PAGE_ENTRIES_MAX: Final = 500
PARAMETER_CHARACTERS_MAX: Final = 500


async def record(request: Call, gateway: Gateway, action: Action, session_id: str = "") -> None:
    """Store that the caller reads these records now. Call it once the caller is known to be allowed to, before reading.

    `session_id` is empty for what concerns more than one session. Raises `nats.errors.Error` when it cannot be stored.
    """
    caller = request.user
    await access.record(
        gateway.jetstream,
        org_id=caller.org,
        user=Reader.of(caller.person()),
        role=caller.role.value,
        action=action,
        session_id=session_id,
        detail=_parameters(request),
        ip_address=address(request),
        user_agent=user_agent(request),
    )


class AccessRecords(Controller):
    """`/v1/access`."""

    path = "/v1/access"
    tags = ("access",)

    @get(summary="List who read which records")
    async def list_access(  # one argument for each parameter
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        user_id: Annotated[str | None, QueryParameter(pattern=READER_ID_PATTERN, description="Who read")] = None,
        session_id: Annotated[str | None, QueryParameter(pattern=SESSION_ID_PATTERN, description="Of which session")] = None,
        from_: Annotated[str | None, QueryParameter(name="from", description="ISO 8601; then or later")] = None,
        to: Annotated[str | None, QueryParameter(description="ISO 8601; before; a bare date is included")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_ENTRIES_MAX)] = 100,
        cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before")] = None,
    ) -> Success[AccessList]:
        """Newest first, of the caller's organization; for auditors and admins. Reading it is recorded too."""
        if not request.user.sees_all_sessions():
            raise RefusedError(403, ErrorCode.FORBIDDEN, "only auditors and admins may see who read what")
        wanted_from, wanted_to = listing.moment("from", from_), listing.moment("to", to, end_of_day=True)
        before = listing.decode_cursor(cursor)
        await record(request, gateway, Action.ACCESS, session_id or "")
        found = await history.access(
            org_id=request.user.org,
            user_id=user_id,
            session_id=session_id,
            since=wanted_from,
            until=wanted_to,
            before=before,
            limit=limit + 1,
        )
        shown, rest = found[:limit], found[limit:]
        return Success(AccessList(shown, listing.encode_cursor((shown[-1].at, shown[-1].id)) if rest else None))


def _parameters(request: Call) -> str:
    """The query's parameters as a JSON object: of each its last value, as far as there is room."""
    parameters: dict[str, str] = {}
    for name, value in request.query_params.items():
        longer = parameters | {name[:PARAMETER_CHARACTERS_MAX]: str(value)[:PARAMETER_CHARACTERS_MAX]}
        if len(json.dumps(longer)) > DETAIL_CHARACTERS_MAX:
            break
        parameters = longer
    return json.dumps(parameters)
