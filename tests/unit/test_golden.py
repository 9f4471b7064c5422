"""What was written once is readable for ever."""

from pathlib import Path

import pytest

from contracts import wire
from tests.unit.examples import EVENTS, FIRST_AT, ORG, SESSION

GOLDEN = Path(__file__).parent.parent / "golden"


def _paths() -> list[Path]:
    return sorted(GOLDEN.glob("*.msgpack"))


def test_every_event_has_its_golden_bytes() -> None:
    kinds = {path.stem.partition("-")[2] for path in _paths()}
    assert kinds == {str(event.__struct_config__.tag) for event, _ in EVENTS}


@pytest.mark.parametrize("path", _paths(), ids=lambda path: path.stem)
def test_golden_bytes_decode_to_what_was_meant(path: Path) -> None:
    payload = path.read_bytes()
    recorded = wire.decode(payload)
    event, data = EVENTS[int(path.stem.partition("-")[0]) - 1]
    assert recorded.event() == event
    assert recorded.data == data
    assert wire.encode(recorded) == payload


def test_golden_bytes_are_one_chain() -> None:
    chain = wire.GENESIS
    for seq, path in enumerate(_paths(), start=1):
        recorded = wire.decode(path.read_bytes())
        assert recorded.seq == seq
        assert recorded.follows(chain)
        chain = recorded.chain


def write_missing() -> None:
    """Continues the chain of the files that are there, whatever their shapes would be sealed as today."""
    chain = wire.GENESIS
    for seq, (event, data) in enumerate(EVENTS, start=1):
        golden = GOLDEN / f"{seq:02}-{event.__struct_config__.tag}.msgpack"
        if not golden.exists():
            at = FIRST_AT + seq * 1000
            sealed = wire.Recorded.seal(chain, org_id=ORG, session_id=SESSION, seq=seq, at=at, event=event, data=data)
            golden.write_bytes(wire.encode(sealed))
        chain = wire.decode(golden.read_bytes()).chain


if __name__ == "__main__":
    write_missing()
