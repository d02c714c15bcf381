"""Which parts of a large frame are shown to the detector."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest

from stream_enhance.stages.detect import Detector, DetectorOptions
from stream_enhance.stages.regions import BURST, CROPS, Expected, Plan, Regions, changed_cells, small_luma
from stream_enhance.types import Frame
from tests.stages.test_detect import Bright, detector_of, frame

SIZE, CROP = (1920, 1080), (480, 288)
NOBODY = Expected(np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))


def shown(*squares: tuple[int, int, int], size: tuple[int, int] = SIZE, grey: int = 60) -> av.VideoFrame:
    image = np.full((size[1], size[0]), grey, np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 200
    return av.VideoFrame.from_ndarray(image, "gray")


def swept(regions: Regions, image: av.VideoFrame, seconds: float = 0.0, detections: int = 12) -> float:
    """Show it ``image`` until all of it was looked at; the time."""
    for _ in range(detections):
        regions.plan(image, seconds, NOBODY)
        seconds += 0.08
    return seconds


def holds(plan: Plan, x: int, y: int, side: int) -> bool:
    return any(x0 <= x and y0 <= y and x + side <= x1 and y + side <= y1 for x0, y0, x1, y1 in plan.crops)


def test_what_stands_still_is_looked_at_within_a_second_and_then_hardly_anything() -> None:
    regions, image = Regions(SIZE, CROP), shown((100, 100, 30), (1700, 1000, 30))
    found, seconds = np.zeros((1080, 1920), bool), 0.0
    for _ in range(12):
        for x0, y0, x1, y1 in (plan := regions.plan(image, seconds, NOBODY)).crops:
            found[y0:y1, x0:x1] = True
        assert len(plan.crops) + plan.whole <= BURST
        seconds += 0.08
    assert found.all()
    later = [regions.plan(image, seconds + 0.08 * i, NOBODY) for i in range(25)]
    assert sum(len(plan.crops) for plan in later) == 0
    assert sum(plan.whole for plan in later) <= 1


def test_what_moves_is_looked_at_at_once_and_with_room_around_it() -> None:
    regions = Regions(SIZE, CROP)
    seconds = swept(regions, shown((900, 500, 30)))
    for i in range(1, 10):
        x = 900 + 20 * i
        plan = regions.plan(shown((x, 500, 30)), seconds + 0.08 * i, NOBODY)
        if i > 2:
            assert holds(plan, x - 16, 484, 62)
        assert len(plan.crops) + plan.whole <= CROPS


def test_no_place_is_passed_over_for_ever_where_everything_moves() -> None:
    """A shaking camera is a sweep."""
    regions, found, rng = Regions(SIZE, CROP), np.zeros((1080, 1920), bool), np.random.default_rng(0)
    image = shown()
    seconds = swept(regions, image)
    for i in range(40):
        noise = np.kron(rng.integers(0, 255, (27, 48)), np.ones((40, 40))).astype(np.uint8)
        for x0, y0, x1, y1 in regions.plan(av.VideoFrame.from_ndarray(noise, "gray"), seconds + 0.08 * i, NOBODY).crops:
            found[y0:y1, x0:x1] = True
    assert found.mean() > 0.95


def test_a_followed_face_is_looked_at_again_soon_where_it_is_in_doubt_and_rarely_where_it_stands() -> None:
    box = np.array([[900, 500, 930, 540]], np.float32)
    for urgent, least, most in ((True, 12, 13), (False, 0, 1)):
        regions, image = Regions(SIZE, CROP), shown((900, 500, 30))
        seconds = swept(regions, image)
        expected = Expected(box, np.array([urgent]))
        looks = [len(regions.plan(image, seconds + 0.08 * i, expected).crops) for i in range(13)]
        assert least <= sum(looks) <= most


def test_a_large_face_is_looked_for_in_the_whole_frame() -> None:
    regions, image = Regions(SIZE, CROP), shown((900, 300, 400))
    seconds = swept(regions, image)
    expected = Expected(np.array([[900, 300, 1300, 700]], np.float32), np.array([True]))
    plan = regions.plan(image, seconds, expected)
    assert plan.whole
    assert plan.crops == ()


def test_a_face_that_a_crop_cuts_is_not_counted_as_missed_nor_kept() -> None:
    plan = Plan(((480, 288, 960, 576),), whole=False, size=SIZE, crop=CROP)
    boxes = np.array([[600, 400, 630, 440], [470, 400, 500, 440], [100, 100, 130, 140], [-50, 0, -10, 40]], np.float32)
    assert plan.seen(boxes).tolist() == [True, False, False, True]
    rows = np.concatenate([boxes, np.full((4, 1), 0.9, np.float32)], 1)
    rows[1, 0] = 480
    assert plan.merged([rows[:2]]).tolist() == rows[:1].tolist()


@pytest.mark.parametrize("form", ["gray", "yuv420p", "nv12", "rgb24", "bgra", "gbrp", "yuv420p10le", "p010le"])
def test_luma_is_made_small_from_any_format(form: str) -> None:
    image = shown((0, 0, 64), size=(160, 120)).reformat(format=form)
    small = small_luma(image)
    assert small.shape == (15, 20)
    assert int(small[2, 2]) - int(small[12, 15]) > 90
    assert 45 < small[12, 15] < 80


def test_slow_light_and_noise_change_nothing_and_a_switched_lamp_everything() -> None:
    rng = np.random.default_rng(0)
    before = np.full((135, 240), 80, np.uint8)
    noisy = (before + rng.normal(2, 1.2, before.shape)).astype(np.uint8)
    assert not changed_cells(noisy, before, (34, 60)).any()
    assert changed_cells(before + np.uint8(40), before, (34, 60)).all()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_small_faces_come_back_in_frame_pixels_and_keep_their_ids(rotation: int) -> None:
    detector = detector_of(Bright(), size=320, regions="auto", every=2)
    size = (1080, 1920) if rotation % 180 else SIZE
    scenes = list(detector(frame(700 + 6 * i, 500, 20, size, rotation, i) for i in range(30)))
    for i in range(20, 30):  # all of it is seen by then, and how fast it moves is known
        faces = scenes[i].faces
        assert faces.track.tolist() == [1]
        assert np.allclose(faces.xyxy[0], [700 + 6 * i, 500, 720 + 6 * i, 520], atol=8)


def test_a_face_that_stands_is_followed_though_it_is_rarely_looked_at() -> None:
    session = Bright()
    detector = detector_of(session, size=320, regions="auto")
    scenes = list(detector(frame(700, 500, 20, SIZE, index=i) for i in range(100)))
    assert all(scene.faces.track.tolist() == [1] for scene in scenes[12:])
    assert sum(shape[0] for shape in session.shapes[50:]) <= 12, "crops in fifty frames in which nothing moves"


@pytest.mark.parametrize(
    ("size", "options", "regions"),
    [
        ((1920, 1080), {}, True),
        ((900, 500), {}, False),
        ((1920, 1080), {"regions": "off"}, False),
        ((1920, 1080), {"tiles": 2}, False),
        ((1920, 1080), {"size": 1920}, False),
    ],
)
def test_regions_are_for_frames_much_larger_than_the_input(
    size: tuple[int, int], options: dict[str, object], regions: bool
) -> None:
    session: Any = Bright()
    detector = Detector(session, DetectorOptions.model_validate({"size": 640, **options}))
    list(detector([frame(100, 100, 60, size)]))
    assert (session.shapes[0][2:] == (288, 480)) == regions


def test_a_fixed_input_is_the_crop() -> None:
    session = Bright((384, 640))
    detector = detector_of(session, regions="auto")
    faces = [scene.faces for scene in detector(frame(700, 500, 20, SIZE, index=i) for i in range(12))][-1]
    assert {shape[2:] for shape in session.shapes} == {(384, 640)}
    assert np.allclose(faces.xyxy, [700, 500, 720, 520], atol=4)


def test_a_cut_is_looked_at_anew() -> None:
    session = Bright()
    detector = detector_of(session, size=320, regions="auto")
    frames: list[Frame] = [frame(300, 300, 80, SIZE, index=i) for i in range(30)]
    frames += [frame(1500, 800, 150, SIZE, index=i) for i in range(30, 45)]
    ids = [scene.faces.track.tolist() for scene in detector(frames)]
    assert ids[20] == [1]
    assert ids[44] == [2]


def test_faces_are_found_in_the_small_stream_and_placed_in_the_large_one() -> None:
    from dataclasses import replace

    session = Bright()
    large, small = frame(0, 0, 0, SIZE), frame(160, 90, 32)
    given = replace(large, detect_image=small.image, detect_seconds=large.seconds - 0.1)
    faces = next(detector_of(session, regions="auto")([given])).faces
    assert session.shapes == [(1, 3, 192, 320)]
    assert np.allclose(faces.xyxy[0], [480, 270, 576, 366], atol=8)
