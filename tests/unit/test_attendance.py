"""The driver that is furthest ahead paces the output; observers never do."""

from contracts.events import Role
from services.ssh_worker.attendance import CREDIT_BYTES_MAX, SILENCE_SECONDS_MAX, Attendance

HALF = CREDIT_BYTES_MAX // 2


def test_without_a_driver_output_runs_on() -> None:
    attendance = Attendance()
    attendance.attach("view_o", Role.OBSERVER, seq=0, now=0)
    for seq in range(1, 100):
        attendance.produced(seq, seq * HALF)
        assert attendance.may_produce()


def test_a_driver_that_takes_nothing_stops_output_at_the_bound() -> None:
    attendance = Attendance()
    attendance.attach("view_d", Role.DRIVER, seq=0, now=0)
    attendance.produced(1, HALF)
    assert attendance.may_produce()
    attendance.produced(2, CREDIT_BYTES_MAX)
    assert not attendance.may_produce()
    attendance.credited("view_d", 1, now=1)
    assert attendance.may_produce()


def test_the_faster_of_two_drivers_sets_the_pace() -> None:
    attendance = Attendance()
    attendance.attach("view_slow", Role.DRIVER, seq=0, now=0)
    attendance.attach("view_fast", Role.DRIVER, seq=0, now=0)
    for seq in range(1, 20):
        attendance.produced(seq, seq * HALF)
        attendance.credited("view_fast", seq, now=seq)
        assert attendance.may_produce()


def test_a_driver_that_leaves_holds_up_nothing() -> None:
    attendance = Attendance()
    attendance.attach("view_d", Role.DRIVER, seq=0, now=0)
    attendance.produced(1, CREDIT_BYTES_MAX)
    assert not attendance.may_produce()
    attendance.detach("view_d")
    assert attendance.may_produce()


def test_a_driver_that_resumes_far_back_is_waited_for_until_it_has_caught_up() -> None:
    attendance = Attendance()
    for seq in range(1, 50):
        attendance.produced(seq, seq * CREDIT_BYTES_MAX)
    attendance.attach("view_d", Role.DRIVER, seq=3, now=0)
    assert not attendance.may_produce()
    attendance.credited("view_d", 49, now=1)
    assert attendance.may_produce()


def test_who_says_nothing_for_too_long_is_silent() -> None:
    attendance = Attendance()
    attendance.attach("view_a", Role.DRIVER, seq=0, now=0)
    attendance.attach("view_b", Role.OBSERVER, seq=0, now=0)
    attendance.credited("view_b", 0, now=10)
    assert attendance.silent(SILENCE_SECONDS_MAX + 1) == ["view_a"]
    assert attendance.role_of("view_a") is Role.DRIVER
    assert attendance.role_of("view_c") is None


def test_memory_stays_bounded_without_a_driver() -> None:
    attendance = Attendance()
    for seq in range(1, 10_000):
        attendance.produced(seq, seq * 10)
    assert len(attendance._frames) == 1
