"""Verification: reads a session's events, or the anchors, in their order, and says exactly what is wrong and where.

Pure, and bounded in memory however long the record is. `docs/verification.md` defines the format and every code.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from contracts.events import SessionEnded
from contracts.ids import Utc
from contracts.wire import GENESIS, Recorded

FINDINGS_MAX: Final = 100
"""Of one session, or of the anchors; further ones are only counted."""

SUSPECTS_MAX: Final = 64
"""Events out of their chain that are kept, to find out whether they stand in each other's place."""

SHIFTS: Final = (1, -1, 2, -2, 3, -3, 4, -4)
"""By how much a run of events may have been renumbered and still be recognized."""


class Code(StrEnum):
    """What can be wrong. Stable."""

    MISSING_EVENT = "missing_event"
    ALTERED_EVENT = "altered_event"
    REORDERED_EVENT = "reordered_event"
    CONFLICTING_EVENT = "conflicting_event"
    EVENT_AFTER_END = "event_after_end"
    MISSING_TAIL = "missing_tail"
    MISSING_END = "missing_end"
    MISSING_SESSION = "missing_session"
    NOT_STORED_YET = "not_stored_yet"
    EXPIRED = "expired"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_KEY = "unknown_key"
    ANCHOR_MISMATCH = "anchor_mismatch"
    MISSING_ANCHOR = "missing_anchor"
    ALTERED_ANCHOR = "altered_anchor"


class Finding(Struct, frozen=True, omit_defaults=True):
    """Something that is wrong; with `is_notice`, something that is only worth knowing. `seq` and `anchor` say where."""

    code: Code
    message: str
    session_id: str | None = None
    seq: int | None = None
    anchor: int | None = None
    is_notice: bool = False


class Verdict(StrEnum):
    """About a signature."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN_KEY = "unknown_key"


class Keys(Protocol):
    """The public keys that the verifier believes in."""

    @property
    def since(self) -> Utc | None:
        """When the first of them was made; None when there is none. What is recorded later should be signed."""

    def verdict(self, key_id: str, statement: bytes, signature: bytes) -> Verdict:
        """Whether this key signed exactly this."""


class AnchoredHead(Struct, frozen=True):
    """An anchor's leaf of one session. `at`: when the anchor was made, in microseconds since the epoch, UTC."""

    anchor: int
    seq: int
    chain: bytes
    at: int


class StreamHead(Struct, frozen=True):
    """The session's newest event in stream SESSIONS; `is_stored`: `audit` has acknowledged it, so ClickHouse must have it."""

    seq: int
    is_stored: bool


