"""Several frames of one face made into one."""

from __future__ import annotations

import time
from fractions import Fraction

import av
import cv2
import numpy as np

from stream_enhance.stages.classical import ClassicalOptions
from stream_enhance.stages.enhance import Enhancer, EnhancerOptions
from stream_enhance.stages.fuse import Fusion
from stream_enhance.stages.networks import open_enhancement
from stream_enhance.stages.steady import motion_of, thumb_of
from stream_enhance.types import Faces, Frame, Scene
from tests.media import psnr

RNG = np.random.default_rng(3)
FACE = cv2.resize(RNG.integers(40, 200, (40, 40, 3), np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)


def noisy(image: np.ndarray) -> np.ndarray:
    grain = cv2.resize(RNG.normal(0, 12, (128, 128, 3)), (256, 256), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


def fused(images: list[np.ndarray]) -> np.ndarray:
    fusion, before = Fusion(), None
    for image in images:
        thumb = thumb_of(image)
        result = fusion.add(image, None if before is None else motion_of(before, thumb))
        before = thumb
    return result


def test_a_still_face_has_less_noise() -> None:
    images = [noisy(FACE) for _ in range(8)]
    assert psnr(fused(images), FACE) > psnr(images[-1], FACE) + 3


def test_a_face_that_moves_is_followed() -> None:
    images = [noisy(np.roll(FACE, 4 * i, 1)) for i in range(8)]
    inner = np.s_[40:216, 40:216]
    assert psnr(fused(images)[inner], np.roll(FACE, 28, 1)[inner]) > psnr(
        images[-1][inner], np.roll(FACE, 28, 1)[inner]
    )


def test_what_changed_is_taken_from_the_newest_frame() -> None:
    changed = FACE.copy()
    changed[150:200, 90:170] = 20
    result = fused([FACE] * 7 + [changed])
    assert np.abs(result[155:195, 95:165].astype(int) - 20).mean() < 2


def test_another_face_starts_over() -> None:
    fusion = Fusion()
    fusion.add(noisy(FACE), None)
    other = noisy(FACE[::-1])
    assert np.array_equal(fusion.add(other, None), other)


def test_the_enhancer_fuses_each_track_and_uses_no_cache() -> None:
    def refuse() -> None:
        raise AssertionError("nothing learned is opened")

    enhancement = open_enhancement("fuse", ClassicalOptions(), refuse)  # type: ignore[arg-type]
    enhancer = Enhancer(enhancement, EnhancerOptions(strength=1.0, sharp=1e9))
    clean = np.full((360, 640, 3), 90, np.uint8)
    clean[80:180, 100:200] = cv2.resize(FACE, (100, 100))
    box = np.array([[100, 80, 200, 180]], np.float32)
    faces = Faces(box, np.array([0.9], np.float32), np.array([1]), None)

    def scene(index: int) -> Scene:
        pixels = np.clip(clean + RNG.normal(0, 8, clean.shape), 0, 255).astype(np.uint8)
        image = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv444p")
        return Scene(Frame(image, index, index, Fraction(1, 25), time.monotonic(), time.time()), faces)

    *_, last = enhancer(scene(i) for i in range(8))
    assert not last.cached.any()
    before, after = last.originals[0].astype(int), last.patches[0].astype(int)
    flat = np.s_[4:20, 4:20]
    assert after[flat].std() < 0.8 * before[flat].std()
