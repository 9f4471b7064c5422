"""The REST API (`docs/api.md`), as `spec/sessions-api.md` has it and with what we add."""

from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

from litestar import Controller, Response, delete, get, post
from litestar.datastructures import State
from litestar.params import PathParameter, QueryParameter
from nats.errors import Error as NatsError

from contracts import commands
from contracts.api import (
    AttachSession,
    Caller,
    CreateSession,
    ErrorCode,
    Health,
    MachineDetail,
    MachineList,
    Message,
    Period,
    SessionDetail,
    SessionList,
    SessionStats,
    SessionStatus,
    SessionTicket,
    Success,
)
from contracts.directory import JUMPS_MAX, Machine, Ticket, User, UserRole
from contracts.events import Role
from contracts.ids import MACHINE_ID_PATTERN, SESSION_ID_PATTERN, USER_ID_PATTERN
from contracts.live import LiveSession, LiveState
from contracts.subjects import Request
from services.session_api import listing, statistics
from services.session_api.auth import Call, address, user_agent
from services.session_api.errors import RefusedError, invalid, machine_not_found
from services.session_api.gateway import Gateway, GatewayUnavailableError, NoOwnerError
from services.session_api.history import History, HistoryUnavailableError
from services.session_api.settings import ApiSettings
from services.session_api.visibility import visible

PAGE_SESSIONS_MAX: Final = 500
TERMINATE_SECONDS_MAX: Final = 10.0

PERIODS: Final = {Period.DAY: timedelta(days=1), Period.WEEK: timedelta(days=7), Period.MONTH: timedelta(days=30)}

SessionPath = Annotated[str, PathParameter(pattern=SESSION_ID_PATTERN)]


class Sessions(Controller):
    """`/v1/sessions`."""

    path = "/v1/sessions"
    tags = ("sessions",)

    @get(summary="List sessions")
    async def list_sessions(  # one argument for each parameter of the specification
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        status: SessionStatus | None = None,
        machine_id: Annotated[str | None, QueryParameter(pattern=MACHINE_ID_PATTERN)] = None,
        user_id: Annotated[str | None, QueryParameter(pattern=USER_ID_PATTERN)] = None,
        from_: Annotated[
            str | None, QueryParameter(name="from", description="ISO 8601; sessions that started then or later")
        ] = None,
        to: Annotated[
            str | None, QueryParameter(description="ISO 8601; sessions that started before; a bare date is included")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE_SESSIONS_MAX)] = 100,
        cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before")] = None,
    ) -> Success[SessionList]:
        """Newest first. Operators see their own sessions, auditors and admins all of their organization."""
        caller = request.user
        if not caller.sees_all_sessions() and user_id not in (None, caller.id):
            return Success(SessionList([]))
        wanted = listing.Wanted(
            org_id=caller.org,
            user_id=user_id if caller.sees_all_sessions() else caller.id,
            machine_id=machine_id,
            status=status,
            since=listing.moment("from", from_),
            until=listing.moment("to", to, end_of_day=True),
            before=listing.decode_cursor(cursor),
        )
        return Success(await listing.page(gateway, history, wanted, limit))

    @post(summary="Create a session")
    async def create_session(
        self, request: Call, gateway: Gateway, settings: ApiSettings, data: CreateSession
    ) -> Success[SessionTicket]:
        """Ask for a terminal on a machine. It is being opened when this returns; its WebSocket tells how that went."""
        caller = request.user
        machine = await gateway.directory.machine(data.machine_id)
        if machine is None or not caller.may_use(machine):
            raise machine_not_found()
        for name in data.environment:
            if not machine.allows(name):
                raise invalid(f"environment.{name}", "this machine does not allow clients to set it")
        command = commands.OpenSession(
            session_id=f"sess_{token_urlsafe(15)}",
            org_id=caller.org,
            user=caller.person(),
            machine=machine,
            cols=data.terminal_size.cols,
            rows=data.terminal_size.rows,
            ip_address=address(request),
            user_agent=user_agent(request),
            requested_at=datetime.now(UTC),
            jumps=await _jumps(gateway, machine),
            environment=data.environment,
        )
        ticket = await _ticket(request, gateway, settings, command.session_id, Role.DRIVER)
        await gateway.open(command)
        return Success(ticket)

    @get("/stats", summary="Session statistics")
    async def stats(
        self, request: Call, gateway: Gateway, history: History, period: Period = Period.MONTH
    ) -> Success[SessionStats]:
        """Figures of a rolling period that ends now; of the whole organization, for operators of their own sessions."""
        caller = request.user
        user_id = None if caller.sees_all_sessions() else caller.id
        now = datetime.now(UTC)
        active = sum(
            listing.status(session) is SessionStatus.ACTIVE and user_id in (None, session.user.id)
            for session in await gateway.live_sessions(caller.org)
        )
        return Success(
            await statistics.stats(
                history, org_id=caller.org, user_id=user_id, since=now - PERIODS[period], until=now, active=active
            )
        )

    @get("/{session_id:str}", summary="Get a session")
    async def get_session(
        self, request: Call, gateway: Gateway, history: History, session_id: SessionPath
    ) -> Success[SessionDetail]:
        """One session's details."""
        return Success(listing.detail(await visible(request.user, gateway, history, session_id)))

    @post("/{session_id:str}/attach", summary="Attach to a session")
    async def attach(  # path, body and what Litestar provides
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        settings: ApiSettings,
        session_id: SessionPath,
        data: AttachSession,
    ) -> Success[SessionTicket]:
        """A ticket to a running session's WebSocket: to observe it, or to drive it as its user or as an admin."""
        session = await visible(request.user, gateway, history, session_id)
        if listing.status(session) is SessionStatus.ENDED:
            raise _session_ended()
        if data.role is Role.DRIVER and not _may_drive(request.user, session):
            raise RefusedError(403, ErrorCode.FORBIDDEN, "only the session's user and admins may drive it; attach as observer")
        return Success(await _ticket(request, gateway, settings, session_id, data.role))

    @delete("/{session_id:str}", status_code=200, summary="Terminate a session")
    async def terminate(self, request: Call, gateway: Gateway, history: History, session_id: SessionPath) -> Message:
        """End a session; it has ended when this returns."""
        session = await visible(request.user, gateway, history, session_id)
        if listing.status(session) is SessionStatus.ENDED:
            raise _session_ended()
        if not _may_drive(request.user, session):
            raise RefusedError(403, ErrorCode.FORBIDDEN, "only the session's user and admins may terminate it")
        terminated = Message("Session terminated successfully")
        if session.state is LiveState.WAITING and await gateway.cancel(session_id):
            return terminated
        try:
            reply = await gateway.ask(session_id, Request.TERMINATE, commands.Terminate(request.user.person()))
        except NoOwnerError as error:
            raise GatewayUnavailableError("the session's worker is gone; the session ends within half a minute") from error
        if isinstance(reply, commands.Refused):
            raise _session_ended()
        if not await gateway.ended(session_id, timeout_seconds=TERMINATE_SECONDS_MAX):
            raise GatewayUnavailableError("the session is being terminated, which takes longer than usual")
        return terminated


