"""Services of this version and of the one before understand each other: what was said once is understood for ever."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from tests.unit.command_examples import COMMANDS, JSON

GOLDEN = Path(__file__).parent.parent / "golden" / "commands"

by_name = pytest.mark.parametrize("name", COMMANDS)


def encode(example: Struct) -> bytes:
    """As it goes over the bus."""
    return msgspec.json.encode(example) if isinstance(example, JSON) else msgspec.msgpack.encode(example)


def decode(name: str, payload: bytes, kind: Any = Any) -> Any:
    return (msgspec.json if isinstance(COMMANDS[name], JSON) else msgspec.msgpack).decode(payload, type=kind)


def golden(name: str) -> Path:
    return GOLDEN / f"{name}.{'json' if isinstance(COMMANDS[name], JSON) else 'msgpack'}"


def test_everything_has_its_golden_bytes() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {golden(name).name for name in COMMANDS}


@by_name
def test_what_the_version_before_says_is_understood(name: str) -> None:
    assert decode(name, golden(name).read_bytes(), type(COMMANDS[name])) == COMMANDS[name]


@by_name
def test_what_this_version_says_has_all_that_the_version_before_looks_for(name: str) -> None:
    """Fields may be added; one that is missing, or means something else, would be missed by a process of the version before."""
    _assert_contains(decode(name, encode(COMMANDS[name])), decode(name, golden(name).read_bytes()))


@by_name
def test_fields_of_the_version_to_come_are_passed_over(name: str) -> None:
    fields = _with_unknown_fields(decode(name, golden(name).read_bytes()))
    payload = (msgspec.json if isinstance(COMMANDS[name], JSON) else msgspec.msgpack).encode(fields)
    assert decode(name, payload, type(COMMANDS[name])) == COMMANDS[name]


def _with_unknown_fields(value: Any) -> Any:
    """With a field more in every struct, however deep it lies; `environment` is a mapping of its own."""
    if isinstance(value, list):
        return [_with_unknown_fields(each) for each in value]
    if not isinstance(value, dict):
        return value
    known = {key: each if key == "environment" else _with_unknown_fields(each) for key, each in value.items()}
    return known | {"of_the_version_to_come": {"any": [1, 2, 3]}}


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
