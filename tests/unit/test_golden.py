"""What was written once is readable for ever."""

from pathlib import Path

import pytest

from contracts import wire
from tests.unit.examples import EVENTS, record

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


if __name__ == "__main__":
    last = wire.GENESIS
    for each, (event, data) in zip(record(), EVENTS, strict=True):
        golden = GOLDEN / f"{each.seq:02}-{each.type}.msgpack"
        if not golden.exists():
            sealed = wire.Recorded.seal(
                last, org_id=each.org_id, session_id=each.session_id, seq=each.seq, at=each.at, event=event, data=data
            )
            golden.write_bytes(wire.encode(sealed))
        last = wire.decode(golden.read_bytes()).chain
