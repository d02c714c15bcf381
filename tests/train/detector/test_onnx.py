"""The detector that ships finds the face of an image from a package, its five points in place. Needs no torch."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_enhance.backends import open_session
from stream_enhance.backends.preprocessing import to_input
from stream_enhance.stages.detect import decode, suppress
from stream_enhance.stages.view import LetterboxView

ENGINES = Path(__file__).parents[3] / "engines"
EYE_LEFT, EYE_RIGHT, NOSE, MOUTH_LEFT, MOUTH_RIGHT = (203, 104), (247, 104), (224, 128), (204, 143), (243, 144)
POINTS = np.array([EYE_LEFT, EYE_RIGHT, NOSE, MOUTH_LEFT, MOUTH_RIGHT], np.float32)  # Eileen Collins, by hand


def faces(path: Path, image: np.ndarray, scale: float) -> np.ndarray:
    """Rows of x1, y1, x2, y2, score, five points, in pixels of `image`, which is shown `scale` times its size."""
    side = round(512 * scale)
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
    view = LetterboxView(small, (scale, scale), 0.0, 0.0)
    with open_session(path, "face-detection", "cpu", threads=1) as session:
        return suppress(decode(session(to_input([small], session.card))[0], view, 0.5), 0.5)


@pytest.mark.parametrize("path", sorted(ENGINES.glob("yolov8*-face.onnx")), ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", [1.0, 0.625, 0.25], ids=["512", "320", "128"])
def test_the_astronauts_face_is_found_with_its_points_in_place(path: Path, scale: float) -> None:
    data = pytest.importorskip("skimage.data")
    rows = faces(path, data.astronaut(), scale)
    assert len(rows) == 1
    x0, y0, x1, y1 = rows[0, :4]
    assert x0 < POINTS[:, 0].min()
    assert x1 > POINTS[:, 0].max()
    assert y0 < 100
    assert y1 > 150
    eyes = np.hypot(*(POINTS[0] - POINTS[1]))
    apart = np.hypot(*(rows[0, 5:].reshape(5, 2) - POINTS).T)
    assert apart.max() < 0.3 * eyes


@pytest.mark.parametrize("path", sorted(ENGINES.glob("yolov8*-face.onnx")), ids=lambda path: path.stem)
def test_nothing_is_found_where_nobody_is(path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    for image in (data.coffee(), data.rocket(), np.repeat(data.brick()[..., None], 3, axis=2)):
        square = np.ascontiguousarray(cv2.resize(image, (512, 512)))
        assert len(faces(path, square, 0.625)) == 0


def test_a_detector_ships() -> None:
    assert (ENGINES / "yolov8n-face.onnx").is_file()
