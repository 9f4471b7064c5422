"""Users of an installation that read its records, from made-up sessions in the stream and in ClickHouse."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

from contracts.events import Person, TerminalResized
from tests.integration.installation import Installation
from tests.integration.processes import WAIT_SECONDS_MAX, Service
from tests.integration.stories import JOHN, Story, publish

STORED_SECONDS_MAX = 100.0

COUNTS = """SELECT session_id, uniqExact(seq) AS recorded, max(last_seq) AS seen, max(logged) AS logged FROM vsay.events
LEFT JOIN (SELECT session_id, last_seq FROM vsay.sessions WHERE claimed_at IS NOT NULL) AS sessions USING session_id
LEFT JOIN (SELECT session_id, uniqExact(seq) AS logged FROM vsay.log_parts
    WHERE type IN ('command', 'output') GROUP BY session_id) AS logs USING session_id
GROUP BY session_id"""
"""Of an insert, the tables show what it brought one after the other."""


OLGA = Person("usr_other", "Olga Other", "olga@example.com")


class Reader:
    """Reads the API as the users of an installation."""

    def __init__(self, parts: Installation, tokens: dict[str, str]) -> None:
        self.parts = parts
        self.tokens = tokens
        self.clickhouse = parts.clickhouse()
        self.audit = parts.start("audit")
        self.api: Service = parts.start("session_api")

    async def get(self, path: str, user: str = "usr_123", **query: object) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        return await asyncio.to_thread(self._get, f"{path}?{urlencode(query)}" if query else path, self.tokens[user])

    async def body(self, path: str, user: str = "usr_123", **query: object) -> bytes:
        """Of an answer that is no refusal."""
        status, _, body = await self.get(path, user, **query)
        assert status == 200, body
        return body

    async def data(self, path: str, user: str = "usr_123", **query: object) -> Any:
        """Of a JSON answer that is no refusal."""
        return json.loads(await self.body(path, user, **query))["data"]

    async def tell(self, *stories: Story, stored: bool = True) -> None:
        """Put these into the stream; returns once ClickHouse has them, if they are to be `stored`."""
        async with self.parts.jetstream() as jetstream:
            for story in stories:
                await publish(jetstream, *story.events)
        async with asyncio.timeout(STORED_SECONDS_MAX):
            while stored and not await self._has(stories):
                await asyncio.sleep(0.05)

    async def _has(self, stories: tuple[Story, ...]) -> bool:
        try:
            rows = await asyncio.to_thread(self.clickhouse.query, COUNTS)
        except urllib.error.HTTPError:
            return False  # there is no schema yet
        counts = {row.split("\t")[0]: row.split("\t")[1:] for row in rows.splitlines()}
        return all(counts.get(story.session_id) == list(map(str, wanted(story))) for story in stories)

    def _get(self, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(self.api.url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()


def wanted(story: Story) -> tuple[int, int, int]:
    """How many events it has, its last number, how many entries of logs."""
    return len(story.events), story.events[-1].seq, sum(event.type in ("command", "text") for event in story.events)


def poem(session_id: str, user: Person = JOHN) -> Story:
    """A session with a character that events cut, a resize, a byte that is no UTF-8, and an end."""
    story = Story(session_id).claimed(user).later(seconds=1).started()
    story.later(milliseconds=10).output(b"$ \xe6\x97").later(milliseconds=5).output(b"\xa5 ls -la\r\n")
    story.command("ls -la", "total 42")
    story.later(milliseconds=50).record(TerminalResized(100, 30))
    story.output(b"\x1b[31mred\x1b[0m <b>\xff\r\n")
    return story.later(milliseconds=20).ended(exit_status=3)


def output(story: Story) -> bytes:
    return b"".join(event.data for event in story.events if event.type == "output")


async def hits(reader: Reader, q: str, user: str = "usr_auditor", **query: object) -> list[tuple[str, int]]:
    """Session and seq of every hit, over all pages."""
    found: list[tuple[str, int]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await reader.data("/v1/search", user, q=q, **query, **cursor)
        found += [(hit["session_id"], hit["seq"]) for hit in page["hits"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}
