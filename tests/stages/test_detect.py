import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from stream_enhance.backends.card import Card
from stream_enhance.stages.detect import Detector, DetectorOptions, decode, suppress
from stream_enhance.types import Frame

CARD = Card(
    name="fake", task="face-detection", size=320, dynamic=True, points=5, license="", data="", recipe="", commit="",
    weights_sha256="",
)  # fmt: skip


class Bright:
    """A network that finds the white square of a black image, wherever it is: one cell, five points."""

    card = CARD

    def __init__(self, input_size: tuple[int, int] | None = None) -> None:
        self.input_size = input_size
        self.shapes: list[tuple[int, ...]] = []
        self.score = 0.9

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape)
        out = np.zeros((len(batch), 20, 3), np.float32)
        for row, image in zip(out, batch, strict=True):
            rows, columns = np.nonzero(image[0] > 0.9)
            if len(rows) < 4:
                continue
            x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
            row[:4, 0] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
            row[4, 0] = self.score
            row[5:, 0] = np.tile([x0, y0, 1], 5)
        return out


def detector_of(session: Any, **options: Any) -> Detector:
    return Detector(session, DetectorOptions(**({"size": 0, "every": 1, "score": 0.3, "regions": "off"} | options)))


def frame(x: int, y: int, side: int, size: tuple[int, int] = (640, 360), rotation: int = 0, index: int = 0) -> Frame:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    video_frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
    return Frame(video_frame, index, index, Fraction(1, 25), time.monotonic(), time.time(), rotation)


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (1920, 1080), (321, 243), (97, 33)])
def test_boxes_come_back_in_frame_pixels(size: tuple[int, int]) -> None:
    side = min(size) // 3
    x, y = size[0] // 2, size[1] // 4
    faces = detector_of(Bright()).find(frame(x, y, side, size))
    tolerance = max(0.8, 1.5 * max(size) / 320)
    assert np.allclose(faces.xyxy[0], [x, y, x + side, y + side], atol=tolerance)
    assert faces.points is not None
    assert np.allclose(faces.points[0], [x, y], atol=tolerance)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_the_network_sees_a_turned_frame_upright_and_boxes_come_back_as_coded(rotation: int) -> None:
    session = Bright()
    faces = detector_of(session).find(frame(400, 60, 80, rotation=rotation))
    assert np.allclose(faces.xyxy[0], [400, 60, 480, 140], atol=4)
    upright = (320, 192) if rotation == 180 else (192, 320)
    assert session.shapes[0][2:] == (upright[1], upright[0])


def test_the_input_is_no_larger_than_the_image_needs() -> None:
    session = Bright()
    detector_of(session, size=640).find(frame(10, 10, 50, (1920, 1080)))
    assert session.shapes == [(1, 3, 384, 640)]


@pytest.mark.parametrize("tiles", [1, 2])
@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
@pytest.mark.parametrize("fixed", [(320, 320), (384, 640), (640, 640)])
def test_a_fixed_input_is_filled_whatever_size_says(
    fixed: tuple[int, int], size: tuple[int, int], rotation: int, tiles: int
) -> None:
    session = Bright(fixed)
    detector, shown = detector_of(session, size=480, tiles=tiles), frame(150, 130, 80, size, rotation)
    faces = detector.find(shown)
    assert {shape[2:] for shape in session.shapes} == {fixed}
    assert np.allclose(faces.xyxy, [150, 130, 230, 210], atol=4)
    upright = size[::-1] if rotation else size
    ratio = min(fixed[0] / upright[1], fixed[1] / upright[0])
    assert detector.views(shown)[0].scale == pytest.approx((ratio, ratio), rel=0.01)


@pytest.mark.parametrize("tiles", [2, 3])
def test_tiles_see_a_face_larger_and_give_it_once(tiles: int) -> None:
    coarse = detector_of(Bright(), size=320).find(frame(1500, 700, 11, (1920, 1080)))
    fine = detector_of(Bright(), size=320, tiles=tiles).find(frame(1500, 700, 11, (1920, 1080)))
    assert len(coarse) == 0, "too small at this size for the fake network's four pixels"
    assert len(fine) == 1
    assert np.allclose(fine.xyxy[0], [1500, 700, 1511, 711], atol=6)


def test_every_second_frame_is_detected_and_the_rest_follow() -> None:
    session = Bright()
    scenes = list(detector_of(session, every=2)(frame(100 + 4 * i, 100, 60, index=i) for i in range(20)))
    assert len(session.shapes) == 10
    assert [len(s.faces) for s in scenes] == [1] * 20
    assert {int(s.faces.track[0]) for s in scenes} == {1}
    assert abs(float(scenes[19].faces.xyxy[0, 0]) - (100 + 4 * 19)) < 5


