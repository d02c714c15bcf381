from fractions import Fraction

import av
import numpy as np
import pytest

from stream_enhance.stages.scene_change import SceneChangeDetector
from stream_enhance.types import Frame


def place(
    seed: int, size: tuple[int, int] = (320, 180), form: str = "yuv420p", gain: float = 1, noise: float = 0
) -> Frame:
    """An image of blobs, another for each seed, with its light and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (9, 16, 3)).repeat(size[1] // 9, 0).repeat(size[0] // 16, 1)
    image = np.clip(coarse * gain + np.random.default_rng(len(form)).normal(0, noise, coarse.shape), 0, 255)
    video_frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), "rgb24").reformat(format=form)
    return Frame(video_frame, 0, 0, Fraction(1, 25), 0.0, 0.0)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj422p", "yuv420p10le", "nv12", "gray", "rgb24", "gbrp"])
def test_another_place_is_a_cut_and_light_and_noise_are_not(form: str) -> None:
    cuts = SceneChangeDetector()
    assert [cuts(place(s, form=form)) for s in (1, 1, 2, 2, 1)] == [False, False, True, False, True]
    assert not cuts(place(1, form=form, gain=0.3, noise=20))


def test_an_image_of_another_size_is_a_cut() -> None:
    cuts = SceneChangeDetector()
    assert [cuts(place(1)), cuts(place(1, (640, 360))), cuts(place(1, (640, 360)))] == [False, True, False]


def test_noise_in_the_dark_is_no_cut() -> None:
    cuts, rng = SceneChangeDetector(), np.random.default_rng(0)
    for _ in range(10):
        dark = np.clip(rng.normal(16, 12, (180, 320, 3)), 0, 255).astype(np.uint8)
        image = av.VideoFrame.from_ndarray(dark, "rgb24").reformat(format="yuv420p")
        assert not cuts(Frame(image, 0, 0, Fraction(1, 25), 0.0, 0.0))
