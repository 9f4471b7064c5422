"""Reading what was recorded (`docs/recordings.md`): logs, search, recordings, the screen at any moment.

Everything that gives out the contents of a session's record is here, each in one method, which says who reads
(`access.record`) before it does.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from litestar import Controller, Response, get
from litestar.params import QueryParameter
from litestar.response import Stream

from contracts.access import Action
from contracts.api import (
    LogFormat,
    LogType,
    RecordingFormat,
    RecordingPart,
    ScreenFormat,
    SearchResult,
    Success,
)
from contracts.ids import MACHINE_ID_PATTERN, USER_ID_PATTERN
from services.session_api import access, listing, logs, past, search
from services.session_api.auth import Call
from services.session_api.controllers import SessionPath
from services.session_api.errors import invalid
from services.session_api.gateway import Gateway
from services.session_api.history import EPOCH, SEQ_MAX, History
from services.session_api.recording import written
from services.session_api.screen import screen_at
from services.session_api.streamed import begun, in_chunks
from services.session_api.visibility import visible

LOGS_LIMIT_MAX: Final = 1_000_000
HITS_MAX: Final = 200

LOG_MEDIA_TYPES: Final = {LogFormat.JSON: "application/json", LogFormat.TEXT: "text/plain; charset=utf-8"}
SCREEN_MEDIA_TYPES: Final = {
    ScreenFormat.TEXT: "text/plain; charset=utf-8",
    ScreenFormat.ANSI: "application/octet-stream",
    ScreenFormat.HTML: "text/html; charset=utf-8",
}
RECORDING_FILES: Final = {
    (RecordingFormat.ASCIICAST_V2, RecordingPart.DATA): ("application/x-asciicast", "cast"),
    (RecordingFormat.ASCIICAST_V3, RecordingPart.DATA): ("application/x-asciicast", "cast"),
    (RecordingFormat.TYPESCRIPT, RecordingPart.DATA): ("application/octet-stream", "typescript"),
    (RecordingFormat.TYPESCRIPT, RecordingPart.TIMING): ("text/plain; charset=utf-8", "timing"),
    (RecordingFormat.RAW, RecordingPart.DATA): ("application/octet-stream", "raw"),
}
"""Media type and the file name's ending of each."""

