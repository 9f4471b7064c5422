"""Who may see which session: operators their own, auditors and admins those of their organization."""

from contracts.directory import User
from contracts.live import LiveSession
from services.session_api.errors import session_not_found
from services.session_api.gateway import Gateway
from services.session_api.history import History


async def visible(caller: User, gateway: Gateway, history: History, session_id: str) -> LiveSession:
    """The session, if the caller may see it. Raises the same for one that is unknown and one that is not the caller's to see."""
    session = await gateway.live_session(session_id) or await history.session(caller.org, session_id)
    if session is None or session.org_id != caller.org:
        raise session_not_found()
    if not caller.sees_all_sessions() and session.user.id != caller.id:
        raise session_not_found()
    return session
