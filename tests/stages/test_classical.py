from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.stages import classical
from stream_enhance.stages.classical import Classical, ClassicalOptions

pytest.importorskip("skimage", reason="the face in these tests is scikit-image's astronaut")

SIDE = 256
RNG_SEED = 7
OFF: dict[str, Any] = {"denoise": False, "deblur": "none", "sharpen": False, "low_light": False}


def face(native: int) -> NDArray[np.uint8]:
    """The astronaut's face, (native, native, 3) RGB."""
    from skimage import data

    image: NDArray[np.uint8] = data.astronaut()[24:200, 120:296]
    return np.asarray(cv2.resize(image, (native, native), interpolation=cv2.INTER_AREA), np.uint8)


def patch_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As the line cuts it: enlarged to the patch by bicubic."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def run(chain: Classical, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    (result,) = chain(patch_of(image)[None], np.array([image.shape[0] / SIDE], np.float32))
    return np.asarray(result)


def noisy(image: NDArray[Any], sigma: float) -> NDArray[np.uint8]:
    rng = np.random.default_rng(RNG_SEED)
    return np.asarray(np.clip(image + rng.normal(0, sigma, image.shape), 0, 255), np.uint8)


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(cv2.PSNR(a, b))


@pytest.mark.parametrize("native", [32, 48, 64, 128, 256])
def test_a_clean_face_comes_back_nearly_as_it_was(native: int) -> None:
    assert psnr(run(Classical(), face(native)), patch_of(face(native))) > 38


@pytest.mark.parametrize("native", [40, 64, 128])
@pytest.mark.parametrize("sigma", [8, 16])
def test_a_noisy_face_comes_nearer_to_the_clean_one(native: int, sigma: int) -> None:
    clean, seen = patch_of(face(native)), noisy(face(native), sigma)
    assert psnr(run(Classical(), seen), clean) > psnr(patch_of(seen), clean) + 1


@pytest.mark.parametrize("sigma", [4, 8, 16])
def test_noise_is_measured(sigma: int) -> None:
    flat = np.full((96, 96), 120, np.uint8)
    assert classical.noise_level(noisy(flat, sigma)) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("deblur", ["wiener", "richardson-lucy"])
@pytest.mark.parametrize(("length", "degrees"), [(5, 0), (7, 30), (9, 90)])
def test_a_face_blurred_by_motion_comes_nearer_to_the_sharp_one(deblur: str, length: int, degrees: int) -> None:
    turn = np.radians(degrees)
    kernel = classical.motion_kernel(length * np.cos(turn), length * np.sin(turn))
    seen = noisy(cv2.filter2D(face(64), -1, kernel), 1.5)
    clean = patch_of(face(64))
    left = psnr(run(Classical(ClassicalOptions(deblur="none")), seen), clean)
    assert psnr(run(Classical(ClassicalOptions(deblur=deblur)), seen), clean) > left + 0.5


