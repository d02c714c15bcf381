import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_enhance.imaging import crop
from stream_enhance.stages import gates
from stream_enhance.stages.enhance import EnhancerOptions
from stream_enhance.types import Faces

ROOT = Path(__file__).resolve().parents[2]


def turned(degrees: float, roll: float = 0.0, side: float = 60.0) -> np.ndarray:
    """(1, 5, 2): five points of a head turned to a side, with the nose before the plane of eyes and mouth."""
    flat = (crop.TEMPLATE - [0.5, 0.58]) * side
    depth = np.array([0.0, 0.0, 0.14, 0.0, 0.0]) * side
    angle, tilt = np.radians(degrees), np.radians(roll)
    x = flat[:, 0] * np.cos(angle) + depth * np.sin(angle)
    points = np.stack([x * np.cos(tilt) - flat[:, 1] * np.sin(tilt), x * np.sin(tilt) + flat[:, 1] * np.cos(tilt)], 1)
    return (points + 100).astype(np.float32)[None]


def test_yaw_grows_as_a_head_turns_and_knows_neither_size_nor_roll() -> None:
    yaws = [float(gates.yaw_of(turned(degrees))[0]) for degrees in (0, 20, 40, 60, 80)]
    assert yaws[0] == pytest.approx(0, abs=0.01)
    assert yaws == sorted(yaws)
    assert yaws[1] < 0.32, "enhanced with full strength"
    assert yaws[3] > 0.45, "left alone"
    same = [turned(40, 25), turned(40, side=15), turned(-40)]
    assert [float(gates.yaw_of(points)[0]) for points in same] == pytest.approx([yaws[2]] * 3, rel=0.01)


def test_visible_is_the_part_of_the_box_within_the_frame() -> None:
    xyxy = np.array([[10, 10, 30, 30], [-10, 10, 10, 30], [90, 70, 110, 90], [200, 0, 210, 5]], np.float32)
    assert gates.visible(xyxy, 100, 80).tolist() == pytest.approx([1, 0.5, 0.25, 0])


def test_dark_and_flat_is_what_shows_nothing_of_a_face() -> None:
    face = np.random.default_rng(0).integers(40, 90, (32, 32, 3), np.uint8)
    assert not gates.is_dark_and_flat(face)
    assert gates.is_dark_and_flat(face // 8)
    assert not gates.is_dark_and_flat(face // 8 + 100), "haze is no darkness"


def test_outside_marks_the_pixels_beyond_the_frame() -> None:
    affine = np.array([[0.5, 0, 80], [0, 0.5, 10]], np.float32)  # columns 80 to 112
    assert gates.outside(affine, 64, 114, 60) is None
    beyond = gates.outside(affine, 64, 100, 60)
    assert beyond is not None
    assert np.flatnonzero(beyond.all(0)).tolist() == list(range(40, 64))
    assert not beyond[:, :39].any()


def test_strength_has_no_steps_and_is_nothing_on_sharp_input() -> None:
    heights = np.arange(5, 300, 0.5)
    for sharpness in (0.0, 15.0, 40.0):
        values = [gates.strength_of(height, sharpness) for height in heights]
        assert 0 <= min(values) <= max(values) <= 1
        assert np.abs(np.diff(values)).max() < 0.05
    assert gates.strength_of(64, 0) == 0.7
    assert gates.strength_of(96, 40) == 0


def test_the_mouth_of_a_small_face_is_shown_as_the_camera_saw_it() -> None:
    seen, result = np.full((256, 256, 3), 80, np.uint8), np.full((256, 256, 3), 180, np.uint8)
    mouth = tuple(round(256 * float(v)) for v in crop.TEMPLATE[3:].mean(0)[::-1])
    eye = tuple(round(256 * float(v)) for v in crop.TEMPLATE[0][::-1])
    values = []
    for height in (16, 32, 40, 48, 90):
        shown = gates.with_mouth_as_seen(result, seen, height)
        assert shown[eye].tolist() == [180] * 3, "the eyes are enhanced at every size"
        values.append(int(shown[mouth][0]))
    assert values[:2] == [80, 80]
    assert values[2] == pytest.approx(130, abs=2)
    assert values[3:] == [180, 180]


@pytest.mark.parametrize("native", [24, 64, 128])
def test_sharpness_is_that_of_the_cameras_pixels_not_of_their_enlargement(native: int) -> None:
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.normal(128, 120, (native, native, 3)), (0, 0), 0.6).clip(0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(image, (0, 0), 1.2)
    values = [
        gates.sharpness_of(cv2.resize(im, (256, 256), interpolation=cv2.INTER_CUBIC).astype(np.uint8), native / 256)
        for im in (image, blurred)
    ]
    assert values[0] > 40, "enlarged, it would be next to nothing"
    assert values[1] < 0.5 * values[0]


def test_faces_labelled_by_hand_are_told_from_hidden_ones_and_from_what_is_none() -> None:
    """The numbers of docs/reports/enhancer.md, from detections of eight clips (docs/reports/gates.csv)."""
    with (ROOT / "docs" / "reports" / "gates.csv").open() as file:
        rows = list(csv.DictReader(file))
    defaults = EnhancerOptions()
    kept = {kind: [] for kind in ("face", "hidden", "none", "mask")}  # type: dict[str, list[float]]
    for row in rows:
        score, evidence = (np.array([row[key]], np.float32) for key in ("score", "evidence"))
        coasting = np.array([row["coasting"] == "1"])
        faces = Faces(np.zeros((1, 4), np.float32), score, np.ones(1, np.int64), None, evidence, coasting)
        trust = float(gates.trust_of(faces, defaults.min_score, defaults.min_evidence)[0])
        kept[row["kind"]].append(trust if float(row["yaw"]) < defaults.max_yaw else 0.0)
    assert np.mean([trust > 0 for trust in kept["face"]]) > 0.95
    assert np.mean(kept["hidden"]) < 0.12
    assert max(kept["none"]) < 0.05
