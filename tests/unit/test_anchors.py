"""Anchors: the Merkle tree, the shape on the wire, and what their verification finds."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import anchors
from contracts.access import digest
from contracts.anchor_check import AnchorCheck
from contracts.anchors import GENESIS, AccessAnchor, AccessLeaf, Anchor, Leaf
from contracts.proof import Code, Finding
from services.runtime.signing import PublicKeys
from tests.unit.examples import FIRST_AT, ORG
from tests.unit.signers import KEYS, OTHER_SIGNER, SIGNER

GOLDEN = Path(__file__).parent.parent / "golden" / "anchors"
GOLDEN_ACCESS = Path(__file__).parent.parent / "golden" / "access_anchors"


def anchor(number: int, previous: Anchor | None, sessions: int = 3, *, signed: bool = True) -> Anchor:
    leaves = tuple(Leaf(ORG, f"sess_{number}_{n}", n + 1, bytes([n]) * 16) for n in range(sessions))
    made = Anchor(
        number=number,
        at=FIRST_AT + number,
        first_stream_seq=previous.last_stream_seq + 1 if previous else 1,
        last_stream_seq=number * 10,
        leaves=leaves,
        root=anchors.root([leaf.hash() for leaf in leaves]),
        previous=previous.hash() if previous else GENESIS,
        key_id=SIGNER.key_id if signed else "",
    )
    return replace(made, signature=SIGNER.sign(made.statement())) if signed else made


def access_anchor(number: int, previous: AccessAnchor | None, entries: int = 3) -> AccessAnchor:
    first = previous.last_stream_seq + 1 if previous else 1
    places = range(first, first + entries)
    leaves = tuple(
        AccessLeaf(ORG, f"acc_{place}", place, FIRST_AT + place, digest(place, FIRST_AT + place, [b"text"])) for place in places
    )
    made = AccessAnchor(
        number=number,
        at=FIRST_AT + 1000 * number,
        first_stream_seq=first,
        last_stream_seq=places[-1],
        leaves=leaves,
        root=anchors.root([leaf.hash() for leaf in leaves]),
        previous=previous.hash() if previous else GENESIS,
        key_id=SIGNER.key_id,
    )
    return replace(made, signature=SIGNER.sign(made.statement()))


def access_chain(length: int = 5) -> list[AccessAnchor]:
    made: list[AccessAnchor] = []
    for number in range(1, length + 1):
        made.append(access_anchor(number, made[-1] if made else None, entries=number))
    return made


def chain(length: int = 5) -> list[Anchor]:
    made: list[Anchor] = []
    for number in range(1, length + 1):
        made.append(anchor(number, made[-1] if made else None, sessions=number))
    return made


def checked(given_: list[Anchor], newest: Anchor | None = None, first: int = 1, keys: PublicKeys = KEYS) -> list[Finding]:
    check = AnchorCheck(keys, first=first)
    for each in given_:
        check.add(each)
    return check.finish(newest).listed


def named(findings: list[Finding]) -> list[tuple[Code, int | None]]:
    return [(finding.code, finding.anchor) for finding in findings if not finding.is_notice]


def rfc_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word; of hashes of leaves."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + rfc_root(leaves[:k]) + rfc_root(leaves[k:])).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_the_root_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    assert anchors.root(leaves) == rfc_root(leaves)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.data())
def test_no_change_of_leaves_leaves_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    changed = data.draw(
        st.sampled_from(
            [
                [*leaves[:index], *leaves[index + 1 :]],
                [*leaves[:index], sha256(leaves[index]).digest(), *leaves[index + 1 :]],
                [*leaves[:index], leaves[index], *leaves[index:]],
                leaves[::-1],
            ]
        )
    )
    assert (anchors.root(changed) == anchors.root(leaves)) == (changed == leaves)


def test_a_node_is_no_leaf() -> None:
    left, right = Leaf(ORG, "sess_1", 1, b"").hash(), Leaf(ORG, "sess_2", 1, b"").hash()
    assert anchors.root([left, right]) not in (sha256(left + right).digest(), sha256(b"\x00" + left + right).digest())


def test_golden_bytes_decode_to_what_was_meant() -> None:
    payload = (GOLDEN / "01.msgpack").read_bytes()
    assert anchors.decode(payload) == anchor(1, None)
    assert anchors.encode(anchor(1, None)) == payload
    assert named(checked([anchors.decode(payload)])) == []


def test_golden_bytes_of_access_anchors_decode_to_what_was_meant() -> None:
    payload = (GOLDEN_ACCESS / "01.msgpack").read_bytes()
    assert anchors.decode_access(payload) == access_anchor(1, None)
    assert anchors.encode(access_anchor(1, None)) == payload
    check = AnchorCheck[AccessAnchor](KEYS)
    check.add(anchors.decode_access(payload))
    assert check.finish(None).listed == []


def test_an_anchor_of_one_chain_is_none_of_the_other() -> None:
    with pytest.raises(msgspec.MsgspecError):
        anchors.decode(anchors.encode(access_anchor(1, None)))
    with pytest.raises(msgspec.MsgspecError):
        anchors.decode_access(anchors.encode(anchor(1, None)))
    of_sessions, of_access = anchor(1, None), access_anchor(1, None)
    fields = {name: getattr(of_access, name) for name in of_access.__struct_fields__} | {"leaves": of_sessions.leaves}
    assert Anchor(**fields).statement() != of_access.statement(), "one's signature is none of the other"


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x93\x01\x02\x03", anchors.encode(anchor(1, None))[:-1]])
def test_what_is_no_anchor_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        anchors.decode(payload)


def test_the_largest_anchor_fits_into_a_message() -> None:
    leaf = Leaf("org_" + "x" * 64, "sess_" + "x" * 64, 2**63 - 1, bytes(16))
    assert len(anchors.encode(replace(anchor(1, None), leaves=(leaf,) * anchors.LEAVES_MAX))) < 1024 * 1024
    entry = AccessLeaf("org_" + "x" * 64, "acc_" + "x" * 64, 2**63 - 1, 2**63 - 1, bytes(32))
    assert len(anchors.encode(replace(access_anchor(1, None), leaves=(entry,) * anchors.LEAVES_MAX))) < 1024 * 1024


def test_nothing_is_wrong_with_anchors_as_they_were_made() -> None:
    made = chain()
    assert checked(made, made[-1]) == []
    assert checked([each for each in made for _ in range(2)], made[-1]) == []
    assert checked(made[2:], made[-1], first=3) == []


@given(st.data())
def test_missing_anchors_are_named(data: st.DataObject) -> None:
    made = chain()
    number = data.draw(st.integers(1, 5))
    assert named(checked(made[: number - 1] + made[number:], made[-1])) == [(Code.MISSING_ANCHOR, number)]


@given(
    st.integers(1, 5),
    st.sampled_from(["at", "first_stream_seq", "last_stream_seq", "root", "previous", "key_id", "signature", "leaves"]),
)
def test_an_altered_anchor_is_named(number: int, field: str) -> None:
    made = chain()
    old: Any = getattr(made[number - 1], field)
    new = {int: lambda: old + 1, bytes: lambda: bytes([old[0] ^ 1]) + old[1:], str: lambda: f"{old}x", tuple: lambda: old[:-1]}
    made[number - 1] = replace(made[number - 1], **{field: new[type(old)]()})
    findings = named(checked(made))
    assert findings
    assert {anchor for _, anchor in findings} <= {number, number + 1}


def test_anchors_made_up_anew_fit_neither_the_key_nor_the_stream() -> None:
    made = chain()
    forged = [made[0]]
    for number in range(2, 6):
        other = replace(anchor(number, forged[-1], sessions=1), signature=b"")
        forged.append(replace(other, signature=OTHER_SIGNER.sign(other.statement())))
    assert named(checked(forged)) == [(Code.BAD_SIGNATURE, number) for number in range(2, 6)]
    unsigned = [anchor(1, None, signed=False)]
    assert named(checked(unsigned)) == [(Code.UNSIGNED, 1)]
    assert named(checked(unsigned, keys=PublicKeys([]))) == []
    assert named(checked(made, keys=PublicKeys([])))[0] == (Code.UNKNOWN_KEY, 1)
    assert named(checked(forged, made[-1]))[-1] == (Code.ALTERED_ANCHOR, 5)
    assert (Code.ALTERED_ANCHOR, 3) in named(checked([*made[:3], replace(made[2], leaves=()), *made[3:]]))
