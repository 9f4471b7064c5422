"""Moments and cursors in queries."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.session_api.errors import RefusedError
from services.session_api.listing import decode_cursor, encode_cursor, moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01T12:00:00Z", datetime(2024, 1, 1, 12, tzinfo=UTC)),
        ("2024-01-01T12:00:00+02:00", datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))),
        ("2024-01-01T12:00:00 02:00", datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))),
        ("2024-01-01T12:00:00", datetime(2024, 1, 1, 12, tzinfo=UTC)),
        ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments_of_iso_8601(text: str, expected: datetime) -> None:
    assert moment("from", text) == expected


def test_a_bare_date_at_the_end_is_included() -> None:
    assert moment("to", "2024-01-31", end_of_day=True) == datetime(2024, 2, 1, tzinfo=UTC)
    assert moment("to", "2024-01-31T00:00:00", end_of_day=True) == datetime(2024, 1, 31, tzinfo=UTC)
    assert moment("to", None) is None


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "9" * 50])
def test_other_text_is_refused_with_the_field(text: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        moment("from", text)
    assert "from" in refusal.value.detail.fields


@given(at=st.datetimes(timezones=st.just(UTC)), id_=st.text(max_size=40))
def test_a_cursor_comes_back(at: datetime, id_: str) -> None:
    assert decode_cursor(encode_cursor((at, id_))) == (at, id_)


@given(st.text(max_size=60))
def test_any_other_cursor_is_refused(text: str) -> None:
    refused = None
    try:
        decode_cursor(text)
    except RefusedError as refusal:
        refused = refusal
    assert refused is None or refused.status == 422
