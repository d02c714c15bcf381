import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.imaging import crop
from stream_enhance.stages.overlay import mask_of

BOX = np.array([[100, 80, 160, 160]], np.float32)


def points_of(affine: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    template = crop.TEMPLATE * size - 0.5
    return np.asarray(template @ affine[:, :2].T + affine[:, 2], np.float32)


@pytest.mark.parametrize("angle", [0, 30, 90, -170])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_points_give_back_the_similarity_they_were_placed_by(angle: float, scale: float) -> None:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    affine = np.array([[c, -s, 40], [s, c, 70]], np.float32)
    got = crop.patch_to_frame(BOX, points_of(affine, 256)[None], 256)[0]
    assert np.allclose(got, affine, atol=1e-2)


def test_a_box_and_upright_points_of_the_same_face_agree() -> None:
    by_box = crop.patch_to_frame(BOX, None, 256)
    by_points = crop.patch_to_frame(BOX, points_of(by_box[0], 256)[None], 256)
    assert np.allclose(by_box, by_points, atol=1e-2)
    assert crop.scale_of(by_box[0]) * 256 * crop.BOX_HEIGHT == pytest.approx(80)


def test_no_faces_give_no_patches() -> None:
    assert crop.patch_to_frame(np.zeros((0, 4), np.float32), None, 256).shape == (0, 2, 3)


@pytest.mark.parametrize("scale", [0.15, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("angle", [0, 17])
def test_cut_and_place_are_each_others_inverse(scale: float, angle: float) -> None:
    axis = np.arange(700, dtype=np.float32)
    wave = 128 + 60 * np.sin(axis / 40)[:, None] + 50 * np.cos(axis / 55)[None, :]
    image = np.repeat(wave[:, :, None], 3, 2).astype(np.uint8)
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    affine = np.array([[c, -s, 100], [s, c, 60]], np.float32)
    patch = crop.cut(image, affine, 256)
    layers = np.dstack([patch, mask_of(256)]).astype(np.float32)
    placed, mask = np.split(crop.place(layers, affine, (700, 700)), [3], axis=2)
    inside = mask[:, :, 0] > 0.99
    assert inside.sum() > 0.4 * (256 * scale) ** 2
    assert np.abs(placed[inside] - image[inside]).mean() < 1.0, "half a pixel off would be more"


def test_bounds_hold_all_that_place_touches() -> None:
    affine = np.array([[0.3, -0.1, 33.3], [0.1, 0.3, 21.7]], np.float32)
    x0, y0, x1, y1 = crop.bounds(affine, 256)
    mask = crop.place(np.ones((256, 256, 1), np.float32), affine, (300, 300)).reshape(300, 300)
    rows, columns = np.nonzero(mask > 0)
    assert x0 <= columns.min()
    assert columns.max() < x1
    assert y0 <= rows.min()
    assert rows.max() < y1


def test_shrinking_averages_rather_than_aliases() -> None:
    checks = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    image = cv2.merge([checks] * 3)
    patch = crop.cut(image, np.array([[8, 0, 3.5], [0, 8, 3.5]], np.float32), 64)
    assert np.abs(patch.astype(int) - 127).max() < 8