SHOWN_AS_IS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""A browser that opens what a terminal printed runs and loads nothing of it, and nobody on the way keeps it."""


class Records(Controller):
    """What was recorded, to read."""

    path = "/v1"
    tags = ("records",)

    @get("/sessions/{session_id:str}/logs", summary="Get a session's logs", media_type="application/json")
    async def session_logs(  # one argument for each parameter
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        session_id: SessionPath,
        format_: Annotated[LogFormat, QueryParameter(name="format")] = LogFormat.JSON,
        after: Annotated[int, QueryParameter(ge=0, le=SEQ_MAX, description="Only entries with a greater `seq`")] = 0,
        limit: Annotated[int | None, QueryParameter(ge=1, le=LOGS_LIMIT_MAX, description="At most so many entries")] = None,
        type_: Annotated[LogType | None, QueryParameter(name="type")] = None,
    ) -> Stream:
        """Commands and their readable output, in order; with `format=text` a readable transcript. Streamed."""
        await visible(request.user, gateway, history, session_id)
        await access.record(request, gateway, Action.LOGS, session_id)
        complete = await logs.caught_up(gateway, history, session_id)
        entries = history.logs(session_id, after_seq=after, limit=limit, type_=type_)
        body = logs.rendered(session_id, entries, format_, complete=complete)
        return Stream(await begun(body), headers={"content-type": LOG_MEDIA_TYPES[format_]} | SHOWN_AS_IS)

    @get("/search", summary="Search the logs of all sessions")
    async def search(  # one argument for each parameter
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        q: Annotated[
            str,
            QueryParameter(
                required=True,
                max_length=search.QUERY_CHARACTERS_MAX,
                description="The text to look for; of the letters A to Z either case is found",
            ),
        ] = "",
        machine_id: Annotated[str | None, QueryParameter(pattern=MACHINE_ID_PATTERN)] = None,
        user_id: Annotated[str | None, QueryParameter(pattern=USER_ID_PATTERN)] = None,
        from_: Annotated[str | None, QueryParameter(name="from", description="ISO 8601; recorded then or later")] = None,
        to: Annotated[str | None, QueryParameter(description="ISO 8601; recorded before; a bare date is included")] = None,
        type_: Annotated[LogType | None, QueryParameter(name="type")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=HITS_MAX)] = 50,
        cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before")] = None,
    ) -> Success[SearchResult]:
        """Newest first. Operators search their own sessions, auditors and admins all of their organization."""
        caller = request.user
        if not q:
            raise invalid("q", "say what to look for")
        wanted = search.Wanted(
            text=q,
            org_id=caller.org,
            user_id=user_id if caller.sees_all_sessions() else caller.id,
            machine_id=machine_id,
            since=listing.moment("from", from_),
            until=listing.moment("to", to, end_of_day=True),
            type=type_,
            before=search.decode_cursor(cursor),
        )
        if not caller.sees_all_sessions() and user_id not in (None, caller.id):
            return Success(SearchResult([]))
        await access.record(request, gateway, Action.SEARCH)
        return Success(await search.page(history, wanted, limit))

    @get("/sessions/{session_id:str}/recording", summary="Get a session's recording", media_type="application/octet-stream")
    async def recording(
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        session_id: SessionPath,
        format_: Annotated[RecordingFormat, QueryParameter(name="format")] = RecordingFormat.ASCIICAST_V2,
        part: Annotated[RecordingPart, QueryParameter(description="Which of the two files of a typescript")] = RecordingPart.DATA,
    ) -> Stream:
        """The terminal's output with its times, to play; of a session that runs, up to now. Streamed."""
        if (format_, part) not in RECORDING_FILES:
            raise invalid("part", "only format typescript has more than one part")
        await visible(request.user, gateway, history, session_id)
        await access.record(request, gateway, Action.RECORDING, session_id)
        head_seq = await past.head_seq(gateway, history, session_id)
        events = past.events(gateway, history, session_id, up_to_seq=head_seq)
        media_type, ending = RECORDING_FILES[format_, part]
        headers = {"content-type": media_type, "content-disposition": f'attachment; filename="{session_id}.{ending}"'}
        return Stream(await begun(in_chunks(written(events, format_, part))), headers=headers | SHOWN_AS_IS)

    @get("/sessions/{session_id:str}/screen", summary="Get a session's screen at a moment", media_type="text/plain")
    async def screen(
        self,
        request: Call,
        gateway: Gateway,
        history: History,
        session_id: SessionPath,
        seq: Annotated[int | None, QueryParameter(ge=0, le=SEQ_MAX, description="After this event")] = None,
        at: Annotated[str | None, QueryParameter(description="ISO 8601; at this time")] = None,
        format_: Annotated[ScreenFormat, QueryParameter(name="format")] = ScreenFormat.TEXT,
    ) -> Response[bytes]:
        """What the terminal showed, at the end or now when neither `seq` nor `at` says otherwise."""
        if seq is not None and at is not None:
            raise invalid("at", "give seq or at, not both")
        moment = listing.moment("at", at)
        await visible(request.user, gateway, history, session_id)
        await access.record(request, gateway, Action.SCREEN, session_id)
        at_us = None if moment is None else _microseconds(moment)
        screen = await screen_at(gateway, history, session_id, format_, seq=seq, at=at_us)
        headers = {"content-type": SCREEN_MEDIA_TYPES[format_], "screen-seq": str(screen.seq)} | SHOWN_AS_IS
        headers["screen-size"] = f"{screen.cols}x{screen.rows}"
        if screen.at:
            headers["screen-at"] = (EPOCH + timedelta(microseconds=screen.at)).isoformat()
        return Response(screen.body, headers=headers)


def _microseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
