"""Verifies sessions and anchors: what lies in ClickHouse against its chain, its signatures, the anchors, and the streams."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct
from nats.js import JetStreamContext

from contracts.anchor_check import AnchorCheck, check_itself
from contracts.anchors import AccessAnchor, Anchor
from contracts.proof import AnchoredHead, Code, Finding, Findings, Keys, SessionCheck, StreamHead
from contracts.streams import AUDIT
from contracts.subjects import UnsafeTokenError
from contracts.wire import UndecodableError
from services.runtime.anchors import OF_SESSIONS, Series, newest_stored_anchor
from services.runtime.evidence import ALWAYS, EPOCH, Evidence
from services.runtime.record import Record

ANCHORED_WITHIN: Final = timedelta(days=1)
"""How much later than an event the first anchor that has it may have been made, at most, for the retention to be believed."""


class SessionReport(Struct, frozen=True):
    """About one session. `findings` are at most `FINDINGS_MAX`; `errors` counts those that are no notices."""

    session_id: str
    events: int
    head_seq: int
    chain: bytes
    is_ended: bool
    key_id: str
    anchored_seq: int
    findings: list[Finding]
    errors: int


class AnchorsReport(Struct, frozen=True):
    """About the anchors of a time; `head_number` and `head_hash` of the last one are worth keeping somewhere else."""

    anchors: int
    head_number: int
    head_hash: bytes
    findings: list[Finding]
    errors: int


class AnchorEvidence[A: (Anchor, AccessAnchor)](Protocol):
    """Where the anchors of one chain are read."""

    async def anchor_numbers(self, since: datetime, until: datetime) -> tuple[int, int] | None:
        """The lowest and the highest number of the anchors made in this time; None when there are none."""

    def anchors(self, first: int, last: int) -> AsyncIterator[A]:
        """All rows of anchors with these numbers, by their numbers."""

    async def anchor(self, number: int) -> A | None:
        """One anchor; None when it is not there."""


class Verifier:
    """Methods let `services.runtime.clickhouse.FAILURES` and `nats.errors.Error` through."""

    def __init__(self, evidence: Evidence, jetstream: JetStreamContext, keys: Keys, *, retention_days: int = 0) -> None:
        """`retention_days`: events older than this may be gone; 0: none may."""
        self._expired_at = _expired_at(datetime.now(UTC), retention_days)
        self._evidence = evidence
        self._jetstream = jetstream
        self._record = Record(jetstream)
        self._keys = keys
        self._floor = 0

    async def session(self, session_id: str) -> SessionReport:
        """One session, and the anchor that has it farthest."""
        heads = await self._evidence.heads(session_id)
        findings = Findings()
        if heads:
            number = max(heads, key=lambda head: head.seq).anchor
            anchor = await self._evidence.anchor(number)
            for finding in check_itself(anchor, self._keys) if anchor else ():
                findings.add(finding)
        return await self._checked(session_id, heads, findings)

    async def sessions(self, since: datetime | None = None, until: datetime | None = None) -> AsyncIterator[SessionReport]:
        """Every session, or those of which something was recorded or anchored in this time; each as a whole."""
        async for page in self._evidence.session_ids(since or ALWAYS[0], until or ALWAYS[1]):
            heads = await self._evidence.heads_between(page[0], page[-1])
            for session_id in page:
                yield await self._checked(session_id, heads.get(session_id, []), Findings())

    async def anchors(self, since: datetime | None = None, until: datetime | None = None) -> AnchorsReport:
        """See `check_anchors`."""
        return await check_anchors(self._evidence, self._jetstream, OF_SESSIONS, self._keys, since, until)

    async def noted(self, number: int, hash_: bytes) -> list[Finding]:
        """See `check_noted`."""
        return await check_noted(self._evidence, number, hash_)

    async def _checked(self, session_id: str, heads: Sequence[AnchoredHead], so_far: Findings) -> SessionReport:
        stream_head = await self._stream_head(session_id)  # before ClickHouse is read, which may then only have more
        check = SessionCheck(session_id, self._keys, heads, expired_at=self._expired_at)
        async for event in self._evidence.events(session_id):
            check.add(event)
        findings = check.finish(stream_head)
        return SessionReport(
            session_id=session_id,
            events=check.events,
            head_seq=check.head.seq if check.head else 0,
            chain=check.head.chain if check.head else b"",
            is_ended=check.is_ended,
            key_id=check.key_id,
            anchored_seq=check.anchored_seq,
            findings=so_far.listed + findings.listed,
            errors=so_far.errors + findings.errors,
        )

    async def _stream_head(self, session_id: str) -> StreamHead | None:
        try:
            last = await self._record.last(session_id)
        except (UndecodableError, UnsafeTokenError):
            return StreamHead(0, is_stored=False)  # the stream has something of it, which says nothing
        if last is None:
            return None
        if last.stream_seq > self._floor:
            consumer = await self._jetstream.consumer_info(AUDIT.stream, AUDIT.durable)
            self._floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
        return StreamHead(last.recorded.seq, is_stored=last.stream_seq <= self._floor)


async def check_anchors[A: (Anchor, AccessAnchor)](
    evidence: AnchorEvidence[A],
    jetstream: JetStreamContext,
    series: Series[A],
    keys: Keys,
    since: datetime | None,
    until: datetime | None,
) -> AnchorsReport:
    """All anchors, or those made in this time and the one before. Without `until` the newest of the stream must be there."""
    newest = None if until else await newest_stored_anchor(jetstream, series)
    first, last = await evidence.anchor_numbers(since or ALWAYS[0], until or ALWAYS[1]) or (1, 0)
    first = max(first - 1, 1) if since else 1
    check = AnchorCheck[A](keys, first=first)
    async for anchor in evidence.anchors(first, last):
        check.add(anchor)
    findings = check.finish(newest)
    head = check.head
    return AnchorsReport(check.anchors, head.number if head else 0, head.hash() if head else b"", findings.listed, findings.errors)


async def check_noted[A: (Anchor, AccessAnchor)](evidence: AnchorEvidence[A], number: int, hash_: bytes) -> list[Finding]:
    """What is wrong with an anchor whose hash somebody has kept."""
    anchor = await evidence.anchor(number)
    if anchor is None:
        return [Finding(Code.MISSING_ANCHOR, f"anchor {number} is missing", anchor=number)]
    if anchor.hash() != hash_:
        return [Finding(Code.ALTERED_ANCHOR, f"anchor {number} is not the one whose hash was kept", anchor=number)]
    return []


def _expired_at(now: datetime, retention_days: int) -> int:
    """By when a session must have been anchored for its events to be gone now; microseconds since the epoch."""
    if not retention_days:
        return 0
    return (now - timedelta(days=retention_days) + ANCHORED_WITHIN - EPOCH) // timedelta(microseconds=1)
