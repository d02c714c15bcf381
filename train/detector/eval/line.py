"""How well faces of labelled clips are found: frame by frame, and as tracks, which is what a user sees.

Detections come from the product's detection stage and go through its tracker. Clips are what intervals are drawn over:
neighbouring frames and faces of one clip resemble each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stream_enhance.stages.track import Tracker
from stream_enhance.types import Faces
from train.common.bootstrap import spread
from train.detector.boxes import iou
from train.detector.eval.labelled import LabelledClip
from train.detector.eval.on_clips import EVERY, Detections

SAME = 0.3  # overlap of a box with a label: a 10-pixel face and its box a few pixels aside
FOUND_WITHIN = 1.0  # seconds


@dataclass(frozen=True)
class FrameResult:
    """All judged frames of a clip: detections with what they hit, and faces with the best score on them."""

    frames: int
    score: NDArray[np.float32]  # (d,) of detections that count
    right: NDArray[np.bool_]  # (d,) hits a face that nothing better hit
    best: NDArray[np.float32]  # (f,) score of the detection that hit the face, or -1
    height: NDArray[np.float32]  # (f,) pixels
    pose: NDArray[np.str_]  # (f,)
    luma: NDArray[np.float32]  # (f,)


def on_frames(clip: LabelledClip, found: Detections) -> FrameResult:
    """The clip's judged frames; a detection on an unclear head, or a second one on a face, does not count."""
    judged = clip.take(clip.judged)
    wanted = np.unique(clip.frame[clip.judged])
    if not len(wanted):
        wanted = found.frame[:: max(1, len(found.frame) // 20)]
    score, right, best, rows = [], [], [], []
    seen = 0
    for number in wanted:
        nearest = int(np.abs(found.frame - number).argmin())  # every `EVERY`-th frame was looked at
        if abs(int(found.frame[nearest]) - int(number)) >= EVERY:
            continue
        seen += 1
        faces = found.at(nearest)
        here = np.flatnonzero(judged.frame == number)
        overlaps = iou(faces.xyxy, judged.xyxy[here])
        is_face = judged.kind[here] == "face"
        taken = np.full(len(here), -1.0, np.float32)
        for i in range(len(faces)):  # best first
            row = np.where(is_face & (taken < 0), overlaps[i], 0)
            if row.max(initial=0) >= SAME:
                taken[row.argmax()] = faces.score[i]
                score.append(faces.score[i])
                right.append(True)
            elif overlaps[i][judged.kind[here] != "head"].max(initial=0) < SAME:
                score.append(faces.score[i])
                right.append(False)
        best.append(taken[is_face])
        rows.append(here[is_face])
    index = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
    boxes = judged.xyxy[index]
    return FrameResult(
        seen,
        np.array(score, np.float32),
        np.array(right, bool),
        np.concatenate([*best, np.zeros(0, np.float32)]),
        boxes[:, 3] - boxes[:, 1],
        judged.pose[index],
        judged.luma[index],
    )


def threshold_at(results: Sequence[FrameResult], rate: float) -> float:
    """The least score at which there are at most `rate` false detections a frame."""
    wrong = np.sort(np.concatenate([r.score[~r.right] for r in results]))[::-1]
    allowed = int(rate * sum(r.frames for r in results))
    return float(wrong[allowed]) if len(wrong) > allowed else 0.0


def recall_at(results: Sequence[FrameResult], rate: float, which: Callable[[FrameResult], NDArray[np.bool_]]) -> float:
    """Share of the faces that `which` picks, found at the threshold of `rate` false detections a frame."""
    bar = threshold_at(results, rate)
    best = np.concatenate([r.best[which(r)] for r in results])
    return float((best > bar).mean()) if len(best) else float("nan")


def followed(found: Detections, score: float, tracker: Tracker | None = None) -> list[tuple[float, Faces]]:
    """What the product's tracker shows at every frame that was looked at, and its time."""
    tracker = tracker or Tracker(score)
    return [
        (float(seconds), tracker.update(found.at(i, score / 2), float(seconds)))
        for i, seconds in enumerate(found.seconds)
    ]


@dataclass(frozen=True)
class TrackResult:
    """One clip's tracks against its labels."""

    minutes: float
    persons: int  # with a face to be seen for half a second at least
    in_time: int  # of them, those with a track within FOUND_WITHIN of their first sight
    instants: int  # of faces, at labelled times
    covered: int
    breaks: int  # a track on a person ends or changes while the face can be seen, and one comes again
    switches: int  # the one that comes has another number
    false: int  # tracks that lie on a face or on something unclear for less than half of their labelled times
    on_heads: int  # of them, those that lie mostly on a head without a face
    kept_false: tuple[tuple[int, float, tuple[float, ...]], ...] = ()  # number, first second, first box


def on_tracks(clip: LabelledClip, shown: Sequence[tuple[float, Faces]]) -> TrackResult:
    """Tracks of one clip at its labelled times."""
    times = np.array([t for t, _ in shown])
    labelled = np.unique(clip.seconds) if len(clip.seconds) else times[::4]
    path: dict[str, list[tuple[float, int]]] = {}  # person: (time, track number or 0) while the face can be seen
    hits: dict[int, list[int]] = {}  # track: labelled times on a face or unclear, on a head, on nothing
    first: dict[int, tuple[float, tuple[float, ...]]] = {}
    for time in labelled:
        now, faces = shown[int(np.abs(times - time).argmin())]
        here = np.flatnonzero(clip.seconds == time)
        overlaps = iou(faces.xyxy, clip.xyxy[here])
        good = clip.kind[here] == "face"
        for column in np.flatnonzero(good):
            on = overlaps[:, column]
            number = int(faces.track[on.argmax()]) if on.max(initial=0) >= SAME else 0
            path.setdefault(str(clip.person[here[column]]), []).append((float(time), number))
        for i, number in enumerate(faces.track.tolist()):
            count = hits.setdefault(number, [0, 0, 0])
            first.setdefault(number, (now, tuple(np.round(faces.xyxy[i], 1).tolist())))
            row = overlaps[i] if len(here) else np.zeros(0)
            kind = str(clip.kind[here[row.argmax()]]) if row.max(initial=0) >= SAME else ""
            count[0 if kind in ("face", "unclear") else 1 if kind == "head" else 2] += 1
    persons = [p for p in path.values() if p[-1][0] - p[0][0] >= 0.5]
    false = [n for n, count in hits.items() if count[0] < sum(count) / 2]
    breaks = switches = 0
    for steps in path.values():
        numbers = [n for _, n in steps]
        seen = [i for i, n in enumerate(numbers) if n]
        for a, b in pairwise(seen):
            breaks += b > a + 1 or numbers[a] != numbers[b]
            switches += numbers[a] != numbers[b]
    return TrackResult(
        float(times[-1] - times[0]) / 60,
        len(persons),
        sum(any(n and t <= p[0][0] + FOUND_WITHIN for t, n in p) for p in persons),
        sum(len(p) for p in path.values()),
        sum(n > 0 for p in path.values() for _, n in p),
        breaks,
        switches,
        len(false),
        sum(hits[n][1] > hits[n][2] for n in false),
        tuple((n, *first[n]) for n in false),
    )


def interval(count: int, figure: Callable[[NDArray[np.int64]], float], rounds: int = 300) -> tuple[float, float]:
    """95 % bootstrap interval of `figure` of the drawn clips' indices."""
    rng = np.random.default_rng(0)
    return spread([figure(rng.integers(0, count, count)) for _ in range(rounds)])
