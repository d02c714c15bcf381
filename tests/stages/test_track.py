import numpy as np
import pytest

from stream_enhance.stages.track import Tracker, TrackerOptions
from stream_enhance.types import Faces


def tracker_of(high_threshold: float = 0.3, **options: float) -> Tracker:
    return Tracker(high_threshold, TrackerOptions(**options))


def faces(*boxes: tuple[float, float, float, float], score: float = 0.8, points: bool = False) -> Faces:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(xyxy)
    center = ((xyxy[:, :2] + xyxy[:, 2:]) / 2).astype(np.float32)
    five = np.repeat(center[:, None], 5, 1) if points else None
    return Faces(xyxy, np.full(n, score, np.float32), np.full(n, -1, np.int64), five)


def box(x: float, y: float = 50, side: float = 20) -> tuple[float, float, float, float]:
    return (x, y, x + side, y + side)


def test_two_faces_that_pass_keep_their_ids() -> None:
    tracker = tracker_of()
    for i in range(30):
        shown = tracker.update(faces(box(10 + 5 * i, 50), box(160 - 5 * i, 75)), i / 25)
    by_id = {int(t): b[0] for t, b in zip(shown.track, shown.xyxy, strict=True)}
    assert tracker.begun == 2
    assert by_id[1] > 140
    assert by_id[2] < 30


def test_an_id_survives_missed_detections() -> None:
    tracker = tracker_of(coast_ttl=0.2, lost_ttl=1.0)
    for i in range(10):
        tracker.update(faces(box(10 + 4 * i)), i / 25)
    for i in range(10, 20):  # 0.4 s without a detection
        shown = tracker.update(faces(), i / 25)
    assert len(shown) == 0
    shown = tracker.update(faces(box(10 + 4 * 20)), 20 / 25)
    assert shown.track.tolist() == [1]


def test_a_face_not_seen_for_long_is_a_new_track() -> None:
    tracker = tracker_of(lost_ttl=1.0)
    tracker.update(faces(box(10)), 0.0)
    assert tracker.update(faces(box(10)), 2.0).track.tolist() == [2]


@pytest.mark.parametrize("every", [2, 4])
def test_between_detections_boxes_move_with_the_face(every: int) -> None:
    tracker, worst = tracker_of(), 0.0
    for i in range(50):
        true = 10 + 3 * i
        shown = tracker.update(faces(box(true), points=True), i / 25) if i % every == 0 else tracker.predict(i / 25)
        if i > 20:
            worst = max(worst, abs(float(shown.xyxy[0, 0]) - true))
            assert shown.points is not None
            assert abs(float(shown.points[0, 0, 0]) - true - 10) < 1.5, "points ride with the box"
    assert worst < 1.5


def test_a_doubtful_face_is_shown_when_it_is_seen_again() -> None:
    tracker = tracker_of(high_threshold=0.3, confirm_threshold=0.6)
    assert len(tracker.update(faces(box(10), score=0.4), 0.0)) == 0
    assert tracker.begun == 0
    assert tracker.update(faces(box(11), score=0.4), 0.04).track.tolist() == [1]
    tracker.update(faces(box(11), box(200), score=0.4), 0.08)  # flickers once, elsewhere
    assert tracker.update(faces(box(11), score=0.4), 0.12).track.tolist() == [1]
    assert tracker.begun == 1


def test_unsure_detections_continue_a_track_but_begin_none() -> None:
    tracker = tracker_of(high_threshold=0.5)
    assert len(tracker.update(faces(box(10), score=0.3), 0.0)) == 0
    tracker.update(faces(box(10)), 0.04)
    assert tracker.update(faces(box(11), score=0.3), 0.08).track.tolist() == [1]


def test_unsure_detections_do_not_continue_a_track_for_ever() -> None:
    """Else a lid that looked like a face for a moment is one until the clip ends."""
    tracker = tracker_of(high_threshold=0.3, coast_ttl=0.25, low_score_ttl=2.0)
    tracker.update(faces(box(10)), 0.0)
    shown = [len(tracker.update(faces(box(10), score=0.2), i / 25)) for i in range(1, 100)]
    assert shown[:50] == [1] * 50
    assert shown[60:] == [0] * 39
    assert tracker.update(faces(box(10)), 4.0).track.tolist() == [2]


def test_a_box_of_another_size_in_the_same_place_is_another_face() -> None:
    tracker = tracker_of()
    tracker.update(faces(box(50, 50, 20)), 0.0)
    tracker.update(faces((20, 20, 100, 100)), 0.04)
    assert tracker.begun == 2


def test_no_faces_at_all() -> None:
    tracker = tracker_of()
    assert len(tracker.update(faces(), 0.0)) == 0
    assert len(tracker.predict(0.04)) == 0


def test_evidence_is_the_mean_of_the_three_best_scores_and_coasting_says_that_the_last_detection_missed() -> None:
    tracker = tracker_of(coast_ttl=1.0)
    for i, score in enumerate((0.7, 0.5, 0.9, 0.8, 0.4)):
        shown = tracker.update(faces(box(10), score=score), i / 25)
    assert shown.evidence is not None
    assert shown.coasting is not None
    assert shown.evidence.tolist() == pytest.approx([0.8])
    assert not tracker.predict(0.18).coasting.any(), "between detections nothing was missed"  # type: ignore[union-attr]
    missed = tracker.update(faces(box(300)), 0.24)
    assert missed.coasting is not None
    assert missed.coasting.tolist() == [True, False]
    assert missed.take(np.array([1])).evidence.tolist() == pytest.approx([0.8])  # type: ignore[union-attr]


def test_a_face_that_nobody_looked_at_grows_no_older_and_is_not_coasting() -> None:
    def nowhere(xyxy: np.ndarray) -> np.ndarray:
        return np.zeros(len(xyxy), bool)

    tracker = tracker_of(coast_ttl=0.2, lost_ttl=1.0)
    tracker.update(faces(box(10)), 0.0)
    for i in range(1, 40):
        seen = tracker.update(faces(), i / 10, nowhere)
        assert seen.track.tolist() == [1]
        assert seen.coasting is not None
        assert not seen.coasting.any()
    missed = tracker.update(faces(), 4.0)
    assert missed.coasting is not None
    assert missed.coasting.tolist() == [True]
    assert len(tracker.update(faces(), 4.3, nowhere)) == 0, "missed once, it coasts out"


def test_where_tracks_are_expected_and_which_are_in_doubt() -> None:
    tracker = tracker_of(confirm_threshold=0.6)
    tracker.update(faces(box(10), box(200), score=0.4), 0.0)
    for i in (1, 2):
        tracker.update(faces(box(10 + 4 * i), score=0.4), i / 10)
    boxes, urgent = tracker.expected(0.3)
    assert boxes.shape == (2, 4)
    assert 18 < boxes[0, 0] < 23
    assert urgent.tolist() == [False, True]
