"""Labels: read with clear errors, moved and matched rightly; metrics on cases that can be counted by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_enhance.errors import InputError
from train.common.images import read_image
from train.detector import boxes
from train.detector.eval import comparison, metrics


def rows(*items: tuple[float, ...]) -> np.ndarray:
    return np.array(items, np.float32).reshape(-1, 5)


def test_a_yolo_label_becomes_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    assert boxes.read_yolo(tmp_path / "a.txt", 200, 100).xyxy.tolist() == [[80, 30, 120, 70]]


def test_an_empty_label_file_means_no_faces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    assert len(boxes.read_yolo(tmp_path / "a.txt", 200, 100)) == 0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0 0.9 0.5 0.4 0.2\n", "a.txt:1: a box outside"),
        ("0 0.5 0.5\n", "a.txt:1: not a label"),
        ("face\n", "not a label"),
    ],
)
def test_a_bad_label_is_named_with_its_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=what):
        boxes.read_yolo(tmp_path / "a.txt", 200, 100)


def test_a_missing_label_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label file"):
        boxes.read_yolo(tmp_path / "a.txt", 200, 100)


def test_a_truncated_image_is_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = (tmp_path / "a.jpg").read_bytes()
    assert read_image(tmp_path / "a.jpg").shape == (64, 64, 3)
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.jpg: truncated"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not an image"):
        read_image(tmp_path / "b.png")


def test_a_list_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(InputError, match="no training images"):
        boxes.read_list(tmp_path / "train.txt")
    with pytest.raises(InputError, match="no such list"):
        boxes.read_list(tmp_path / "val.txt")


def test_flipping_twice_is_nothing_and_once_swaps_the_points() -> None:
    points = np.array([[[10, 5, 1], [20, 5, 1], [15, 9, 1], [11, 12, 1], [19, 12, 0]]], np.float32)
    faces = boxes.labels([[5, 0, 25, 20]], points)
    once = boxes.flipped(faces, 100)
    assert once.xyxy.tolist() == [[75, 0, 95, 20]]
    assert once.points[0, 0].tolist() == [80, 5, 1]
    assert once.points[0, 3, 2] == 0, "the hidden corner is now on the left"
    assert np.array_equal(boxes.flipped(once, 100).points, faces.points)


def test_iou_and_suppression() -> None:
    a = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], np.float32)
    assert boxes.iou(a, a)[0].tolist() == pytest.approx([1, 90 / 110, 0])
    assert boxes.suppress(a, np.array([0.5, 0.9, 0.2]), 0.5).tolist() == [1, 2]


def test_ap_of_perfect_detections_is_one_and_a_false_alarm_first_halves_it() -> None:
    truth = boxes.labels([[0, 0, 20, 20]])
    right, wrong = (0, 0, 20, 20, 0.8), (50, 50, 70, 70, 0.9)
    perfect = metrics.figures(metrics.pool([metrics.judge(rows(right), truth)]))
    assert perfect["all"]["ap50"] == pytest.approx(1)
    assert perfect["16-24"]["ap"] == pytest.approx(1)
    assert "24-40" not in perfect
    halved = metrics.figures(metrics.pool([metrics.judge(rows(right, wrong), truth)]))
    assert halved["all"]["ap50"] == pytest.approx(0.5)


def test_a_second_detection_of_one_face_is_a_false_alarm() -> None:
    truth = boxes.labels([[0, 0, 20, 20]])
    judged = metrics.judge(rows((0, 0, 20, 20, 0.9), (1, 0, 20, 20, 0.8)), truth)
    assert judged.hit[0].tolist() == [True, False]
    assert not judged.void.any()


def test_a_detection_on_an_ignored_face_does_not_count() -> None:
    truth = boxes.labels([[0, 0, 20, 20]], None, [True])
    judged = metrics.judge(rows((0, 0, 20, 20, 0.9)), truth)
    assert judged.void.tolist() == [True]
    assert len(judged.faces) == 0


def test_recall_is_taken_at_one_false_alarm_in_ten_images() -> None:
    truth = boxes.labels([[0, 0, 20, 20]])
    found = [rows((0, 0, 20, 20, 0.5 + 0.01 * n)) for n in range(20)]
    found[0] = np.concatenate([found[0], rows((50, 50, 70, 70, 0.95), (80, 80, 95, 95, 0.9), (40, 0, 60, 20, 0.6))])
    outcomes = [metrics.judge(row, truth) for row in found]
    # two alarms are allowed in twenty images, so the third one's score, 0.6, is where counting ends
    assert metrics.figures(metrics.pool(outcomes))["all"]["recall"] == pytest.approx(9 / 20)


def test_scores_below_zero_count_like_any_other() -> None:
    truth = boxes.labels([[0, 0, 20, 20], [50, 50, 70, 70]])
    held = metrics.pool([metrics.judge(rows((0, 0, 20, 20, -1.5), (90, 90, 99, 99, -3)), truth)])
    assert metrics.figures(held)["all"]["recall"] == pytest.approx(0.5), "the face that nobody found stays unfound"


def test_the_points_error_is_in_eye_distances() -> None:
    points = np.array([[[10, 10, 1], [20, 10, 1], [15, 15, 1], [11, 20, 1], [19, 20, 1]]], np.float32)
    row = np.concatenate([[5, 5, 25, 25, 0.9], (points[0, :, :2] + [1, 0]).ravel()])[None].astype(np.float32)
    held = metrics.pool([metrics.judge(row, boxes.labels([[5, 5, 25, 25]], points))])
    assert metrics.figures(held)["all"]["points"] == pytest.approx(0.1)


def test_the_interval_holds_the_figure() -> None:
    rng = np.random.default_rng(0)
    truth = boxes.labels([[0, 0, 20, 20]])
    held = metrics.pool(
        [metrics.judge(rows((0, 0, 20, 20, 0.9)) if rng.random() < 0.7 else rows(), truth) for _ in range(60)]
    )
    low, high = metrics.intervals(held, 100)["all"]["recall"]
    assert low < metrics.figures(held)["all"]["recall"] < high


def test_two_detectors_are_compared_on_the_faces_that_both_find() -> None:
    points = np.array([[[10, 10, 1], [20, 10, 1], [15, 15, 1], [11, 20, 1], [19, 20, 1]]], np.float32)
    truth = boxes.labels([[5, 5, 25, 25], [45, 45, 65, 65]], np.concatenate([points, points + np.array([40, 40, 0])]))

    def detection(place: float, off: float) -> np.ndarray:
        at = points[0, :, :2] + place
        return np.concatenate([[5 + place, 5 + place, 25 + place, 25 + place, 0.9], (at + np.array([off, 0])).ravel()])

    ours = np.stack([detection(0, 1), detection(40, 5)]).astype(np.float32)
    theirs = detection(0, 2)[None].astype(np.float32)
    pools = {
        f"{name}/val/640": metrics.pool([metrics.judge(rows_, truth)] * 4)
        for name, rows_ in (("ours", ours), ("teacher", theirs))
    }
    table = comparison.table(pools, "teacher")
    assert "| val | 640 | all | +0.500 (+0.500 to +0.500) | +0.500" in table
    assert "0.100 against 0.200, -0.100" in table, "the face that only ours finds does not count"


def test_a_turned_face_is_boxed_as_an_oval() -> None:
    faces = boxes.labels([[-10, -20, 10, 20]])
    half = np.radians(45)
    turn = np.array([[np.cos(half), -np.sin(half), 0], [np.sin(half), np.cos(half), 0]])
    square, oval = (boxes.moved(faces, turn, kind).xyxy[0, 2] for kind in (False, True))
    assert square == pytest.approx(30 * np.cos(half))
    assert oval == pytest.approx(np.hypot(10, 20) * np.cos(half))
    still = np.array([[2.0, 0, 1], [0, 1, 3]])
    assert np.allclose(boxes.moved(faces, still).xyxy, boxes.moved(faces, still, oval=True).xyxy)
