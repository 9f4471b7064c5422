"""The shape of access entries: what was written once is readable for ever."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import access
from contracts.access import DETAIL_CHARACTERS_MAX, HOST_ROLE, Access, Action, Reader
from contracts.directory import UserRole
from tests.unit.examples import FIRST_AT, JOHN, ORG, SESSION

GOLDEN = Path(__file__).parent.parent / "golden" / "access"

EXAMPLE = Access(
    id="acc_1",
    at=FIRST_AT,
    org_id=ORG,
    user=Reader.of(JOHN),
    role=UserRole.OPERATOR.value,
    action=Action.LOGS.value,
    session_id=SESSION,
    detail='{"format": "text"}',
    ip_address="192.168.1.50",
    user_agent="Mozilla/5.0",
)

OF_A_HOST = msgspec.structs.replace(
    EXAMPLE,
    id="acc_2",
    user=Reader("os:alice", "Alice A.", ""),
    role=HOST_ROLE,
    action=Action.EXPORT.value,
    session_id="",
    detail='{"views": "events", "login": "bob"}',
    ip_address="host:gateway-1",
    user_agent="vsay/0.1.0",
)


@pytest.mark.parametrize(("name", "entry"), [("01", EXAMPLE), ("02", OF_A_HOST)], ids=["through the API", "on a host"])
def test_golden_bytes_decode_to_what_was_meant(name: str, entry: Access) -> None:
    payload = (GOLDEN / f"{name}.msgpack").read_bytes()
    assert access.decode(payload) == entry
    assert access.encode(entry) == payload


def test_the_digest_of_an_entry_is_what_it_was_first() -> None:
    digests = [access.digest(place, entry.at, entry.texts()).hex() for place, entry in enumerate((EXAMPLE, OF_A_HOST), start=1)]
    assert digests == [
        "6591a838f3e4a44faca8fbfe691b6172f4130995ebc37253005dbd79362c3834",
        "2a91124fe6028351b5e8e65ec191cb0ac972b62eb69bedd976fe307e9cef91a0",
    ]


@pytest.mark.parametrize("id_", ["os:", "os:a b", "alice", "usr_a:b", "os_alice"])
def test_who_is_neither_of_the_directory_nor_of_a_host_is_refused(id_: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        access.decode(access.encode(msgspec.structs.replace(OF_A_HOST, user=Reader(id_, "Alice", ""))))


@given(st.text(max_size=50), st.text(max_size=50), st.sampled_from(UserRole), st.integers(0, 2**62))
def test_what_is_encoded_is_decoded(session_id: str, user_agent: str, role: UserRole, at: int) -> None:
    entry = msgspec.structs.replace(EXAMPLE, session_id=session_id, user_agent=user_agent, role=role.value, at=at)
    assert access.decode(access.encode(entry)) == entry


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x90", access.encode(EXAMPLE)[:-1]])
def test_what_is_no_entry_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        access.decode(payload)


def test_an_overlong_detail_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        access.decode(access.encode(msgspec.structs.replace(EXAMPLE, detail="x" * (DETAIL_CHARACTERS_MAX + 1))))
