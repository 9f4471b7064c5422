"""Records who reads records with `vsay`, a user of the operating system, as the API does of its users: before anything is read.

An entry belongs to an organization, and its auditors see it: what concerns all organizations makes an entry for each.
"""

import json
import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from contracts.access import DETAIL_CHARACTERS_MAX, HOST_ROLE, OS_USER_PREFIX, Action, Reader
from services.cli.connection import FailedError
from services.runtime import access
from services.runtime.directory import Directory
from services.runtime.evidence import Evidence
from services.runtime.version import VERSION

LOGIN_UID: Final = Path("/proc/self/loginuid")
NO_LOGIN: Final = 2**32 - 1
"""What the kernel has there when nobody logged in."""


async def record(
    jetstream: JetStreamContext,
    evidence: Evidence,
    action: Action,
    asked: Mapping[str, str],
    *,
    org_id: str = "",
    session_id: str = "",
) -> None:
    """Store who reads this, or raise `FailedError`: then nothing is read. Without `org_id`, for all that are concerned."""
    org_ids = [org_id] if org_id else await _concerned(jetstream, evidence, session_id)
    detail = json.dumps(_fitting(dict(asked) | _login()))
    try:
        for each in org_ids:
            await access.record(
                jetstream,
                org_id=each,
                user=reader(),
                role=HOST_ROLE,
                action=action,
                session_id=session_id,
                detail=detail,
                ip_address=f"host:{socket.gethostname()}",
                user_agent=f"vsay/{VERSION}",
            )
    except (NatsError, TimeoutError) as error:
        raise FailedError(f"nothing is read, for it cannot be recorded that it is: {error or type(error).__name__}") from error


def reader() -> Reader:
    """Whose process this is, as the kernel says, not the environment."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:  # a container has no list of users
        return Reader(f"{OS_USER_PREFIX}{os.getuid()}", str(os.getuid()), "")
    return Reader(f"{OS_USER_PREFIX}{entry.pw_name}", entry.pw_gecos.partition(",")[0] or entry.pw_name, "")


def _login() -> dict[str, str]:
    """Who logged in before `sudo` or `su` changed the user; the kernel keeps it, where it does."""
    try:
        uid = int(LOGIN_UID.read_text())
    except (OSError, ValueError):
        return {}
    if uid in (NO_LOGIN, os.getuid()):
        return {}
    try:
        return {"login": pwd.getpwuid(uid).pw_name}
    except KeyError:
        return {"login": str(uid)}


async def _concerned(jetstream: JetStreamContext, evidence: Evidence, session_id: str) -> list[str]:
    """The session's organization; without a session, or when nothing is known of it, all that are declared or recorded."""
    if session_id and (found := await evidence.org_ids(session_id)):
        return found
    directory = await Directory.open(jetstream)
    declared = [organization.id for organization in await directory.organizations()]
    return sorted({*declared, *await evidence.org_ids()})


def _fitting(detail: dict[str, str]) -> dict[str, str]:
    """As much of it as there is room for, the longest cut first."""
    while len(json.dumps(detail)) > DETAIL_CHARACTERS_MAX:
        name = max(detail, key=lambda each: len(detail[each]))
        detail[name] = detail[name][: len(detail[name]) // 2] + "…"
    return detail
