"""Another verifier, written from docs/verification.md with nothing of ours, and that it agrees with ours."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from contracts import keys
from contracts.access import digest
from contracts.access_check import Coverage, EntryCheck, EntryRow, KnownEntry
from contracts.anchor_check import AnchorCheck
from contracts.anchors import GENESIS, AccessAnchor, AccessLeaf, Anchor, root
from contracts.proof import SessionCheck
from contracts.wire import Recorded
from tests.unit.signers import KEYS, OTHER_SIGNER, PUBLIC_KEY, SIGNER
from tests.unit.test_access import EXAMPLE
from tests.unit.test_anchors import access_chain, chain
from tests.unit.test_proof import resealed, session

# Begin of the other verifier: rows as tuples of numbers, text and bytes, as ClickHouse gives them.

pack = msgspec.msgpack.encode

Row = tuple[Any, ...]


def is_signed(exported_keys: bytes, key_id: str, statement: bytes, signature: bytes) -> bool:
    for key in json.loads(exported_keys):
        public = base64.b64decode(key["public_key"])
        if key["id"] == key_id == "key_" + hashlib.sha256(public).hexdigest()[:32]:
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(signature, statement)
            except InvalidSignature:
                return False
            return True
    return False


def session_is_whole(rows: Sequence[Row], exported_keys: bytes) -> bool:
    """Of a session that has ended."""
    before, chain_ = b"", bytes(16)
    last: Row = ()
    for number, row in enumerate(sorted(set(rows), key=lambda row: row[2]), start=1):
        org_id, session_id, seq, at, type_, attrs, data, row_chain = row
        if seq != number or (last and last[4] == "ended"):
            return False
        before = chain_
        chain_ = hashlib.blake2b(before + pack([org_id, session_id, seq, at, type_, attrs, data]), digest_size=16).digest()
        if row_chain != chain_:
            return False
        last = row
    if not last or last[4] != "ended":
        return False
    org_id, session_id, seq, at, type_, attrs, signature, _ = last
    statement = b"vsay session end 1\n" + before + pack([org_id, session_id, seq, at, "ended", attrs])
    return is_signed(exported_keys, json.loads(attrs).get("key_id", ""), statement, signature)


def tree(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree(hashes[:split]) + tree(hashes[split:])).digest()


def anchors_are_whole(rows: Sequence[Row], exported_keys: bytes, context: bytes = b"vsay anchor 1\n") -> bool:
    expected = bytes(32)
    for number, row in enumerate(rows, start=1):
        row_number, at, first, last, leaves, root, previous, key_id, signature = row
        hashes = [hashlib.sha256(b"\x00" + pack(list(leaf))).digest() for leaf in leaves]
        if row_number != number or previous != expected or tree(hashes) != root:
            return False
        statement = context + pack([number, at, first, last, len(leaves), root, previous, key_id])
        if not is_signed(exported_keys, key_id, statement, signature):
            return False
        expected = hashlib.sha256(statement).digest()
    return True


def access_entries_are_whole(rows: Sequence[Row], anchors: Sequence[Row], exported_keys: bytes) -> bool:
    """Of a table that anchors are over from its first entry to its last; texts as bytes."""
    leaves = [leaf for anchor in anchors for leaf in anchor[4]]
    digests = {hashlib.sha256(pack(list(row))).digest() for row in rows}
    return anchors_are_whole(anchors, exported_keys, b"vsay access anchor 1\n") and digests == {leaf[4] for leaf in leaves}


# End of the other verifier.

EXPORTED = keys.encode([PUBLIC_KEY])


def agree(rows: list[Recorded]) -> bool:
    """Both say the same, which is returned."""
    check = SessionCheck(rows[0].session_id if rows else "", KEYS)
    for row in sorted(rows, key=lambda row: row.seq):
        check.add(row)
    ours = check.finish(None).errors == 0
    assert session_is_whole([astuple(row) for row in rows], EXPORTED) == ours
    return ours


def test_both_find_nothing_wrong_with_what_is_whole() -> None:
    assert agree(session())
    assert agree([*session(), *session()])


@given(st.data())
def test_both_find_the_same_sessions_wrong(data: st.DataObject) -> None:
    rows = session()
    index = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(st.integers(0, len(rows) - 1))
    match data.draw(st.sampled_from(["alter", "remove", "swap", "cut", "double", "rewrite", "resign"])):
        case "alter":
            rows[index] = replace(rows[index], at=rows[index].at + data.draw(st.integers(0, 1)))
        case "remove":
            del rows[index]
        case "swap":
            rows[index], rows[other] = (
                replace(rows[other], seq=rows[index].seq),
                replace(rows[index], seq=rows[other].seq),
            )
        case "cut":
            rows = rows[: max(index, 1)]
        case "double":
            rows.append(data.draw(st.sampled_from([rows[index], replace(rows[index], data=b"x")])))
        case "rewrite":
            rows = resealed([*rows[:index], replace(rows[index], at=0), *rows[index + 1 :]], index + 1)
        case "resign":
            signer = data.draw(st.sampled_from([SIGNER, OTHER_SIGNER]))
            end = replace(rows[-1], data=signer.sign(rows[-1].statement(rows[-2].chain)))
            rows[-1] = replace(end, chain=end.link(rows[-2].chain))
    agree(rows)


@given(st.data())
def test_both_find_the_same_anchors_wrong(data: st.DataObject) -> None:
    made = chain()
    index = data.draw(st.integers(0, len(made) - 1))
    field = data.draw(st.sampled_from(["number", "at", "first_stream_seq", "last_stream_seq"]))
    match data.draw(st.sampled_from(["alter", "remove", "leaf", "leave"])):
        case "alter":
            made[index] = replace(made[index], **{field: getattr(made[index], field) + 1})
        case "remove":
            del made[index]
        case "leaf":
            leaf = made[index].leaves[0]
            made[index] = replace(made[index], leaves=(replace(leaf, seq=leaf.seq + 1), *made[index].leaves[1:]))
        case _:
            pass
    check = AnchorCheck(KEYS)
    for anchor in made:
        check.add(anchor)
    ours = check.finish(chain()[-1]).errors == 0
    theirs = anchors_are_whole([_row(anchor) for anchor in made], EXPORTED)
    assert theirs == ours or (theirs and len(made) < len(chain())), "only the stream shows that the last anchor is missing"


@given(st.data())
def test_both_find_the_same_access_entries_wrong(data: st.DataObject) -> None:
    rows = [(place, entry.at + place, *replace(entry, id=f"acc_{place}").texts()) for place in range(1, 8) for entry in (EXAMPLE,)]
    anchors = _over(rows, (3, 1, 3))
    index, other = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["alter", "remove", "add", "swap", "double", "leave"])):
        case "alter":
            column = data.draw(st.integers(1, len(rows[0]) - 1))
            value = rows[index][column]
            altered = value + 1 if isinstance(value, int) else value + b"\xff"
            rows[index] = (*rows[index][:column], altered, *rows[index][column + 1 :])
        case "remove":
            del rows[index]
        case "add":
            rows.append((data.draw(st.integers(0, 9)), *rows[index][1:]))
        case "swap":
            rows[index], rows[other] = (rows[index][0], *rows[other][1:]), (rows[other][0], *rows[index][1:])
        case "double":
            rows.append(rows[index])
        case _:
            pass
    check = EntryCheck(Coverage(since=EXAMPLE.at))
    known = [KnownEntry(leaf.stream_seq, leaf.id, leaf.at, leaf.digest, made.number) for made in anchors for leaf in made.leaves]
    for place in sorted({row[0] for row in rows} | {entry.stream_seq for entry in known}):
        there = [EntryRow(row[0], row[2].decode(errors="replace"), row[1], digest(row[0], row[1], row[2:])) for row in rows]
        left = check.place(
            [row for row in there if row.stream_seq == place], [entry for entry in known if entry.stream_seq == place]
        )
        for entry in left.missing:
            check.missing(entry)
        for row in left.rows:
            check.added(row)
    check.finish()
    assert access_entries_are_whole(rows, [_row(made) for made in anchors], EXPORTED) == (check.errors == 0)


def _over(rows: Sequence[Row], numbers: Sequence[int]) -> list[AccessAnchor]:
    """Anchors, each over so many of the rows."""
    made: list[AccessAnchor] = []
    for model, count in zip(access_chain(len(numbers)), numbers, strict=True):
        first = made[-1].last_stream_seq + 1 if made else 1
        its = rows[first - 1 : first - 1 + count]
        leaves = tuple(AccessLeaf(EXAMPLE.org_id, row[2].decode(), row[0], row[1], digest(row[0], row[1], row[2:])) for row in its)
        anchor = replace(
            model,
            first_stream_seq=first,
            last_stream_seq=first + count - 1,
            leaves=leaves,
            root=root([leaf.hash() for leaf in leaves]),
            previous=made[-1].hash() if made else GENESIS,
        )
        made.append(replace(anchor, signature=SIGNER.sign(anchor.statement())))
    return made


def _row(anchor: Anchor | AccessAnchor) -> Row:
    return astuple(replace(anchor, leaves=tuple(astuple(leaf) for leaf in anchor.leaves)))
