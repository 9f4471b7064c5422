"""Several worker processes as one."""

from hypothesis import given
from hypothesis import strategies as st

from services.ssh_worker.processes import share


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_places_are_shared_out_evenly_and_wholly(places: int, processes: int) -> None:
    shares = [share(places, processes, number) for number in range(1, processes + 1)]
    assert sum(shares) == places
    assert max(shares) - min(shares) <= 1