class Findings:
    """At most `FINDINGS_MAX`, and how many there were."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.errors = 0

    def add(self, finding: Finding) -> None:
        """One more."""
        self.errors += not finding.is_notice
        if len(self.listed) < FINDINGS_MAX:
            self.listed.append(finding)


class _Suspect(Struct):
    """An event that does not continue the chain before it, which stands at `previous`."""

    previous: bytes
    row: Recorded

    @property
    def seq(self) -> int:
        return self.row.seq

    def is_place_of(self, row: Recorded, previous: bytes) -> bytes | None:
        """The chain with which `row`, numbered anew, continues `previous` here; None when it does not."""
        link = replace(row, seq=self.seq).link(previous)
        return link if link in (row.chain, self.row.chain) else None


class SessionCheck:
    """Give it all events of one session by `add`, in the order of their numbers, then call `finish`."""

    def __init__(self, session_id: str, keys: Keys, heads: Iterable[AnchoredHead] = (), *, expired_at: int = 0) -> None:
        """`heads`: what anchors say of this session. What was anchored by `expired_at` (microseconds) may be gone for its age."""
        self.findings = Findings()
        self.events = 0
        self.head: Recorded | None = None
        self.key_id = ""
        self._session_id = session_id
        self._keys = keys
        self._heads: dict[int, list[AnchoredHead]] = {}
        for head in heads:
            self._heads.setdefault(head.seq, []).append(head)
        self._expired_at = expired_at
        self._previous: bytes | None = GENESIS
        self._shift = 0
        self._suspects: dict[int, _Suspect] = {}
        self._ended_seq: int | None = None

    @property
    def is_ended(self) -> bool:
        """Whether the end was among the events."""
        return self._ended_seq is not None

    @property
    def anchored_seq(self) -> int:
        """The highest number that an anchor is over; 0: none."""
        return max(self._heads, default=0)

    def add(self, event: Recorded) -> None:
        """The next event; an exact repetition of the one before changes nothing."""
        last = self.head
        if last is not None and event.seq == last.seq:
            self._again(last, event)
            return
        if event.seq < 1:
            self._find(Code.ALTERED_EVENT, event.seq, "no event has this number")
            return
        self.events += 1
        last_seq, chain = (last.seq, last.chain) if last else (0, GENESIS)
        if event.seq == last_seq + 1:
            self._previous = chain
            self._check_link(event, chain)
        else:
            if last or not self._expired(event.seq - 1):
                self._missing(last_seq + 1, event.seq - 1)
            self._previous, self._shift = None, 0
        self.head = event
        self._check_heads(event)
        self._check_end(event)

    def finish(self, stream_head: StreamHead | None) -> Findings:
        """Everything that was found. `stream_head` is None when stream SESSIONS has nothing of this session any more."""
        self._explain_suspects()
        self._check_tail(stream_head)
        return self.findings

    # Each event.

    def _again(self, last: Recorded, event: Recorded) -> None:
        if event == last:
            return
        self._find(Code.CONFLICTING_EVENT, event.seq, f"there are different rows with number {event.seq}")
        if self._previous is not None and event.follows(self._previous) and not last.follows(self._previous):
            self._suspects.pop(event.seq, None)
            self.head = event

    def _check_link(self, event: Recorded, previous: bytes) -> None:
        if event.follows(previous):
            self._shift = 0
            return
        for shift in (self._shift, *SHIFTS):
            if shift and replace(event, seq=event.seq + shift).follows(previous):
                if shift != self._shift:
                    self._renumbered(event.seq, shift)
                return
        if len(self._suspects) < SUSPECTS_MAX:
            self._suspects[event.seq] = _Suspect(previous, event)
        else:
            self._altered(event.seq)

    def _renumbered(self, seq: int, shift: int) -> None:
        """From here on events stand under other numbers. What they were renumbered to close is just before."""
        self._shift = shift
        if shift > 0 and seq - 1 in self._suspects:
            del self._suspects[seq - 1]
            seq -= 1
            self._missing(seq, seq + shift - 1)
        message = f"the event that stands as number {seq} was recorded as number {seq + shift}, and so on with those after it"
        self._find(Code.REORDERED_EVENT, seq, message)

    def _check_heads(self, event: Recorded) -> None:
        for head in self._heads.get(event.seq, ()):
            if head.chain != event.chain:
                message = f"the chain at event {event.seq} is not what anchor {head.anchor} says"
                self._find(Code.ANCHOR_MISMATCH, event.seq, message, anchor=head.anchor)

    def _check_end(self, event: Recorded) -> None:
        if self._ended_seq is not None:
            self._find(
                Code.EVENT_AFTER_END, event.seq, f"event {event.seq} follows the end of the session, event {self._ended_seq}"
            )
        elif event.type == _ENDED:
            self._ended_seq = event.seq
            self._check_signature(event)

    def _check_signature(self, event: Recorded) -> None:
        self.key_id = _key_id(event)
        if not self.key_id and not event.data:
            since = self._keys.since
            is_expected = since is not None and since.timestamp() * 1_000_000 <= event.at
            self._find(Code.UNSIGNED, event.seq, "the end of the session is not signed", is_notice=not is_expected)
            return
        if self._previous is None:
            return  # the event before is missing, which is found already
        match self._keys.verdict(self.key_id, event.statement(self._previous), event.data):
            case Verdict.UNKNOWN_KEY:
                self._find(Code.UNKNOWN_KEY, event.seq, f"the session is signed with a key that is not known: {self.key_id[:80]!r}")
            case Verdict.BAD:
                self._find(Code.BAD_SIGNATURE, event.seq, f"the signature with key {self.key_id} is not of this session as it is")
            case Verdict.GOOD:
                pass

    # When all are seen.

    def _explain_suspects(self) -> None:
        """Of events out of their chain: which stand in another's place, which are altered, which only follow one of these."""
        chains: dict[int, tuple[bytes, ...]] = {}
        rows = [suspect.row for suspect in self._suspects.values()]
        for seq, suspect in sorted(self._suspects.items()):
            before = (suspect.previous, *chains.get(seq - 1, ()))
            for row in (suspect.row, *rows):
                link = next((link for each in before if (link := suspect.is_place_of(row, each))), None)
                if link is None:
                    continue
                chains[seq] = (link,)
                if row is not suspect.row:
                    self._find(
                        Code.REORDERED_EVENT, row.seq, f"the event that stands as number {row.seq} was recorded as number {seq}"
                    )
                elif link != row.chain:
                    self._altered(seq)
                break
            else:
                chains[seq] = (suspect.row.chain, *(suspect.row.link(each) for each in before))
                self._altered(seq)

    def _check_tail(self, stream_head: StreamHead | None) -> None:
        last_seq = self.head.seq if self.head else 0
        anchored = max(self._heads, default=0)
        if not last_seq:
            if anchored and self._expired(anchored):
                return
            where = f"anchor {self._heads[anchored][0].anchor}" if anchored else "the stream"
            if anchored or (stream_head and stream_head.is_stored):
                self._find(Code.MISSING_SESSION, None, f"there are no events of a session that {where} has")
        elif anchored > last_seq:
            head = self._heads[anchored][0]
            message = (
                f"events {last_seq + 1} to {anchored} are missing at the end: anchor {head.anchor} has the session up to {anchored}"
            )
            self._find(Code.MISSING_TAIL, last_seq + 1, message, anchor=head.anchor)
        elif stream_head and stream_head.seq > last_seq and stream_head.is_stored:
            message = f"events {last_seq + 1} to {stream_head.seq} are missing at the end: the stream has had them stored"
            self._find(Code.MISSING_TAIL, last_seq + 1, message)
        elif stream_head is None and not self.is_ended:
            message = f"the session has no end after event {last_seq}, and does not go on"
            self._find(Code.MISSING_END, last_seq + 1, message)
        if stream_head and stream_head.seq > last_seq and not stream_head.is_stored:
            message = f"events {last_seq + 1} to {stream_head.seq} are recorded and on their way to ClickHouse"
            self._find(Code.NOT_STORED_YET, last_seq + 1, message, is_notice=True)

    def _expired(self, last: int) -> bool:
        """Whether an old anchor shows that the events up to this one are so old that the retention may have removed them."""
        is_expired = any(head.seq >= last and head.at <= self._expired_at for heads in self._heads.values() for head in heads)
        if is_expired:
            message = f"events up to {last} are so old that the retention has removed them"
            self._find(Code.EXPIRED, 1, message, is_notice=True)
        return is_expired

    def _missing(self, first: int, last: int) -> None:
        if last >= first:
            what = f"event {first} is" if first == last else f"events {first} to {last} are"
            self._find(Code.MISSING_EVENT, first, f"{what} missing")

    def _altered(self, seq: int) -> None:
        message = f"event {seq} does not continue event {seq - 1}: it was altered, or that one and its chain were"
        self._find(Code.ALTERED_EVENT, seq, message)

    def _find(self, code: Code, seq: int | None, message: str, *, anchor: int | None = None, is_notice: bool = False) -> None:
        self.findings.add(Finding(code, message, self._session_id, seq, anchor, is_notice))


class _Signed(Struct):
    key_id: str = ""


_ENDED: Final = str(SessionEnded.__struct_config__.tag)
_signed = msgspec.json.Decoder(_Signed)


def _key_id(event: Recorded) -> str:
    try:
        return _signed.decode(event.attrs).key_id
    except msgspec.MsgspecError:
        return ""
