"""Every subject string, built and parsed here and nowhere else.

NATS accepts a publish to a subject that contains `*`, `>` or spaces, so an unchecked token could reach other sessions:
each token is checked here even where it was decoded before.
"""

import re
from enum import StrEnum
from typing import Final

OPEN_SESSION: Final = "ssh.open"
ALL_EVENTS: Final = "session.>"
ALL_LIVE: Final = "live.session.>"
ALL_ACCESS: Final = "access.>"
ANCHORS: Final = "anchors"
ACCESS_ANCHORS: Final = "access_anchors"

HURRY: Final = "audit.hurry"
"""Not stored: a reader waits for what was recorded to be in ClickHouse, so `audit` is not to wait for its batches to fill."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Request(StrEnum):
    """The requests that the owner of a session answers, by the last token of their subject."""

    INPUT = "input"
    RESIZE = "resize"
    ATTACH = "attach"
    DETACH = "detach"
    CREDIT = "credit"
    TERMINATE = "terminate"
    SNAPSHOT = "snapshot"


class UnsafeTokenError(ValueError):
    """This text may not stand in a subject."""


def event(session_id: str, type_: str) -> str:
    """Where the worker publishes an event: what is stored."""
    return f"session.{_token(session_id)}.{_token(type_)}"


def events_of(session_id: str) -> str:
    """Filter: all stored events of one session."""
    return f"session.{_token(session_id)}.>"


def session_of(event_subject: str) -> str:
    """Which session the event on this subject is of. Raises `UnsafeTokenError` for any other subject."""
    root, _, rest = event_subject.partition(".")
    session_id, _, type_ = rest.partition(".")
    if root != "session" or event(session_id, type_) != event_subject:
        raise UnsafeTokenError(f"no event's subject: {event_subject[:100]!r}")
    return session_id


def access(org_id: str) -> str:
    """Where it is recorded that somebody reads records of this organization."""
    return f"access.{_token(org_id)}"


def live_events_of(session_id: str) -> str:
    """What viewers subscribe to: one session's events as the stream republishes them once they are stored."""
    return f"live.session.{_token(session_id)}.>"


def request(session_id: str, request: Request) -> str:
    """Where the owner of a session answers this request."""
    return f"ssh.{_token(session_id)}.{request.value}"


def requests_of(session_id: str) -> str:
    """All requests to the owner of one session."""
    return f"ssh.{_token(session_id)}.*"


def request_of(subject: str) -> Request:
    """Which request a message on `subject` is. Raises `ValueError` for any other subject."""
    return Request(subject.rpartition(".")[2])


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise UnsafeTokenError(f"not allowed in a subject: {text[:100]!r}")
    return text
