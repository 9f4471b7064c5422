"""Verification of access entries: what lies in ClickHouse against what anchors and stream ACCESS say, place by place.

Pure; the caller gives it one place of the stream after the other. `docs/verification.md` defines the format and every code.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from contracts.proof import FINDINGS_MAX

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EntryCode(StrEnum):
    """What can be wrong with access entries. Stable."""

    ALTERED_ENTRY = "altered_entry"
    MISSING_ENTRY = "missing_entry"
    ADDED_ENTRY = "added_entry"
    SET_ASIDE = "set_aside"
    NOT_COVERED = "not_covered"


class EntryFinding(Struct, frozen=True):
    """`stream_seq` is a place in stream ACCESS, `at` microseconds since the epoch, UTC; `anchor` is the one that says so."""

    code: EntryCode
    message: str
    stream_seq: int | None = None
    id: str = ""
    at: int = 0
    anchor: int | None = None
    is_notice: bool = False


class EntryRow(Struct, frozen=True):
    """A row of table `access_entries`; `digest` is `contracts.access.digest` of it as it is."""

    stream_seq: int
    id: str
    at: int
    digest: bytes


class KnownEntry(Struct, frozen=True):
    """What there is to be in ClickHouse: as an anchor says, or stream ACCESS, which `anchor` None stands for.

    `is_due`: ClickHouse must have it, for it was acknowledged.
    """

    stream_seq: int
    id: str
    at: int
    digest: bytes
    anchor: int | None = None
    is_due: bool = True


class Gap(Struct, frozen=True):
    """Places that no anchor is over. What stood there was recorded `before` this time, which is that of the next anchor."""

    first: int
    last: int
    before: int


class Coverage(Struct, frozen=True):
    """What anchors are over. `since`: when the first entry of the first anchor was made; None where there is no anchor."""

    since: int | None
    gaps: Sequence[Gap] = ()

    def lacks(self, row: EntryRow) -> bool:
        """Whether an entry at this place and of this time may have been recorded without an anchor ever being over it."""
        if self.since is None or row.at < self.since:
            return True
        return any(gap.first <= row.stream_seq <= gap.last and row.at < gap.before for gap in self.gaps)


class Unexplained(Struct, frozen=True):
    """Of one place: what is known and not there, and rows that nothing known explains.

    The caller looks further, then calls `missing`, `set_aside`, `added` or `waiting` of each.
    """

    missing: Sequence[KnownEntry]
    rows: Sequence[EntryRow]


class EntryCheck:
    """Call `place` for each place, then `finish`."""

    def __init__(self, coverage: Coverage) -> None:
        self.findings: list[EntryFinding] = []
        self.errors = 0
        self.entries = 0
        self.anchored = 0
        self.unanchored = 0
        """Not under an anchor yet, but in the stream, and as it is there."""
        self.not_covered = 0
        self._coverage = coverage
        self._not_covered_until = 0

    @property
    def is_full(self) -> bool:
        """Whether further findings are only counted, so that looking further is not worth it."""
        return len(self.findings) >= FINDINGS_MAX

    def place(self, rows: Iterable[EntryRow], known: Iterable[KnownEntry]) -> Unexplained:
        """All rows and all that is known of one place."""
        there = {row.digest: row for row in rows}
        self.entries += len(there)
        wanted: dict[bytes, KnownEntry] = {}
        for entry in known:  # an anchor's word, where there is one, before the stream's
            if entry.digest not in wanted or wanted[entry.digest].anchor is None:
                wanted[entry.digest] = entry
        ids = {row.id for row in there.values()}
        for digest in there.keys() & wanted.keys():
            del there[digest]
            if wanted.pop(digest).anchor is None:
                self.unanchored += 1
            else:
                self.anchored += 1
        lacking, left = [entry for entry in wanted.values() if entry.is_due], list(there.values())
        for entry in [entry for entry in lacking if entry.id in ids]:
            self._altered(entry, lacking, [row for row in left if row.id == entry.id], left)
        left = [row for row in left if not self._is_not_covered(row)]
        for entry in lacking[: len(left)]:
            self._altered(entry, lacking, left, left)
        return Unexplained(lacking, left)

    def missing(self, entry: KnownEntry) -> None:
        """It is nowhere."""
        self._find(EntryCode.MISSING_ENTRY, f"{_named(entry)} is missing: {_source(entry)} has it", entry)

    def set_aside(self, entry: KnownEntry) -> None:
        """It lies in table `quarantine`, as it was recorded."""
        message = f"{_named(entry)} is in table quarantine, as {_source(entry)} has it: ClickHouse refused it"
        self._find(EntryCode.SET_ASIDE, message, entry, is_notice=True)

    def waiting(self, _: EntryRow) -> None:
        """The stream has it, and no anchor yet."""
        self.unanchored += 1

    def added(self, row: EntryRow) -> None:
        """Neither an anchor nor the stream has it."""
        message = f"{_named(row)} was added: neither an anchor has it nor stream ACCESS"
        self._find(EntryCode.ADDED_ENTRY, message, row)

    def finish(self) -> None:
        """When all places are given."""
        if self.not_covered:
            message = (
                f"no anchor ever was over {self.not_covered} entries, the newest of {_moment(self._not_covered_until)}: "
                "whether they were altered, removed or added cannot be told"
            )
            self.findings.append(EntryFinding(EntryCode.NOT_COVERED, message, is_notice=True))

    def _altered(self, entry: KnownEntry, lacking: list[KnownEntry], rows: list[EntryRow], left: list[EntryRow]) -> None:
        """The first of `rows`, if there are any, is what became of the entry; both are explained with that."""
        instead = ""
        if rows:
            instead = "" if rows[0].id == entry.id else f", and stands there as {rows[0].id[:80]!r}"
            left.remove(rows[0])
        lacking.remove(entry)
        self._find(EntryCode.ALTERED_ENTRY, f"{_named(entry)} is not as {_source(entry)} has it{instead}", entry)

    def _is_not_covered(self, row: EntryRow) -> bool:
        is_lacking = self._coverage.lacks(row)
        if is_lacking:
            self.not_covered += 1
            self._not_covered_until = max(self._not_covered_until, row.at)
        return is_lacking

    def _find(self, code: EntryCode, message: str, about: EntryRow | KnownEntry, *, is_notice: bool = False) -> None:
        self.errors += not is_notice
        if not self.is_full:
            anchor = about.anchor if isinstance(about, KnownEntry) else None
            self.findings.append(EntryFinding(code, message, about.stream_seq, about.id, about.at, anchor, is_notice))


def _named(entry: EntryRow | KnownEntry) -> str:
    return f"the entry {entry.id[:80]} of {_moment(entry.at)}"


def _source(entry: KnownEntry) -> str:
    return "stream ACCESS" if entry.anchor is None else f"anchor {entry.anchor}"


def _moment(at: int) -> str:
    try:
        return (EPOCH + timedelta(microseconds=at)).isoformat()
    except OverflowError:
        return f"{at} µs"
