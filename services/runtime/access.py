"""Puts into stream ACCESS who reads which records, before anything is read: the one way there, for the API and for `vsay`."""

from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe
from typing import Final

from nats.js import JetStreamContext

from contracts import access, subjects
from contracts.access import Access, Action, Reader
from contracts.streams import ACCESS

PUBLISH_SECONDS: Final = 5.0
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def record(
    jetstream: JetStreamContext,
    *,
    org_id: str,
    user: Reader,
    role: str,
    action: Action,
    session_id: str,
    detail: str,
    ip_address: str,
    user_agent: str,
) -> None:
    """Store that these records are read now. Raises `nats.errors.Error` when it cannot be stored: then nothing may be read."""
    entry = Access(
        id=f"acc_{token_urlsafe(15)}",
        at=(datetime.now(UTC) - EPOCH) // timedelta(microseconds=1),
        org_id=org_id,
        user=user,
        role=role,
        action=action.value,
        session_id=session_id,
        detail=detail,
        ip_address=ip_address,
        user_agent=user_agent,
    )
    await jetstream.publish(
        subjects.access(org_id),
        access.encode(entry),
        timeout=PUBLISH_SECONDS,
        stream=ACCESS.name,
        headers={"Nats-Msg-Id": entry.id},
    )