def test_a_face_that_grows_dim_is_followed_but_one_that_was_never_sure_is_not() -> None:
    session = Bright()

    def seen(scores: list[float]) -> list[int]:
        detector, shown = detector_of(session, score=0.4), []
        for i, session.score in enumerate(scores):
            shown += [len(scene.faces) for scene in detector([frame(100 + i, 100, 60, index=i)])]
        assert detector.detected == sum(score >= 0.4 for score in scores)
        return shown

    assert seen([0.9] + [0.25] * 20) == [1] * 21
    assert seen([0.25] * 10) == [0] * 10
    assert seen([0.9] + [0.15] * 20)[-1] == 0
    assert len(detector_of(session, score=0.4).find(frame(100, 100, 60))) == 0


def test_nothing_of_one_place_is_shown_in_the_next() -> None:
    """A recorder that changes cameras: between detections, too, and whatever stands where the face was."""
    detector = detector_of(Bright(), every=4)
    yard = [frame(100, 100, 60, index=i) for i in range(10)]
    door = [frame(400, 200, 90, index=i) for i in range(10, 20)]
    shown = [scene.faces for scene in detector([*yard, *door])]
    assert [len(faces) for faces in shown] == [1] * 20
    assert [int(faces.track[0]) for faces in shown] == [1] * 10 + [2] * 10
    assert np.allclose([faces.xyxy[0, 0] for faces in shown[10:]], 400, atol=3)


def test_no_faces_and_fewer_than_there_are() -> None:
    assert len(detector_of(Bright()).find(frame(0, 0, 0))) == 0
    rows = np.tile(np.array([[0, 0, 10, 10, 0.5]], np.float32), (50, 1))
    rows[:, [0, 2]] += np.arange(50)[:, None] * 20
    assert len(suppress(rows, 0.5)) == 50


def test_suppress_keeps_the_best_of_what_overlaps() -> None:
    rows = np.array([[0, 0, 10, 10, 0.5], [1, 0, 11, 10, 0.9], [30, 0, 40, 10, 0.4]], np.float32)
    assert suppress(rows, 0.5)[:, 4].tolist() == pytest.approx([0.9, 0.4])


def test_detect_exports_with_classes_have_no_points() -> None:
    view = detector_of(Bright()).views(frame(0, 0, 0))[0]
    head = np.zeros((4 + 2, 5), np.float32)
    head[:, 3] = [100, 80, 20, 10, 0.2, 0.8]
    rows = decode(head, view, 0.5)
    assert rows.shape == (1, 5)
    assert rows[0, 4] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("size", "width"), [((128, 128), 256), ((320, 240), 480), ((512, 512), 512), ((1920, 1080), 640)]
)
def test_a_small_frame_is_not_enlarged_past_what_the_network_knows(size: tuple[int, int], width: int) -> None:
    session = Bright()
    faces = detector_of(session, size=640).find(frame(40, 30, 60, size))
    assert session.shapes[0][3] == width
    assert np.allclose(faces.xyxy[0], [40, 30, 100, 90], atol=4)


class Narrow(Bright):
    """Finds nothing in inputs wider than so many pixels."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        out = super().__call__(batch)
        return out if batch.shape[3] <= self.most else np.zeros_like(out)


def seconds_of(detector: Detector, seconds: float) -> list[int]:
    """Faces in each frame of so much video at 25 frames a second."""
    count = round(25 * seconds)
    return [len(scene.faces) for scene in detector(frame(100, 100, 60, index=i) for i in range(count))]


def test_where_no_face_is_found_in_the_first_seconds_another_size_is_tried_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Narrow(320)
    detector = detector_of(session, size=640)
    shown = seconds_of(detector, 5)
    assert sum(shown[:50]) == 0
    assert shown[80:] == [1] * 45
    assert detector.size == 320
    (line,) = caplog.messages
    assert "detector.size=640" in line
    assert "320" in line


def test_a_clear_face_or_enough_trials_end_the_search() -> None:
    for session, most in ((Bright(), 0), (Narrow(1), 5)):
        detector = detector_of(session, size=320)
        seconds_of(detector, 30)
        assert detector.size == 320
        assert sum(shape[3] != 320 for shape in session.shapes) == most


def test_one_image_of_a_slow_smaller_stream_is_detected_in_once() -> None:
    """A second detection in it would be a face that has moved in no time: its track would be thrown off."""
    session = Bright()
    small = [frame(100 + 20 * n, 60, 40, (320, 180)).image for n in range(3)]
    frames = [
        replace(frame(200, 120, 80, index=i), detect_image=small[i // 5], detect_seconds=i // 5 * 0.2)
        for i in range(15)
    ]
    scenes = list(detector_of(session)(frames))
    assert len(session.shapes) == len(small)
    centres = [float(scene.faces.xyxy[0, [0, 2]].mean()) for scene in scenes if len(scene.faces)]
    assert len(centres) == 15
    assert all(200 < x < 400 for x in centres)
