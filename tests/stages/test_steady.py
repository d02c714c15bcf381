import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.stages.steady import THUMB, Motion, TrackMemory, motion_of, thumb_of

RNG = np.random.default_rng(2)
FACE = np.asarray(
    cv2.resize(RNG.integers(60, 190, (9, 9, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC), np.uint8
)


def seen(noise: float = 12.0, face: NDArray[np.uint8] = FACE) -> NDArray[np.uint8]:
    return np.asarray(np.clip(face + RNG.normal(0, noise, face.shape), 0, 255), np.uint8)


def test_a_mouth_that_opens_is_a_change_and_the_rest_is_none() -> None:
    memory = TrackMemory.of(seen(3), 0.0)
    opened = FACE.copy()
    opened[44:56, 20:44] = 20
    motion = memory.add(seen(3, opened), 0.04)
    assert motion is not None
    assert motion.change[10, 10] < 0.2
    assert motion.change[50, 32] > 0.8


def test_another_face_or_light_starts_over() -> None:
    memory = TrackMemory.of(seen(), 0.0)
    memory.mix(seen(), None)
    memory.given()
    assert memory.still_holds(1, 10)
    assert memory.add(FACE // 5, 0.04) is None
    assert not memory.still_holds(255, 10)


def test_a_gap_ends_a_memory() -> None:
    memory = TrackMemory.of(seen(), 10.0)
    assert memory.goes_on(10.3)
    assert not memory.goes_on(11.0)
    assert not memory.goes_on(9.0), "a clock that was set back"


STILL = np.zeros((THUMB, THUMB, 2), np.float32)


def test_results_are_mixed_with_those_before_where_nothing_changed() -> None:
    memory = TrackMemory.of(seen(), 0.0)
    memory.mix(np.full((64, 64, 3), 100, np.uint8), None)
    change = np.zeros((THUMB, THUMB), np.float32)
    change[:, 32:] = 1
    memory.mix(np.full((64, 64, 3), 140, np.uint8), Motion(STILL, change))
    assert memory.result is not None
    assert abs(int(memory.result[30, 5, 0]) - 120) <= 1
    assert memory.result[30, 60, 0] == 140


def test_a_result_that_is_used_again_is_carried_to_where_the_face_went() -> None:
    memory = TrackMemory.of(FACE, 0.0)
    memory.mix(FACE, None)
    moved = np.roll(FACE, 3, axis=1)
    memory.mix(None, memory.add(moved, 0.04))
    assert memory.result is not None
    inner = np.s_[10:54, 10:54]
    assert (
        np.abs(memory.result[inner].astype(int) - moved[inner]).mean()
        < 0.4 * np.abs(FACE[inner].astype(int) - moved[inner]).mean()
    )


def test_noise_is_no_change_and_flow_finds_the_motion() -> None:
    still = motion_of(thumb_of(seen()), thumb_of(seen()))
    assert still is not None
    assert float(still.change.mean()) < 0.25
    moved = motion_of(thumb_of(FACE), thumb_of(np.roll(FACE, 2, axis=1)))
    assert moved is not None
    assert np.allclose(np.median(moved.flow, axis=(0, 1)), [-2, 0], atol=0.4)


def test_strength_is_eased() -> None:
    memory = TrackMemory.of(seen(), 0.0)
    values = [memory.eased(s) for s in (0.5, 0.0, 0.0, 0.0)]
    assert values[0] == 0.5
    assert 0.35 < values[1] < 0.5
    assert values == sorted(values, reverse=True)
