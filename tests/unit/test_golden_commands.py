"""Services of this version and of the one before understand each other: what was said once is understood for ever."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from contracts.live import LiveSession
from tests.unit.command_examples import COMMANDS

GOLDEN = Path(__file__).parent.parent / "golden" / "commands"

by_name = pytest.mark.parametrize("name", COMMANDS)


def encode(example: Struct) -> bytes:
    """As it goes over the bus."""
    return msgspec.json.encode(example) if isinstance(example, LiveSession) else msgspec.msgpack.encode(example)


def decode(payload: bytes, kind: Any) -> Any:
    return msgspec.json.decode(payload, type=kind) if kind is LiveSession else msgspec.msgpack.decode(payload, type=kind)


def golden(name: str) -> Path:
    return GOLDEN / f"{name}.{'json' if isinstance(COMMANDS[name], LiveSession) else 'msgpack'}"


def test_everything_has_its_golden_bytes() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {golden(name).name for name in COMMANDS}


@by_name
def test_what_the_version_before_says_is_understood(name: str) -> None:
    assert decode(golden(name).read_bytes(), type(COMMANDS[name])) == COMMANDS[name]


@by_name
def test_what_this_version_says_has_all_that_the_version_before_looks_for(name: str) -> None:
    """Fields may be added; one that is missing, or means something else, would be missed by a process of the version before."""
    before, now = (
        msgspec.json.decode(payload) if isinstance(COMMANDS[name], LiveSession) else msgspec.msgpack.decode(payload)
        for payload in (golden(name).read_bytes(), encode(COMMANDS[name]))
    )
    _assert_contains(now, before)


@by_name
def test_a_field_of_the_version_to_come_is_passed_over(name: str) -> None:
    is_json = isinstance(COMMANDS[name], LiveSession)
    fields = msgspec.json.decode(golden(name).read_bytes()) if is_json else msgspec.msgpack.decode(golden(name).read_bytes())
    fields["of_the_version_to_come"] = {"any": [1, 2, 3]}
    payload = msgspec.json.encode(fields) if is_json else msgspec.msgpack.encode(fields)
    assert decode(payload, type(COMMANDS[name])) == COMMANDS[name]


def _assert_contains(now: Any, before: Any) -> None:
    if isinstance(before, dict):
        for key, value in before.items():
            assert key in now, key
            _assert_contains(now[key], value)
    elif isinstance(before, list):
        assert len(now) == len(before)
        for left, right in zip(now, before, strict=True):
            _assert_contains(left, right)
    else:
        assert now == before


if __name__ == "__main__":
    for each in COMMANDS:
        if not golden(each).exists():
            golden(each).write_bytes(encode(COMMANDS[each]))
