"""When keyframes are due."""

from services.ssh_worker.keyframes import KEYFRAME_CELLS_MAX, KEYFRAME_OUTPUT_BYTES, KEYFRAME_OUTPUTS, Keyframes


def test_one_is_due_after_much_output_and_after_many_outputs() -> None:
    frames = Keyframes()
    half = KEYFRAME_OUTPUT_BYTES // 2
    assert [frames.is_due(half, 80, 24) for _ in range(6)] == [False, True, False, True, False, True]
    assert [frames.is_due(1, 80, 24) for _ in range(2 * KEYFRAME_OUTPUTS)].count(True) == 2


def test_none_of_a_huge_terminal() -> None:
    frames = Keyframes()
    assert not frames.is_due(KEYFRAME_OUTPUT_BYTES, 1000, KEYFRAME_CELLS_MAX // 1000 + 1)
    assert frames.is_due(KEYFRAME_OUTPUT_BYTES, 80, 24)
