"""The shape of access entries: what was written once is readable for ever."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import access
from contracts.access import DETAIL_CHARACTERS_MAX, Access, Action
from contracts.directory import UserRole
from tests.unit.examples import FIRST_AT, JOHN, ORG, SESSION

GOLDEN = Path(__file__).parent.parent / "golden" / "access"

EXAMPLE = Access(
    id="acc_1",
    at=FIRST_AT,
    org_id=ORG,
    user=JOHN,
    role=UserRole.OPERATOR,
    action=Action.LOGS.value,
    session_id=SESSION,
    detail='{"format": "text"}',
    ip_address="192.168.1.50",
    user_agent="Mozilla/5.0",
)


def test_golden_bytes_decode_to_what_was_meant() -> None:
    payload = (GOLDEN / "01.msgpack").read_bytes()
    assert access.decode(payload) == EXAMPLE
    assert access.encode(EXAMPLE) == payload


@given(st.text(max_size=50), st.text(max_size=50), st.sampled_from(UserRole), st.integers(0, 2**62))
def test_what_is_encoded_is_decoded(session_id: str, user_agent: str, role: UserRole, at: int) -> None:
    entry = msgspec.structs.replace(EXAMPLE, session_id=session_id, user_agent=user_agent, role=role, at=at)
    assert access.decode(access.encode(entry)) == entry


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x90", access.encode(EXAMPLE)[:-1]])
def test_what_is_no_entry_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        access.decode(payload)


def test_an_overlong_detail_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        access.decode(access.encode(msgspec.structs.replace(EXAMPLE, detail="x" * (DETAIL_CHARACTERS_MAX + 1))))