@pytest.mark.parametrize(("length", "degrees"), [(5, 0), (7, 30), (9, 90), (7, 135)])
def test_the_motion_found_is_the_motion_there_was(length: int, degrees: int) -> None:
    turn = np.radians(degrees)
    kernel = classical.motion_kernel(length * np.cos(turn), length * np.sin(turn))
    luma = cv2.cvtColor(noisy(cv2.filter2D(face(64), -1, kernel), 1), cv2.COLOR_RGB2GRAY).astype(np.float32)
    found = classical.motion(luma)
    assert found is not None
    size = max(len(found[0]), len(kernel))
    both = [cv2.GaussianBlur(np.pad(k, (size - len(k)) // 2), (0, 0), 0.7) for k in (found[0], kernel)]
    assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] > 0.85


@pytest.mark.parametrize("native", [32, 48, 64, 128, 256])
@pytest.mark.parametrize("blur", [0.0, 1.2])
def test_no_motion_is_found_in_a_face_that_is_sharp_or_only_out_of_focus(native: int, blur: float) -> None:
    image = face(native) if not blur else cv2.GaussianBlur(face(native), (0, 0), blur)
    assert classical.motion(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)) is None


def test_a_dark_face_becomes_lighter_and_a_light_one_does_not() -> None:
    dark = (face(64) * 0.2).astype(np.uint8)
    chain = Classical(ClassicalOptions(**{**OFF, "low_light": True}))
    assert run(chain, dark).mean() > 1.6 * dark.mean()
    np.testing.assert_array_equal(run(chain, face(64)), run(Classical(ClassicalOptions(**OFF)), face(64)))


def test_a_face_made_lighter_keeps_its_colour() -> None:
    dark = (face(64) * 0.25).astype(np.uint8)
    lit = run(Classical(ClassicalOptions(**{**OFF, "low_light": True})), dark)
    colour = [float(np.ptp(p[96:160, 96:160].mean((0, 1)))) for p in (patch_of(dark), lit)]
    assert colour[1] > 1.5 * colour[0], "red less blue, over the cheeks, grows with the light"


def test_a_well_lit_face_before_a_dark_ground_is_left_alone() -> None:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    lit = np.where(x * x + (y - 0.1) ** 2 < 0.7, 130, 10).astype(np.float32)
    np.testing.assert_array_equal(classical.brightened(lit), lit)


def test_low_light_sets_in_without_a_step() -> None:
    means = [classical.brightened(np.full((64, 64), level, np.float32)).mean() for level in np.arange(40.0, 100.0)]
    assert np.abs(np.diff(means)).max() < 8, "a face that grows a little darker must not jump"


def test_the_unsharp_mask_steepens_edges_without_halos() -> None:
    step = np.full((64, 64, 3), 60, np.uint8)
    step[:, 32:] = 180
    blurred = cv2.GaussianBlur(step, (0, 0), 2).astype(np.uint8)
    sharp = classical.sharpened(blurred, 4.0, 0.0)
    assert np.diff(sharp.astype(int), axis=1).max() > np.diff(blurred.astype(int), axis=1).max()
    assert (sharp.min(), sharp.max()) == (60, 180)


def test_back_projection_makes_an_enlargement_that_shrinks_to_what_it_came_from() -> None:
    small = face(40)
    plain, projected = (
        cv2.resize(classical.enlarged(small, SIDE, project=on), (40, 40), interpolation=cv2.INTER_AREA)
        for on in (False, True)
    )
    assert psnr(projected, small) > psnr(plain, small) + 3


def test_with_every_step_off_only_resampling_is_left() -> None:
    assert psnr(run(Classical(ClassicalOptions(**OFF)), face(64)), patch_of(face(64))) > 30
    full = face(SIDE)
    assert psnr(run(Classical(ClassicalOptions(**OFF)), full), full) > 40, (
        "at full size nothing but the colour conversion's rounding"
    )


def test_the_same_patches_give_the_same_result_alone_or_in_a_batch() -> None:
    images = [noisy(face(40), 10), (face(64) * 0.3).astype(np.uint8), face(128)]
    patches = np.stack([patch_of(p) for p in images])
    scales = np.array([p.shape[0] / SIDE for p in images], np.float32)
    before, chain = patches.copy(), Classical()
    together = chain(patches, scales)
    assert together.shape == patches.shape
    assert together.dtype == np.uint8
    np.testing.assert_array_equal(patches, before, err_msg="the input was changed")
    for i in range(3):
        np.testing.assert_array_equal(chain(patches[i : i + 1], scales[i : i + 1])[0], together[i])


@pytest.mark.parametrize("scale", [0.001, 0.05, 0.99, 1.0, 3.0])
@pytest.mark.parametrize("deblur", ["wiener", "richardson-lucy"])
def test_extreme_faces_are_borne(scale: float, deblur: str) -> None:
    rng = np.random.default_rng(RNG_SEED)
    odd = np.stack([np.zeros((64, 64, 3)), np.full((64, 64, 3), 255), rng.integers(0, 256, (64, 64, 3))])
    result = Classical(ClassicalOptions(deblur=deblur))(odd.astype(np.uint8), np.full(3, scale, np.float32))
    assert result.shape == (3, 64, 64, 3)
    assert result[0].max() <= 8, "black stays black"
    assert result[1].min() >= 247, "white stays white"


def test_no_patches_give_no_patches() -> None:
    assert Classical()(np.zeros((0, 64, 64, 3), np.uint8), np.zeros(0, np.float32)).shape == (0, 64, 64, 3)
