"""What a network that takes several frames sees of a track."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.stages.past import MOST, THUMB, Past, share_of
from stream_enhance.stages.steady import motion_of, thumb_of

HALF = 128


def face(shift: float = 0, light: float = 1) -> NDArray[np.uint8]:
    """A smooth (256, 256, 3) patch, moved to the right by `shift` pixels."""
    rng = np.random.default_rng(5)
    coarse = (rng.random((12, 12, 3)) * 255).astype(np.uint8)
    wide = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    place = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    return (light * cv2.warpAffine(wide, place, (256, 256), borderMode=cv2.BORDER_REPLICATE)).astype(np.uint8)


def add(past: Past, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
    motion = motion_of(thumb_of(before), thumb_of(after))
    assert motion is not None
    past.add(after, motion)


def test_the_mean_of_noisy_inputs_is_nearer_to_the_face_than_one_of_them() -> None:
    rng = np.random.default_rng(0)
    clean = face()
    noisy = [np.clip(clean + rng.normal(0, 12, clean.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    past = Past.of(noisy[0])
    for before, after in pairwise(noisy):
        add(past, before, after)
    truth = cv2.resize(clean, (HALF, HALF), interpolation=cv2.INTER_AREA).astype(np.float32)
    single = cv2.resize(noisy[-1], (HALF, HALF), interpolation=cv2.INTER_AREA).astype(np.float32)
    assert np.abs(past.mean - truth).mean() < 0.7 * np.abs(single - truth).mean()
    assert past.count.mean() > 3


def test_the_mean_moves_with_the_face() -> None:
    past, before = Past.of(face()), face()
    for shift in (4, 8, 12):
        add(past, before, face(shift))
        before = face(shift)
    small = cv2.resize(face(12), (HALF, HALF), interpolation=cv2.INTER_AREA).astype(np.float32)
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(past.mean - small)[inner].mean() < 3


def test_where_the_face_changes_the_mean_starts_over() -> None:
    past, before = Past.of(face()), face()
    for _ in range(5):
        add(past, before, face())
    after = face()
    after[160:220, 90:170] = 20  # a mouth opens
    add(past, before, after)
    assert np.median(past.count[44:52, 26:40]) < 1.5
    assert np.median(past.count[4:20, 8:56]) > 4
    assert abs(float(past.mean[95:100, 60:68].mean()) - 20) < 10


def test_the_plane_is_the_mean_and_the_share_by_pixel_shuffle() -> None:
    past = Past.of(face())
    plane = past.plane()
    assert plane.shape == (1, 2 * HALF, 2 * HALF)
    assert plane.dtype == np.float32
    for channel, (y, x) in enumerate(((0, 0), (0, 1), (1, 0))):
        np.testing.assert_allclose(plane[0, y::2, x::2], past.mean[:, :, channel] / 255, atol=1e-6)
    np.testing.assert_allclose(plane[0, 1::2, 1::2], 1 / MOST, atol=1e-6)


def test_less_is_shown_of_a_change_that_is_small_beside_its_expected_error() -> None:
    before = face()
    after = np.clip(before.astype(np.int16) + 12, 0, 255).astype(np.uint8)
    error = np.full((THUMB, THUMB), 0.02, np.float32)
    error[:, : THUMB // 2] = 1.0
    share = share_of(before, after, error)
    assert share.shape == (256, 256)
    assert share[64:192, 16:96].max() < 0.2
    assert share[64:192, 160:240].min() > 0.8
    assert share_of(before, before, error).max() < 0.01
