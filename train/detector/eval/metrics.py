"""How good a detector is: AP, recall at a false-alarm rate, point error, by face size, with bootstrap intervals.

One image's outcome is an `Outcome`: every detection's score and what it hit, every face's height and who found it.
A size bucket counts faces by box height in the image's own pixels; detections that hit faces of other buckets, and
false alarms of other sizes, do not count against it (as COCO does).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.common.bootstrap import resample, spread
from train.detector.boxes import Labels, iou, overlap

LEVELS = np.arange(0.5, 1.0, 0.05)  # overlaps of AP50-95
BUCKETS: dict[str, tuple[float, float]] = {
    "all": (0, 1e9),
    "8-16": (8, 16),
    "16-24": (16, 24),
    "24-40": (24, 40),
    "40-80": (40, 80),
    ">80": (80, 1e9),
}
RATE = 0.1  # false alarms an image


@dataclass(frozen=True)
class Outcome:
    """One image: detections best first, and faces."""

    score: NDArray[np.float32]  # (d,)
    height: NDArray[np.float32]  # (d,) of the detection's box, or of the face it hit at 0.5
    hit: NDArray[np.bool_]  # (levels, d): hits a face that nobody better hit
    void: NDArray[np.bool_]  # (d,): on a face that does not count
    faces: NDArray[np.float32]  # (f,) heights of the faces that count
    face_score: NDArray[np.float32]  # (f,) of the detection that found it at 0.5, or -inf
    point_error: NDArray[np.float32]  # (f,) mean distance / eye distance where found and known, else nan


def judge(rows: NDArray[np.float32], truth: Labels) -> Outcome:
    """Match detections (rows of x1, y1, x2, y2, score[, points]) with an image's faces, best first."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    faces = truth.take(~truth.ignore)
    overlaps = iou(rows[:, :4], faces.xyxy)  # (d, f)
    heights = faces.xyxy[:, 3] - faces.xyxy[:, 1]
    hit = np.zeros((len(LEVELS), len(rows)), bool)
    mate = np.full(len(rows), -1)
    for number, level in enumerate(LEVELS):
        free = overlaps.copy()
        for i in range(len(rows)):
            if not len(faces):
                break
            best = int(free[i].argmax())
            if free[i, best] >= level:
                hit[number, i] = True
                free[:, best] = -1
                if number == 0:
                    mate[i] = best
    height = rows[:, 3] - rows[:, 1]
    height[mate >= 0] = heights[mate[mate >= 0]]
    ignored = truth.take(truth.ignore)
    inner = overlap(rows[:, :4], ignored.xyxy) / np.maximum((rows[:, 2:4] - rows[:, :2]).prod(1, keepdims=True), 1e-6)
    void = (inner.max(1, initial=0) > 0.5) & (mate < 0)
    face_score, error = np.full(len(faces), -np.inf, np.float32), np.full(len(faces), np.nan, np.float32)
    for i in np.flatnonzero(mate >= 0).tolist():
        face_score[mate[i]] = rows[i, 4]
        known = faces.points[mate[i]]
        if rows.shape[1] >= 15 and known[:, 2].all():
            eyes = max(float(np.hypot(*(known[0, :2] - known[1, :2]))), 1e-3)
            apart = np.hypot(*(rows[i, 5:15].reshape(5, 2) - known[:, :2]).T)
            error[mate[i]] = apart.mean() / eyes
    return Outcome(rows[:, 4], height.astype(np.float32), hit, void, heights, face_score, error)


@dataclass(frozen=True)
class Pool:
    """All images' outcomes as flat arrays; `owner` is the number of each one's image."""

    images: int
    owner: NDArray[np.int64]
    score: NDArray[np.float32]
    height: NDArray[np.float32]
    hit: NDArray[np.bool_]
    void: NDArray[np.bool_]
    f_owner: NDArray[np.int64]
    faces: NDArray[np.float32]
    face_score: NDArray[np.float32]
    point_error: NDArray[np.float32]


def pool(outcomes: Sequence[Outcome]) -> Pool:
    """`outcomes` flattened, detections best first."""
    owner = np.repeat(np.arange(len(outcomes)), [len(o.score) for o in outcomes])
    score = np.concatenate([o.score for o in outcomes])
    order = np.argsort(-score, kind="stable")
    return Pool(
        len(outcomes),
        owner[order],
        score[order],
        np.concatenate([o.height for o in outcomes])[order],
        np.concatenate([o.hit for o in outcomes], 1)[:, order],
        np.concatenate([o.void for o in outcomes])[order],
        np.repeat(np.arange(len(outcomes)), [len(o.faces) for o in outcomes]),
        np.concatenate([o.faces for o in outcomes]),
        np.concatenate([o.face_score for o in outcomes]),
        np.concatenate([o.point_error for o in outcomes]),
    )


def figures(
    held: Pool, weight: NDArray[np.float64] | None = None, levels: int = len(LEVELS)
) -> dict[str, dict[str, float]]:
    """Per bucket: ap50, ap (50-95), recall at RATE false alarms an image, point error, faces. `weight` (images,) is
    how often each image counts."""
    times = np.ones(held.images) if weight is None else weight
    d, f = times[held.owner], times[held.f_owner]
    alarm = ~held.hit[0] & ~held.void
    alarms = np.cumsum(d * alarm)
    over = np.flatnonzero(alarms > RATE * times.sum())
    bar = float(held.score[over[0]]) if len(over) else -np.inf  # the best score that must no longer count
    result = {}
    for name, (low, high) in BUCKETS.items():
        face = (held.faces >= low) & (held.faces < high)
        total = float(f[face].sum())
        if total == 0:
            continue
        mine = (held.height >= low) & (held.height < high) & ~held.void
        aps = [average_precision(held.hit[n, mine], d[mine], total) for n in range(levels)]
        found = face & (held.face_score > bar)
        known = face & ~np.isnan(held.point_error)
        result[name] = {
            "ap50": aps[0],
            "ap": float(np.mean(aps)),
            "recall": float(f[found].sum()) / total,
            "points": float(np.average(held.point_error[known], weights=f[known])) if f[known].sum() else float("nan"),
            "faces": total,
        }
    return result


def average_precision(hit: NDArray[np.bool_], weight: NDArray[np.float64], faces: float) -> float:
    """Area under the interpolated precision-recall curve; detections best first."""
    if not len(hit):
        return 0.0
    right = np.cumsum(weight * hit)
    precision = right / np.maximum(np.cumsum(weight), 1e-9)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], right / faces])
    return float((np.diff(recall) * precision).sum())


def intervals(held: Pool, rounds: int = 300, seed: int = 0) -> dict[str, dict[str, tuple[float, float]]]:
    """95 % bootstrap intervals over images of ap50, recall and points, per bucket."""
    rng = np.random.default_rng(seed)
    draws = [figures(held, resample(held.images, rng), 1) for _ in range(rounds)]
    return {
        bucket: {
            name: spread([draw[bucket][name] for draw in draws if bucket in draw])
            for name in ("ap50", "recall", "points")
        }
        for bucket in BUCKETS
        if all(bucket in draw for draw in draws[:5])
    }
