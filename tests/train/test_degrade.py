"""Every defect does what its name says, and the same rng gives the same result."""

import numpy as np
import pytest

from tests.train import portraits
from train.degrade import (
    KINDS,
    Codec,
    Ranges,
    chroma_420,
    degrade_clip,
    disc_kernel,
    gfpgan,
    infrared,
    interlace,
    jpeg,
    motion_kernel,
    night,
    noise,
    sharpen,
    through_codec,
)

FACE = portraits.draw(1)
CENTER, HEIGHT = (100.0, 107.0), 150.0


def test_the_same_generator_gives_the_same_image() -> None:
    seen = [degrade_clip(FACE, CENTER, HEIGHT, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(seen[0].frame, seen[1].frame)
    assert seen[0].kinds == seen[1].kinds


@pytest.mark.parametrize("kind", KINDS)
def test_each_defect_alone_changes_the_face_and_leaves_it_in_place(kind: str) -> None:
    plain = degrade_clip(FACE, CENTER, HEIGHT, np.random.default_rng(5), face_px=48, only=())
    seen = degrade_clip(FACE, CENTER, HEIGHT, np.random.default_rng(5), face_px=48, only=(kind,))
    assert seen.frame.shape == plain.frame.shape
    assert seen.kinds == (kind,)
    other = degrade_clip(seen.clean, CENTER, HEIGHT, np.random.default_rng(5), face_px=48, only=())
    before = other.frame if kind in ("night", "infrared") else plain.frame
    if kind not in ("night", "infrared"):
        assert not np.array_equal(seen.frame, before)
    middle = np.corrcoef(seen.frame.mean(2).ravel(), before.mean(2).ravel())[0, 1]
    assert middle > 0.6


def test_sizes_are_log_uniform_with_half_of_them_under_40() -> None:
    rng = np.random.default_rng(0)
    sizes = [degrade_clip(FACE, CENTER, HEIGHT, rng, only=()).face_px for _ in range(200)]
    assert min(sizes) >= 16
    assert max(sizes) <= 96
    assert 0.38 < np.mean(np.array(sizes) < 40) < 0.62


def test_night_and_infrared_are_the_scenes_light_so_the_truth_has_them_too() -> None:
    seen = degrade_clip(FACE, CENTER, HEIGHT, np.random.default_rng(1), only=("night", "infrared"))
    assert seen.clean.mean() < FACE.mean()
    assert np.ptp(seen.clean, axis=2).max() == 0
    assert np.ptp(infrared(FACE), axis=2).max() == 0
    assert night(FACE, 2.5).mean() < night(FACE, 1.5).mean() < FACE.mean()


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mjpeg"])
def test_a_clip_goes_through_the_real_codec_and_a_coarser_one_loses_more(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) // 4 + 90 for _ in range(4)]
    fine, coarse = (("crf", "18"), ("crf", "45")) if codec != "mjpeg" else (("qscale", "2"), ("qscale", "25"))
    quiet = {"x265-params": "log-level=none:pools=none"} if codec == "libx265" else {}
    errors = []
    for key, value in (fine, coarse):
        back = through_codec(frames, codec, {key: value, **quiet})
        assert len(back) == len(frames)
        errors.append(np.mean([(a.astype(float) - b) ** 2 for a, b in zip(frames, back, strict=True)]))
    assert 0 < errors[0] < errors[1]


def test_kernels_keep_the_light_and_spread_as_far_as_they_say() -> None:
    for kernel in (motion_kernel(9.0, 30.0), disc_kernel(2.5)):
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
    across = motion_kernel(9.0, 0.0).sum(0)
    assert (across > 1e-3).sum() in (9, 10, 11)


def test_noise_has_the_strength_that_was_asked_for() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = noise(grey, np.random.default_rng(0), sigma=10, chroma_sigma=0)
    assert np.std(noisy[:, :, 0].astype(float)) == pytest.approx(10, rel=0.05)


def test_interlacing_takes_every_other_line_from_later() -> None:
    woven = interlace(FACE, 255 - FACE)
    assert np.array_equal(woven[::2], FACE[::2])
    assert np.array_equal(woven[1::2], (255 - FACE)[1::2])


def test_jpeg_chroma_and_halos() -> None:
    assert (jpeg(FACE, 20).astype(float) - FACE).std() > (jpeg(FACE, 90).astype(float) - FACE).std() > 0
    assert not np.array_equal(chroma_420(FACE), FACE)
    assert sharpen(FACE, 1.0).astype(float).std() > FACE.astype(float).std()


def test_gfpgans_recipe_keeps_the_size_and_the_face() -> None:
    poor = gfpgan(FACE, np.random.default_rng(2))
    assert poor.shape == FACE.shape
    assert np.corrcoef(poor.ravel(), FACE.ravel())[0, 1] > 0.6


def test_an_unknown_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="moton_px"):
        Ranges.model_validate({"moton_px": (1, 2)})
