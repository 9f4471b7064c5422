"""The envelope and its chain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import wire
from contracts.events import OutputProduced
from contracts.wire import GENESIS, Recorded, UndecodableError
from tests.unit.examples import record

bytes_ = st.binary(max_size=200)


@given(data=bytes_, attrs=bytes_, seq=st.integers(0, 2**53), at=st.integers(0, 2**60), type_=st.text(max_size=20), chain=bytes_)
def test_any_envelope_survives_the_wire(data: bytes, attrs: bytes, seq: int, at: int, type_: str, chain: bytes) -> None:
    recorded = Recorded("org_a", "sess_a", seq, at, type_, attrs, data, chain)
    assert wire.decode(wire.encode(recorded)) == recorded


@given(st.binary(max_size=400))
def test_any_other_bytes_are_refused_or_an_envelope(payload: bytes) -> None:
    try:
        wire.decode(payload)
    except UndecodableError:
        pass


@given(data=bytes_, previous=st.binary(min_size=16, max_size=16))
def test_a_sealed_event_follows_its_predecessor_alone(data: bytes, previous: bytes) -> None:
    sealed = Recorded.seal(
        previous, org_id="org_a", session_id="sess_a", seq=5, at=7, event=OutputProduced(bytes_total=len(data)), data=data
    )
    assert sealed.follows(previous)
    assert not sealed.follows(bytes(reversed(previous)) if previous != previous[::-1] else b"\x01" * 15 + b"\x02")
    assert sealed.event() == OutputProduced(bytes_total=len(data))


@pytest.mark.parametrize(
    "change",
    [{"org_id": "org_b"}, {"session_id": "sess_b"}, {"seq": 9}, {"at": 1}, {"type": "input"}, {"attrs": b"{}"}, {"data": b"x"}],
    ids=lambda change: next(iter(change)),
)
def test_no_field_can_be_altered_unnoticed(change: dict[str, object]) -> None:
    third, fourth = record()[2:4]
    assert fourth.follows(third.chain)
    assert not replace(fourth, **change).follows(third.chain)


def test_an_event_of_a_later_version_is_kept_and_verified_but_not_decoded() -> None:
    sealed = record()[0]
    later = replace(sealed, type="levitated", attrs=b'{"type":"levitated","height":3}')
    passed_on = wire.decode(wire.encode(later))
    assert passed_on.attrs == later.attrs
    assert not passed_on.follows(GENESIS)
    with pytest.raises(UndecodableError):
        passed_on.event()
