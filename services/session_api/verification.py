"""`GET /v1/sessions/{id}/verification`: whether a session's record is complete and unaltered."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import PathParameter

from contracts.access import Action
from contracts.api import SessionVerification, Success
from contracts.ids import SESSION_ID_PATTERN
from services.runtime.signing import PublicKeys
from services.session_api import access, logs
from services.session_api.auth import Call
from services.session_api.errors import RefusedError
from services.session_api.gateway import Gateway
from services.session_api.history import History
from services.session_api.settings import ApiSettings
from services.session_api.visibility import visible


class Verification(Controller):
    """Of one session."""

    path = "/v1/sessions/{session_id:str}/verification"
    tags = ("verification",)

    @get(summary="Verify a session's record")
    async def verification(
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        settings: ApiSettings,
        session_id: Annotated[str, PathParameter(pattern=SESSION_ID_PATTERN)],
    ) -> Success[SessionVerification]:
        """Checks every event against its chain, its signature, the anchors and the stream, and says what is wrong and where."""
        await _may_verify(request, gateway, history, session_id)
        await access.record(request, gateway, Action.VERIFICATION, session_id)
        await logs.caught_up(gateway, history, session_id)
        known = await PublicKeys.load(gateway.jetstream)
        report = await history.verified(session_id, gateway.jetstream, known, retention_days=settings.retention_days)
        return Success(
            SessionVerification(
                session_id=session_id,
                verified=not report.errors,
                ended=report.is_ended,
                events=report.events,
                head_seq=report.head_seq,
                chain=report.chain.hex(),
                key_id=report.key_id or None,
                anchored_seq=report.anchored_seq,
                findings=report.findings,
                findings_count=report.errors,
            )
        )


async def _may_verify(request: Call, gateway: Gateway, history: History, session_id: str) -> None:
    """A session that was removed from ClickHouse is nobody's any more, but anchors still know whose it was."""
    try:
        await visible(request.user, gateway, history, session_id)
    except RefusedError:
        if not request.user.sees_all_sessions() or await history.anchored_org(session_id) != request.user.org:
            raise
