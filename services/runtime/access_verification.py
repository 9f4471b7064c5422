"""Verifies access entries: the rows that lie in ClickHouse against the anchors over them, and against stream ACCESS."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from contracts.access_check import EntryCheck, EntryFinding, EntryRow, KnownEntry, Unexplained
from contracts.proof import Finding, Keys
from contracts.streams import ACCESS, AUDIT_ACCESS
from contracts.wire import UndecodableError
from services.runtime import access
from services.runtime.access import AccessEntry
from services.runtime.access_evidence import PAGE_ENTRIES, AccessEvidence
from services.runtime.anchors import OF_ACCESS
from services.runtime.evidence import ALWAYS
from services.runtime.verification import AnchorsReport, check_anchors, check_noted

ALL_PLACES: Final = (0, 2**64 - 1)
"""All that a column `stream_seq` can have."""


class EntriesReport(Struct, frozen=True):
    """About access entries. `unanchored` are in the stream and not under an anchor yet; `not_covered` never will be."""

    entries: int
    anchored: int
    unanchored: int
    not_covered: int
    findings: list[EntryFinding]
    errors: int


class AccessVerifier:
    """Methods let `services.runtime.clickhouse.FAILURES` and `nats.errors.Error` through."""

    def __init__(self, evidence: AccessEvidence, jetstream: JetStreamContext, keys: Keys) -> None:
        self._evidence = evidence
        self._jetstream = jetstream
        self._keys = keys

    async def anchors(self, since: datetime | None = None, until: datetime | None = None) -> AnchorsReport:
        """See `check_anchors`."""
        return await check_anchors(self._evidence, self._jetstream, OF_ACCESS, self._keys, since, until)

    async def noted(self, number: int, hash_: bytes) -> list[Finding]:
        """See `check_noted`."""
        return await check_noted(self._evidence, number, hash_)

    async def entries(self, since: datetime | None = None, until: datetime | None = None) -> EntriesReport:
        """All entries; or those of this time, and what lies between them in the stream."""
        places = ALL_PLACES
        if since or until:
            places = await self._evidence.places(since or ALWAYS[0], until or ALWAYS[1]) or (1, 0)
        # What there must be is settled before rows are read, which may then only have more.
        newest = await self._evidence.newest_anchor()
        check = EntryCheck(await self._evidence.coverage())
        anchored = self._evidence.known(*places, newest.number if newest else 0)
        streamed = self._streamed(*places, *await self._stream())
        async for together in _by_place(anchored, streamed, self._evidence.entries(*places)):
            rows = [each for each in together if isinstance(each, EntryRow)]
            known = [each for each in together if isinstance(each, KnownEntry)]
            await self._explain(check, check.place(rows, known))
        check.finish()
        return EntriesReport(check.entries, check.anchored, check.unanchored, check.not_covered, check.findings, check.errors)

    async def _explain(self, check: EntryCheck, left: Unexplained) -> None:
        for entry in left.missing:
            if not check.is_full and await self._is_set_aside(entry):
                check.set_aside(entry)
            else:
                check.missing(entry)
        for row in left.rows:
            streamed = None if check.is_full else await access.entry_at(self._jetstream, row.stream_seq)
            if streamed and streamed.digest() == row.digest:
                check.waiting(row)
            else:
                check.added(row)

    async def _is_set_aside(self, entry: KnownEntry) -> bool:
        for subject, payload in await self._evidence.set_aside(entry.stream_seq):
            try:
                found = AccessEntry(access.read(subject, payload), entry.stream_seq)
            except UndecodableError:
                continue
            if found.digest() == entry.digest:
                return True
        return False

    async def _stream(self) -> tuple[int, int]:
        """The last place of stream ACCESS, and up to where ClickHouse must have it; 0 where there is no such stream."""
        try:
            consumer = await self._jetstream.consumer_info(ACCESS.name, AUDIT_ACCESS.durable)
            state = (await self._jetstream.stream_info(ACCESS.name)).state
        except NotFoundError:
            return 0, 0
        return state.last_seq, consumer.ack_floor.stream_seq if consumer.ack_floor else 0

    async def _streamed(self, first: int, last: int, stream_last: int, floor: int) -> AsyncIterator[KnownEntry]:
        """What the stream has from one place to another; read in pages, so that no reader is left waiting and forgotten."""
        first, last = max(first, 1), min(last, stream_last)
        while first <= last:
            page = await access.entries(self._jetstream, first, last, PAGE_ENTRIES)
            for entry in page:
                its, place = entry.access, entry.stream_seq
                yield KnownEntry(place, its.id, its.at, entry.digest(), is_due=place <= floor)
            if len(page) < PAGE_ENTRIES:
                return
            first = page[-1].stream_seq + 1


async def _by_place(*sources: AsyncIterator[EntryRow | KnownEntry]) -> AsyncIterator[list[EntryRow | KnownEntry]]:
    """What all of these have of one place, then of the next; each of them gives its own by place."""
    heads = [(source, head) for source in sources if (head := await anext(source, None))]
    while heads:
        place = min(head.stream_seq for _, head in heads)
        together = []
        following = []
        for source, first in heads:
            each: EntryRow | KnownEntry | None = first
            while each and each.stream_seq == place:
                together.append(each)
                each = await anext(source, None)
            if each:
                following.append((source, each))
        heads = following
        yield together
