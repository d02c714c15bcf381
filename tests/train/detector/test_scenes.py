"""Made scenes: exact faces, the same for the same rng, really encoded."""

import cv2
import numpy as np
import pytest

from train.detector import boxes
from train.detector.data import backdrops as detector_places
from train.detector.data import scenes
from train.detector.data.people import FACE, Cutout, cut_out, dressed, from_behind, mirrored, with_body


def portrait() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A drawn head and shoulders, its face box as x, y, w, h, and its points."""
    image = np.full((300, 260, 3), (60, 120, 60), np.uint8)
    cv2.ellipse(image, (130, 320), (110, 100), 0, 0, 360, (40, 40, 90), -1)
    cv2.ellipse(image, (130, 140), (60, 80), 0, 0, 360, (200, 160, 140), -1)
    points = np.array([[105, 125], [155, 125], [130, 150], [112, 180], [148, 180]], np.float64)
    for x, y in points[:2]:
        cv2.circle(image, (int(x), int(y)), 8, (20, 20, 20), -1)
    return image, np.array([70.0, 60.0, 120.0, 160.0]), points


@pytest.fixture(scope="module")
def someone() -> Cutout:
    return cut_out(*portrait())


@pytest.fixture(scope="module")
def place() -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 255, (16, 32, 3), dtype=np.uint8), (256, 128), interpolation=cv2.INTER_CUBIC)


def test_a_cut_out_keeps_the_head_and_drops_the_background(someone: Cutout) -> None:
    x0, y0, x1, y1 = someone.face.xyxy[0]
    assert y1 - y0 == pytest.approx(FACE, abs=1)
    assert someone.alpha[int((y0 + y1) / 2), int((x0 + x1) / 2)] == 255
    assert someone.alpha[3, 3] == 0
    assert someone.alpha[3, -3] == 0


def test_dressing_and_a_body_leave_the_face_where_it_was(someone: Cutout) -> None:
    rng = np.random.default_rng(1)
    for _ in range(12):
        person = with_body(dressed(someone, rng), rng)
        assert np.array_equal(person.face.xyxy, someone.face.xyxy)
        assert person.rgb.shape[:2] == person.alpha.shape
        assert len(person.rgb) > len(someone.rgb)


def test_a_head_from_behind_has_no_face(someone: Cutout) -> None:
    behind = from_behind(someone, np.random.default_rng(0))
    left, right = someone.face.points[0, :2, :2].astype(int)
    assert len(behind.face) == 0
    assert not np.array_equal(behind.rgb[left[1], left[0]], someone.rgb[left[1], left[0]])
    assert not np.array_equal(behind.rgb[right[1], right[0]], someone.rgb[right[1], right[0]])


def test_a_covered_head_from_behind_has_other_colours_and_no_face(someone: Cutout) -> None:
    bare, covered = (from_behind(someone, np.random.default_rng(0), share) for share in (0.0, 1.0))
    assert len(covered.face) == 0
    assert not np.array_equal(bare.rgb, covered.rgb)


def test_mirrored_twice_is_the_same(someone: Cutout) -> None:
    twice = mirrored(mirrored(someone))
    assert np.array_equal(twice.rgb, someone.rgb)
    assert np.allclose(twice.face.points, someone.face.points)
    once = mirrored(someone).face.points[0]
    assert once[0, 0] < once[1, 0], "the eye on the left of the image comes first, mirrored or not"


def test_the_same_rng_makes_the_same_scene(someone: Cutout, place: np.ndarray) -> None:
    first, second = (scenes.make([place], [someone], np.random.default_rng(5), 192) for _ in range(2))
    other = scenes.make([place], [someone], np.random.default_rng(6), 192)
    assert np.array_equal(first.seen, second.seen)
    assert np.array_equal(first.faces.xyxy, second.faces.xyxy)
    assert not np.array_equal(first.clean, other.clean)


def test_faces_are_where_the_labels_say_and_of_the_size_asked_for(someone: Cutout, place: np.ndarray) -> None:
    seen = 0
    for seed in range(20):
        scene = scenes.make([place], [someone], np.random.default_rng(seed), 256, (16, 48), (1, 3))
        assert scene.seen.shape == scene.clean.shape == (256, 256, 3)
        for box, points in zip(scene.faces.xyxy, scene.faces.points, strict=True):
            assert (box >= 0).all()
            assert (box <= 256).all()
            inner = points[points[:, 2] > 0, :2]
            assert ((inner > box[:2] - 2) & (inner < box[2:] + 2)).all()
            seen += 1
    assert seen > 10


def test_somebody_in_front_hides_the_face_behind(someone: Cutout) -> None:
    empty = np.zeros((256, 256, 3), np.uint8)
    scale = 64 / FACE
    here = np.array([[scale, 0, 60], [0, scale, 60]], np.float32)
    alone = scenes.Placed(someone, here, np.zeros(2), np.ones(3))
    _, faces = scenes.compose(empty, [alone], 0)
    assert len(faces) == 1
    assert not faces.ignore[0]
    _, both = scenes.compose(empty, [alone, alone], 0)
    assert len(both) == 1, "the one behind is not there"
    _, before = scenes.compose(empty, [scenes.Placed(someone, here, np.array([4.0, 0.0]), np.ones(3))], 2)
    assert before.xyxy[0, 0] == pytest.approx(faces.xyxy[0, 0] - 8)


def test_the_camera_degrades_and_the_codec_is_real(someone: Cutout, place: np.ndarray) -> None:
    kinds: set[str] = set()
    for seed in range(30):
        scene = scenes.make([place], [someone], np.random.default_rng(seed), 128, (12, 40), (1, 4))
        kinds.update(scene.kinds)
        if "h264" in scene.kinds:
            assert not np.array_equal(scene.clean, scene.seen)
    assert {"h264", "noise", "defocus", "motion"} <= kinds


def test_a_mosaic_shrinks_faces_and_moves_their_boxes(someone: Cutout) -> None:
    image, box, _ = portrait()
    faces = boxes.labels([[box[0], box[1], box[0] + box[2], box[1] + box[3]]])
    heights = []
    real = scenes.Real(image, faces, np.zeros((0, 4), np.float32))
    for seed in range(20):
        manner = scenes.Manner(turned=seed % 2)
        canvas, found = scenes.mosaic([real] * 4, np.random.default_rng(seed), 320, (20, 40), manner=manner)
        assert canvas.shape == (320, 320, 3)
        for x0, y0, x1, y1 in found.xyxy:
            heights.append(y1 - y0)
            middle = canvas[int((y0 + y1) / 2), int((x0 + x1) / 2)].astype(int)
            assert middle[0] > middle[2], "skin, not background, lies in the middle of the box"
    assert 20 < np.median(heights) < 100


def test_a_mosaic_is_cut_around_hard_negatives_where_that_is_asked_for() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[300:340, 20:60] = (255, 0, 0)
    image[100:140, 300:340] = (0, 255, 0)
    real = scenes.Real(image, boxes.labels([[300, 100, 340, 140]]), np.array([[20, 300, 60, 340]], np.float32))
    sums = {}
    for hard in (0.0, 1.0):
        canvas, _ = scenes.mosaic([real], np.random.default_rng(3), 96, (38, 42), manner=scenes.Manner(hard=hard))
        sums[hard] = [int((canvas[..., channel] > 200).sum()) for channel in (0, 1)]
    assert sums[0.0][0] == sums[1.0][1] == 0
    assert min(sums[0.0][1], sums[1.0][0]) > 800


def test_points_of_a_mirrored_tile_keep_their_order() -> None:
    image, box, points = portrait()
    known = np.concatenate([points, np.ones((5, 1))], 1)[None]
    faces = boxes.labels([[box[0], box[1], box[0] + box[2], box[1] + box[3]]], known)
    real = scenes.Real(image, faces, np.zeros((0, 4), np.float32))
    for seed in range(8):
        _, found = scenes.mosaic([real], np.random.default_rng(seed), 200, (80, 90))
        left, right = found.points[0, 0], found.points[0, 1]
        if left[2] and right[2]:
            assert left[0] < right[0]


def test_a_face_of_which_the_camera_left_nothing_weighs_nothing(someone: Cutout) -> None:
    clean = np.full((256, 256, 3), 90, np.uint8)
    one = scenes.Placed(someone, np.array([[0.5, 0, 60], [0, 0.5, 60]], np.float32), np.zeros(2), np.ones(3))
    clean, faces = scenes.compose(clean, [one], 0)
    noise = np.random.default_rng(0).integers(0, 255, clean.shape, dtype=np.uint8)
    assert scenes.legible(clean, clean, faces).tolist() == [1.0]
    assert scenes.legible(clean, (clean * 0.3).astype(np.uint8), faces)[0] > 0.9, "dark is no reason"
    assert scenes.legible(clean, noise, faces).tolist() == [0.0]


def test_a_panorama_gives_a_view_and_an_image_a_crop(place: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    assert detector_places.background(place, rng, 96).shape == (96, 96, 3)
    assert detector_places.background(place[:, :100], rng, 96).shape == (96, 96, 3)


def test_shelves_are_cut_from_the_places_and_cover_a_part(place: np.ndarray) -> None:
    blank = np.zeros((192, 192, 3), np.uint8)
    full = [detector_places.shelves(blank, [place], np.random.default_rng(seed)) for seed in range(6)]
    covered = [float((image.max(2) > 0).mean()) for image in full]
    assert max(covered) > 0.2
    assert min(covered) < 1
