"""Verification of a session: whatever is done to its rows is found and named."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import keys, proof
from contracts.events import EndReason, OutputProduced, SessionEnded
from contracts.keys import PublicKey
from contracts.proof import AnchoredHead, Code, Finding, SessionCheck, StreamHead
from contracts.wire import GENESIS, Recorded
from services.runtime.signing import PublicKeys
from tests.unit.examples import EVENTS, FIRST_AT, ORG, SESSION
from tests.unit.signers import KEYS, OTHER_SIGNER, SIGNER

NO_KEYS = PublicKeys([])


def session(outputs: int = 10, *, signed: bool = True, ended: bool = True) -> list[Recorded]:
    """Claimed, then output, then the end."""
    events: list[tuple[Any, bytes]] = [EVENTS[0]]
    events += [(OutputProduced(n + 1), f"output {n}".encode()) for n in range(outputs)]
    end = SessionEnded(EndReason.EXITED, exit_status=0, key_id=SIGNER.key_id if signed else "")
    rows: list[Recorded] = []
    for event, data in events + ([(end, b"")] if ended else []):
        rows.append(
            Recorded.seal(
                rows[-1].chain if rows else GENESIS,
                org_id=ORG,
                session_id=SESSION,
                seq=len(rows) + 1,
                at=FIRST_AT + len(rows),
                event=event,
                data=data,
                sign=SIGNER.sign if event is end and signed else None,
            )
        )
    return rows


def checked(
    rows: Sequence[Recorded],
    heads: Sequence[AnchoredHead] = (),
    stream_head: StreamHead | None = None,
    known: proof.Keys = KEYS,
) -> list[Finding]:
    check = SessionCheck(SESSION, known, heads)
    for row in sorted(rows, key=lambda row: row.seq):
        check.add(row)
    return check.finish(stream_head).listed


def named(findings: Sequence[Finding]) -> list[tuple[Code, int | None]]:
    return [(finding.code, finding.seq) for finding in findings if not finding.is_notice]


def resealed(rows: Sequence[Recorded], first: int) -> list[Recorded]:
    """The chain made to fit again from number `first` on."""
    fitted = list(rows[: first - 1])
    for row in rows[first - 1 :]:
        fitted.append(replace(row, chain=row.link(fitted[-1].chain if fitted else GENESIS)))
    return fitted


def test_nothing_is_wrong_with_a_record_as_it_was_written() -> None:
    rows = session()
    assert checked(rows, [AnchoredHead(1, 4, rows[3].chain, FIRST_AT), AnchoredHead(2, 12, rows[11].chain, FIRST_AT)]) == []
    assert checked([row for row in rows for _ in range(2)]) == [], "rows may be there twice"
    assert checked(session(ended=False), stream_head=StreamHead(11, is_stored=True)) == [], "it goes on"


@given(st.integers(1, 12), st.sampled_from(["org_id", "at", "type", "attrs", "data", "chain"]))
def test_an_altered_event_is_named(seq: int, field: str) -> None:
    rows = session()
    row = rows[seq - 1]
    value = row.at + 1 if field == "at" else b"x" + getattr(row, field)[1:] if field in ("attrs", "data", "chain") else "org_x"
    rows[seq - 1] = replace(row, **{field: value})
    if rows[seq - 1] == row:
        return
    assert (Code.ALTERED_EVENT, seq) in named(checked(rows))
    assert {code for code, _ in named(checked(rows))} <= {
        Code.ALTERED_EVENT,
        Code.BAD_SIGNATURE,
        Code.UNSIGNED,
        Code.MISSING_END,
        Code.UNKNOWN_KEY,
    }
    if seq < 11:
        assert named(checked(rows)) == [(Code.ALTERED_EVENT, seq)], "and nothing else"


@given(st.data())
def test_missing_events_are_named(data: st.DataObject) -> None:
    rows = session()
    first = data.draw(st.integers(1, 11))
    last = data.draw(st.integers(first, 11))
    assert named(checked(rows[: first - 1] + rows[last:])) == [(Code.MISSING_EVENT, first)]


@given(st.data())
def test_events_in_each_others_place_are_named(data: st.DataObject) -> None:
    rows = session(20)
    one, other = sorted(data.draw(st.lists(st.integers(1, 21), min_size=2, max_size=2, unique=True)))
    rows[one - 1], rows[other - 1] = replace(rows[other - 1], seq=one), replace(rows[one - 1], seq=other)
    findings = set(named(checked(rows))) - {(Code.BAD_SIGNATURE, 22)}
    assert findings == {(Code.REORDERED_EVENT, one), (Code.REORDERED_EVENT, other)}


@given(st.data())
def test_a_renumbered_rest_is_named(data: st.DataObject) -> None:
    rows = session(20)
    seq = data.draw(st.integers(1, 19))
    count = data.draw(st.integers(1, 2))
    rest = [replace(row, seq=row.seq - count) for row in rows[seq - 1 + count :]]
    findings = named(checked(rows[: seq - 1] + rest))
    assert findings[:2] == [(Code.MISSING_EVENT, seq), (Code.REORDERED_EVENT, seq)]


def test_an_inserted_event_is_named() -> None:
    rows = session()
    forged = Recorded.seal(
        rows[3].chain, org_id=ORG, session_id=SESSION, seq=5, at=FIRST_AT, event=OutputProduced(1), data=b"forged"
    )
    found = named(checked([*rows[:4], forged, *(replace(row, seq=row.seq + 1) for row in rows[4:])]))
    assert found[0][0] in (Code.REORDERED_EVENT, Code.ALTERED_EVENT)
    assert {seq for _, seq in found} & {5, 6}


def test_different_rows_of_one_number_are_named() -> None:
    rows = session()
    forged = replace(rows[4], data=b"forged")
    for pair in ([rows[4], forged], [forged, rows[4]]):
        assert named(checked([*rows[:4], *pair, *rows[5:]])) == [(Code.CONFLICTING_EVENT, 5)]


@given(st.integers(1, 11))
def test_a_cut_tail_is_named_by_its_missing_end_by_the_stream_and_by_an_anchor(kept: int) -> None:
    rows = session()
    cut = rows[:kept]
    assert named(checked(cut)) == [(Code.MISSING_END, kept + 1)]
    assert named(checked(cut, stream_head=StreamHead(12, is_stored=True))) == [(Code.MISSING_TAIL, kept + 1)]
    assert named(checked(cut, [AnchoredHead(7, 12, rows[-1].chain, FIRST_AT)])) == [(Code.MISSING_TAIL, kept + 1)]
    [notice] = checked(cut, stream_head=StreamHead(12, is_stored=False))
    assert (notice.code, notice.is_notice) == (Code.NOT_STORED_YET, True)


def test_a_missing_session_is_named() -> None:
    assert named(checked([], [AnchoredHead(7, 12, b"", FIRST_AT)])) == [(Code.MISSING_SESSION, None)]
    assert named(checked([], stream_head=StreamHead(3, is_stored=True))) == [(Code.MISSING_SESSION, None)]
    assert checked([]) == []


def test_a_history_made_up_anew_fits_neither_its_signature_nor_its_anchor() -> None:
    rows = session()
    forged = resealed([*rows[:4], replace(rows[4], data=b"forged"), *rows[5:]], 5)
    assert named(checked(forged)) == [(Code.BAD_SIGNATURE, 12)]
    running = resealed([*rows[:4], replace(rows[4], data=b"forged"), *rows[5:-1]], 5)
    heads = [AnchoredHead(3, 4, rows[3].chain, FIRST_AT), AnchoredHead(4, 9, rows[8].chain, FIRST_AT)]
    findings = checked(running, heads, StreamHead(11, is_stored=True))
    assert [(finding.code, finding.seq, finding.anchor) for finding in findings] == [(Code.ANCHOR_MISMATCH, 9, 4)]
    truncated = resealed([*rows[:4], replace(rows[-1], seq=5)], 5)
    assert named(checked(truncated)) == [(Code.BAD_SIGNATURE, 5)], "the end moved forward"
    signed_by_other = replace(rows[-1], data=OTHER_SIGNER.sign(rows[-1].statement(rows[-2].chain)))
    assert named(checked(resealed([*rows[:-1], signed_by_other], 12))) == [(Code.BAD_SIGNATURE, 12)]


def test_unknown_keys_and_missing_signatures_are_told() -> None:
    assert named(checked(session(), known=NO_KEYS)) == [(Code.UNKNOWN_KEY, 12)]
    [finding] = checked(session(signed=False))
    assert (finding.code, finding.is_notice) == (Code.UNSIGNED, False)
    later = PublicKeys([PublicKey(SIGNER.key_id, SIGNER.public_key, datetime(2124, 1, 1, tzinfo=UTC))])
    for known in (NO_KEYS, later):
        [finding] = checked(session(signed=False), known=known)
        assert (finding.code, finding.is_notice) == (Code.UNSIGNED, True)


def test_a_key_under_an_id_that_is_not_its_own_is_not_believed() -> None:
    swapped = PublicKeys([PublicKey(SIGNER.key_id, OTHER_SIGNER.public_key, datetime(2024, 1, 1, tzinfo=UTC))])
    assert named(checked(session(), known=swapped)) == [(Code.UNKNOWN_KEY, 12)]
    assert keys.id_of(SIGNER.public_key) == SIGNER.key_id


def test_nothing_may_follow_the_end() -> None:
    rows = session()
    more = Recorded.seal(rows[-1].chain, org_id=ORG, session_id=SESSION, seq=13, at=FIRST_AT, event=OutputProduced(1), data=b"x")
    assert named(checked([*rows, more])) == [(Code.EVENT_AFTER_END, 13)]


def test_findings_are_bounded() -> None:
    rows = session(3 * proof.FINDINGS_MAX)
    check = SessionCheck(SESSION, KEYS)
    for row in rows:
        check.add(replace(row, chain=bytes(16)))
    findings = check.finish(None)
    assert len(findings.listed) == proof.FINDINGS_MAX
    assert findings.errors >= len(rows) - proof.SUSPECTS_MAX


@given(st.lists(st.sampled_from(range(12)), max_size=12), st.randoms())
def test_any_mixture_of_rows_is_accepted_only_when_it_is_the_whole_record(picked: list[int], randomness: Any) -> None:
    rows = session()
    kept = [rows[index] for index in picked]
    randomness.shuffle(kept)
    is_whole = len(set(picked)) == len(rows)
    assert (named(checked(kept)) == []) == (is_whole or not picked)


def test_what_the_retention_has_removed_is_not_missing() -> None:
    rows = session()
    heads = [AnchoredHead(1, 4, rows[3].chain, FIRST_AT), AnchoredHead(2, 12, rows[11].chain, FIRST_AT + 100)]

    def found(kept: Sequence[Recorded], expired_at: int) -> list[tuple[Code, bool]]:
        check = SessionCheck(SESSION, KEYS, heads, expired_at=expired_at)
        for row in kept:
            check.add(row)
        return [(finding.code, finding.is_notice) for finding in check.finish(None).listed]

    assert found(rows[4:], FIRST_AT) == [(Code.EXPIRED, True)]
    assert found(rows[5:], FIRST_AT) == [(Code.MISSING_EVENT, False)], "event 5 is not that old"
    assert found(rows[4:], FIRST_AT - 1) == [(Code.MISSING_EVENT, False)]
    assert found([*rows[4:6], *rows[7:]], FIRST_AT) == [(Code.EXPIRED, True), (Code.MISSING_EVENT, False)]
    assert found(rows[4:-1], FIRST_AT) == [(Code.EXPIRED, True), (Code.MISSING_TAIL, False)]
    assert found([], FIRST_AT + 100) == [(Code.EXPIRED, True)]
    assert found([], FIRST_AT + 99) == [(Code.MISSING_SESSION, False)]