class Directory(Controller):
    """Who calls, and what the caller may use."""

    path = "/v1"
    tags = ("directory",)

    @get("/me", summary="Who am I")
    async def me(self, request: Call) -> Success[Caller]:
        """The user of the API token."""
        user = request.user
        return Success(Caller(id=user.id, name=user.name, email=user.email, org_id=user.org, role=user.role.value))

    @get("/machines", summary="List machines")
    async def machines(self, request: Call, gateway: Gateway) -> Success[MachineList]:
        """The machines on which the caller may open sessions."""
        usable = [each for each in await gateway.directory.machines_of(request.user.org) if request.user.may_use(each)]
        return Success(MachineList([MachineDetail(each.id, each.name, each.host) for each in usable]))


@get("/healthz", exclude_from_auth=True, tags=["health"], summary="Is the process alive")
async def healthz() -> Health:
    """Alive: restart it when this fails."""
    return Health("ok")


@get("/readyz", exclude_from_auth=True, tags=["health"], summary="Can it serve")
async def readyz(state: State) -> Response[Health]:
    """Ready: send it requests only while this is 200."""
    checks = {}
    for name, part in (("nats", state.gateway), ("clickhouse", state.history)):
        try:
            await part.ready()
            checks[name] = "ok"
        except (NatsError, TimeoutError, HistoryUnavailableError) as error:
            checks[name] = type(error).__name__
    is_ready = set(checks.values()) == {"ok"} and not state.sockets.closing
    return Response(Health("ok" if is_ready else "unavailable", checks), status_code=200 if is_ready else 503)


async def _jumps(gateway: Gateway, machine: Machine) -> tuple[Machine, ...]:
    """The jump hosts on the way to a machine, the first one first. Whoever may use the machine may go through them."""
    jumps: list[Machine] = []
    while jump_id := (jumps[0] if jumps else machine).jump:
        jump = await gateway.directory.machine(jump_id)
        if jump is None or jump.org != machine.org or len(jumps) >= JUMPS_MAX:
            raise RefusedError(409, ErrorCode.JUMP_HOST_NOT_FOUND, "a jump host of this machine is not declared as it should be")
        jumps.insert(0, jump)
    return tuple(jumps)


def _may_drive(caller: User, session: LiveSession) -> bool:
    return caller.role is UserRole.ADMIN or (caller.role is UserRole.OPERATOR and session.user.id == caller.id)


def _session_ended() -> RefusedError:
    return RefusedError(409, ErrorCode.SESSION_ENDED, "the session has ended")


async def _ticket(request: Call, gateway: Gateway, settings: ApiSettings, session_id: str, role: Role) -> SessionTicket:
    caller = request.user
    expires_at = datetime.now(UTC) + timedelta(seconds=settings.ticket_seconds)
    secret = await gateway.directory.create_ticket(Ticket(session_id, caller.id, caller.org, role, expires_at))
    base = urlsplit(settings.public_url or str(request.base_url))
    scheme = "wss" if base.scheme in ("https", "wss") else "ws"
    url = urlunsplit((scheme, base.netloc, f"{base.path.rstrip('/')}/v1/sessions/{session_id}/ws", "", ""))
    return SessionTicket(session_id=session_id, websocket_url=url, token=secret, expires_at=expires_at)
