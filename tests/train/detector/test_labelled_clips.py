"""Labels of real clips, what is measured by them, and the calibration of scores."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stream_enhance.backends.card import file_sha256, probability, read_card
from stream_enhance.errors import InputError
from stream_enhance.types import Faces
from train.detector.eval.calibration import calibration_error, fit, rewrite
from train.detector.eval.labelled import COLUMNS, KINDS, LabelledClip, read_all, read_clip
from train.detector.eval.line import on_frames, on_tracks, recall_at, threshold_at
from train.detector.eval.on_clips import Detections


def clip(rows: list[tuple[int, str, str, list[float]]]) -> LabelledClip:
    """Labels at 10 frames a second from (frame, person, kind, box)."""
    frame = np.array([r[0] for r in rows])
    return LabelledClip(
        "clip",
        frame,
        frame / 10,
        np.array([r[1] for r in rows]),
        np.array([r[2] for r in rows]),
        np.array(["frontal" if r[2] == "face" else "" for r in rows]),
        np.array([r[3] for r in rows], np.float32),
        np.full(len(rows), 100, np.float32),
        np.ones(len(rows), bool),
    )


def found(rows: list[tuple[int, list[float], float]]) -> Detections:
    """Detections from (frame, box, score)."""
    frames = np.array(sorted({r[0] for r in rows}))
    table = np.array([[*r[1], r[2], *np.zeros(10)] for r in rows], np.float32)
    return Detections(frames, frames / 10, np.searchsorted(frames, [r[0] for r in rows]), table)


A, B, C = [0.0, 0.0, 20.0, 20.0], [100.0, 0.0, 120.0, 20.0], [200.0, 0.0, 220.0, 20.0]


def test_the_labels_in_the_repository_can_be_read() -> None:
    clips = read_all()
    assert len(clips) >= 10
    for one in clips:
        assert set(one.kind.tolist()) <= set(KINDS)
        assert (one.xyxy[:, 2:] > one.xyxy[:, :2]).all()
        assert ((one.pose != "") == (one.kind == "face")).all()
    assert sum(int((c.judged & (c.kind == "face")).sum()) for c in clips) > 800


@pytest.mark.parametrize("line", ["0,0.0,1,nose,,1,2,3,4,99,1", "0,0.0,1,face,frontal,1,2,3,x,99,1"])
def test_a_label_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "clip.csv"
    path.write_text(",".join(COLUMNS) + "\n" + line + "\n")
    with pytest.raises(InputError, match=r"clip\.csv"):
        read_clip(path)


def test_unclear_heads_count_neither_way_and_backs_of_heads_are_false() -> None:
    labels = clip([(0, "a", "face", A), (0, "b", "unclear", B), (0, "c", "head", C)])
    result = on_frames(labels, found([(0, A, 0.9), (0, B, 0.8), (0, C, 0.7), (0, A, 0.6)]))
    assert result.score.tolist() == pytest.approx([0.9, 0.7])  # the second box on a face does not count
    assert result.right.tolist() == [True, False]
    assert result.best.tolist() == pytest.approx([0.9])


def test_recall_at_a_rate_of_false_detections() -> None:
    labels = clip([(f, p, "face", box) for f in (0, 2) for p, box in (("a", A), ("b", B))])
    result = on_frames(labels, found([(0, A, 0.9), (0, B, 0.3), (0, C, 0.5), (2, A, 0.8), (2, B, 0.6), (2, C, 0.2)]))
    assert threshold_at([result], 0.5) == pytest.approx(0.2)
    assert recall_at([result], 0.5, lambda r: r.height > 0) == 1.0
    assert recall_at([result], 0.1, lambda r: r.height > 0) == 0.75


def test_tracks_are_counted_by_person() -> None:
    labels = clip([(f, "a", "face", A) for f in range(11)] + [(f, "c", "head", C) for f in range(11)])

    def faces(rows: list[tuple[int, list[float]]]) -> Faces:
        boxes = np.array([r[1] for r in rows], np.float32).reshape(-1, 4)
        return Faces(boxes, np.full(len(rows), 0.8, np.float32), np.array([r[0] for r in rows], np.int64), None)

    shown = [(f / 10, faces([(1 if f < 5 else 2, A), (7, C)] if f != 4 else [(7, C)])) for f in range(11)]
    result = on_tracks(labels, shown)
    assert (result.persons, result.in_time, result.instants, result.covered) == (1, 1, 11, 10)
    assert (result.breaks, result.switches, result.false, result.on_heads) == (1, 1, 1, 1)


def test_a_calibrated_score_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0.05, 0.95, 20_000).astype(np.float32)
    logit = np.log(score / (1 - score))
    right = rng.random(len(score)) < 1 / (1 + np.exp(-(2 * logit + 1)))
    slope, offset = fit(score, right)
    assert slope == pytest.approx(2, abs=0.1)
    assert offset == pytest.approx(1, abs=0.1)
    card = read_card("engines/yolov8n-face.onnx").model_copy(update={"calibration": (slope, offset)})
    calibrated = probability(card, score)
    assert calibrated is not None
    assert calibration_error(calibrated, right) < 0.015
    assert calibration_error(score, right) > 0.1


def test_nothing_to_calibrate_by_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to calibrate by"):
        fit(np.array([0.2, 0.9], np.float32), np.array([True, True]))


def test_the_detector_that_ships_is_calibrated_and_keeps_the_order_of_scores() -> None:
    score = np.linspace(0, 1, 50, dtype=np.float32)
    calibrated = probability(read_card("engines/yolov8n-face.onnx"), score)
    assert calibrated is not None
    assert (np.diff(calibrated) >= 0).all()
    assert 0.5 < calibrated[20] < 0.7  # of 0.4, the threshold


def test_an_8_bit_file_stays_that_of_the_file_whose_card_changed(tmp_path: Path) -> None:
    for name in ("yolov8n-face.onnx", "yolov8n-face.int8.onnx"):
        shutil.copy(Path("engines") / name, tmp_path)
    model, reduced = tmp_path / "yolov8n-face.onnx", tmp_path / "yolov8n-face.int8.onnx"
    rewrite(model, {"calibration": (1.5, 0.5)})
    assert read_card(model).calibration == (1.5, 0.5)
    assert read_card(reduced).source_sha256 == file_sha256(model)
