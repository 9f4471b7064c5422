"""No token reaches beyond its own subject."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import subjects
from contracts.subjects import Request, UnsafeTokenError


@given(st.text())
def test_a_subject_has_exactly_its_tokens_or_is_refused(session_id: str) -> None:
    try:
        subject = subjects.event(session_id, "output")
    except UnsafeTokenError:
        return
    assert subject.split(".") == ["session", session_id, "output"]
    assert not set(subject) & set("*> \t\r\n\0")


@pytest.mark.parametrize("token", ["", "*", ">", "a.b", "a b", "sess_\n", "ä", "a" * 81])
def test_unsafe_tokens_are_refused_everywhere(token: str) -> None:
    for build in (subjects.events_of, subjects.live_events_of, subjects.requests_of):
        with pytest.raises(UnsafeTokenError):
            build(token)
    with pytest.raises(UnsafeTokenError):
        subjects.event("sess_1", token)


@pytest.mark.parametrize("request_", list(Request))
def test_a_request_is_found_again_in_its_subject(request_: Request) -> None:
    assert subjects.request_of(subjects.request("sess_1", request_)) is request_


def test_another_subject_is_no_request() -> None:
    with pytest.raises(ValueError, match="reboot"):
        subjects.request_of("ssh.sess_1.reboot")
