"""Detectors on clips without labels, counted by hand; and the peers that are measured beside ours."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stream_enhance.errors import InputError, ModelError
from train.detector.boxes import labels
from train.detector.eval import clips
from train.detector.eval import evaluate as detector_eval
from train.detector.eval import peers as detector_peers
from train.detector.eval import report as detector_report
from train.detector.eval import tracks as detector_tracks

FACE = (10.0, 10.0, 30.0, 34.0)


def rows(*items: tuple[float, ...]) -> np.ndarray:
    return np.array(items, np.float32).reshape(-1, 5)


def reference(*faces: tuple[float, ...]) -> clips.Reference:
    boxes = np.array(faces, np.float32).reshape(-1, 4)
    return clips.Reference(boxes, np.concatenate([boxes, [[60, 60, 80, 80]]]).astype(np.float32))


def test_a_detection_where_nobody_fires_is_a_false_alarm_and_a_half_believed_one_is_nothing() -> None:
    found = rows((*FACE, 0.9), (61, 61, 80, 80, 0.8), (100, 100, 120, 120, 0.7))
    (one,) = clips.tally([found], [reference(FACE)])
    assert one.found.tolist() == pytest.approx([0.9])
    assert one.alarms.tolist() == pytest.approx([0.7])


def test_a_face_lost_from_one_frame_to_the_next_is_a_break() -> None:
    frames = [rows((*FACE, 0.9)), rows((*FACE, 0.2)), rows((*FACE, 0.9)), rows((*FACE, 0.9))]
    tallies = clips.tally(frames, [reference(FACE)] * 4)
    figures = clips.at(tallies, 0.5)
    assert figures["recall"] == pytest.approx(0.75)
    assert figures["breaks"] == pytest.approx(1 / 2), "found in frames 0 and 2, and lost after the first"
    assert clips.at(tallies, 0.1)["breaks"] == 0


def test_the_threshold_for_a_rate_of_false_alarms() -> None:
    frames = [rows((100, 100, 120, 120, score)) for score in (0.9, 0.6, 0.3, 0.1)]
    tallies = clips.tally(frames, [reference(FACE)] * 4)
    bar = clips.score_for(tallies, 0.5)
    assert clips.at(tallies, bar)["alarms"] == pytest.approx(0.5)
    assert clips.score_for(tallies, 2.0) == 0


def test_runs_of_frames_come_from_all_over_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for n in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * n, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    frames = clips.read_runs(path)
    levels = [float(frame.mean()) for frame in frames]
    assert len(frames) == clips.RUNS * clips.LENGTH
    assert levels[0] < 4
    assert levels[-1] > 230
    with pytest.raises(InputError, match="no such clip"):
        clips.read_runs(tmp_path / "none.mp4")


def test_the_letterbox_maps_back_to_the_image() -> None:
    image = np.zeros((90, 160, 3), np.uint8)
    image[40:50, 80:100] = 255
    view = detector_peers.letterbox(image, 320)
    assert view.image.shape == (192, 320, 3)
    rows_, columns = np.nonzero(view.image[..., 0] > 200)
    assert (columns.min() - view.left) / view.scale[0] == pytest.approx(80, abs=1)
    assert (rows_.max() + 1 - view.top) / view.scale[1] == pytest.approx(50, abs=1)


def test_missing_peers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        detector_peers.yolo(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="no such model file"):
        detector_peers.yunet(tmp_path / "none.onnx")
    if not hasattr(cv2, "CascadeClassifier"):
        with pytest.raises(InputError, match="has no Haar cascades"):
            detector_peers.haar()


def test_detections_are_computed_once_and_kept(tmp_path: Path) -> None:
    calls = []

    def find(image: np.ndarray, side: int) -> np.ndarray:
        calls.append(side)
        return rows((*FACE, 0.5))

    samples = [(np.zeros((40, 40, 3), np.uint8), labels([FACE]))] * 3
    for _ in range(2):
        found = detector_eval.detect(tmp_path, "x", "val", 320, lambda: samples, lambda: find)
        assert len(found) == 3
    assert calls == [320] * 3
    held = detector_eval.measure(found, samples)
    assert detector_eval.summary({"x/val/320": held}, 5)["x/val/320"]["figures"]["all"]["ap50"] == pytest.approx(1)


def test_a_track_that_ends_before_its_face_does_is_a_break() -> None:
    references = [reference(FACE)] * (2 * clips.LENGTH)
    seen = rows((*FACE, 0.9))
    steady = detector_tracks.followed([seen] * len(references), references, 0.4)
    assert steady == {"chains": 2, "frames": 20, "found": 2, "covered": 1, "breaks": 0, "tracks": 1}
    gone = [seen] * 3 + [rows()] * 17
    lost = detector_tracks.followed(gone, references, 0.4)
    assert lost["breaks"] == pytest.approx(1 / 2)
    assert 3 / 20 <= lost["covered"] < 1
    weak = detector_tracks.followed([rows((*FACE, 0.3))] * len(references), references, 0.4)
    assert weak["covered"] == weak["tracks"] == weak["found"] == 0
    table = detector_report.tracks_table({(320, "ours"): [steady, lost]}, {"ours": 0.4})
    assert "| 3 of 4 |" in table
