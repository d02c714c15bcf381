import cv2
import numpy as np

from stream_enhance.stages.fuse import THUMB, TrackMemory, change_of, shift_of, thumb_of

RNG = np.random.default_rng(2)
FACE = cv2.resize(RNG.integers(60, 190, (9, 9, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)


def seen(noise: float = 12.0, face: np.ndarray = FACE) -> np.ndarray:
    return np.clip(face + RNG.normal(0, noise, face.shape), 0, 255).astype(np.uint8)


def error(image: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - FACE).mean())


def test_the_mean_of_inputs_has_less_noise_than_one() -> None:
    memory = TrackMemory.of(seen(), 0.0)
    for i in range(1, 20):
        memory.add(seen(), i / 25)
    assert error(memory.fused()) < 0.6 * error(seen())


def test_what_changes_takes_the_place_of_the_mean_at_once() -> None:
    memory = TrackMemory.of(seen(3), 0.0)
    for i in range(1, 10):
        memory.add(seen(3), i / 25)
    opened = FACE.copy()
    opened[44:56, 20:44] = 20  # a mouth that opens
    change = memory.add(seen(3, opened), 0.4)
    assert change is not None
    assert np.abs(memory.fused()[47:53, 26:38].astype(int) - 20).mean() < 8
    assert change[5, 5] < 0.2
    assert change[25, 16] > 0.8


def test_another_face_or_light_begins_anew() -> None:
    memory = TrackMemory.of(seen(), 0.0)
    memory.mix(seen(), None)
    assert memory.add(255 - seen(), 0.04) is None
    assert memory.count == 1
    assert not memory.still_holds(255, 10)


def test_a_gap_ends_a_memory() -> None:
    memory = TrackMemory.of(seen(), 10.0)
    assert memory.goes_on(10.3)
    assert not memory.goes_on(11.0)
    assert not memory.goes_on(9.0), "a clock that was set back"


def test_results_are_mixed_with_those_before_where_nothing_changed() -> None:
    memory = TrackMemory.of(seen(), 0.0)
    memory.mix(np.full((64, 64, 3), 100, np.uint8), None)
    change = np.zeros((THUMB, THUMB), np.float32)
    change[:, THUMB // 2 :] = 1
    memory.mix(np.full((64, 64, 3), 140, np.uint8), change)
    assert memory.result is not None
    assert abs(int(memory.result[30, 5, 0]) - 120) <= 1
    assert memory.result[30, 60, 0] == 140


def test_a_shift_is_found_and_one_too_far_is_not_believed() -> None:
    wide = cv2.resize(RNG.integers(0, 255, (12, 12), np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    before, after = wide[20 : 20 + THUMB, 20 : 20 + THUMB], wide[19 : 19 + THUMB, 18 : 18 + THUMB]
    assert np.allclose(shift_of(before, after), [1.8, 0.9], atol=0.2)
    assert np.abs(shift_of(before, RNG.integers(0, 255, (THUMB, THUMB), np.uint8))).max() <= 3


def test_noise_is_no_change() -> None:
    assert float(change_of(thumb_of(seen()), thumb_of(seen())).mean()) < 0.25  # type: ignore[union-attr]
