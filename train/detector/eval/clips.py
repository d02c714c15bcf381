"""The detectors on real surveillance clips without labels, against what two networks see on frames enlarged twice.

A face is a reference where teacher and YuNet agree on the enlarged frame; a detection where neither fires is a false
alarm; everything else does not count. Runs of neighbouring frames show how often a reference face is lost from one
frame to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.bootstrap import spread
from train.common.images import Image
from train.detector.boxes import iou
from train.detector.eval.peers import Finder

RUNS, LENGTH = 3, 10  # runs of neighbouring frames per clip, frames per run
SAME, NEAR = 0.4, 0.3  # overlap of two networks' boxes on one face, and of a detection on what anybody sees
TEACHER_LEAST, YUNET_LEAST = 0.3, 0.5
TEACHER_ANY, YUNET_ANY = 0.1, 0.2


@dataclass(frozen=True)
class Reference:
    """One frame's reference faces, and everything either network fires on; xyxy in pixels of the frame."""

    faces: NDArray[np.float32]  # (n, 4)
    anything: NDArray[np.float32]  # (m, 4)


def read_runs(path: Path) -> list[Image]:
    """RUNS x LENGTH frames of the clip, evenly spread. Raises InputError where it is missing or too short."""
    if not path.is_file():
        raise InputError(f"{path}: no such clip")
    with av.open(str(path)) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    if len(frames) < RUNS * LENGTH:
        raise InputError(f"{path}: {len(frames)} frames; {RUNS * LENGTH} are needed")
    starts = np.linspace(0, len(frames) - LENGTH, RUNS).astype(int)
    return [frames[start + i] for start in starts for i in range(LENGTH)]


def refer(image: Image, teacher: Finder, yunet: Finder) -> Reference:
    """What the two networks see on the frame enlarged twice."""
    height, width = image.shape[:2]
    large = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    rows, other = (find(large, 2 * max(width, height)) for find in (teacher, yunet))
    first, second = rows[rows[:, 4] > TEACHER_LEAST, :4] / 2, other[other[:, 4] > YUNET_LEAST, :4] / 2
    faces = first[iou(first, second).max(1, initial=0) > SAME]
    anything = np.concatenate([rows[rows[:, 4] > TEACHER_ANY, :4], other[other[:, 4] > YUNET_ANY, :4]]) / 2
    return Reference(faces.astype(np.float32), anything.astype(np.float32))


@dataclass(frozen=True)
class Tally:
    """One frame of one detector, at any threshold: the scores of reference faces and false alarms."""

    found: NDArray[np.float32]  # (reference faces,) best score on it, or -1
    alarms: NDArray[np.float32]  # scores
    before: NDArray[np.int64]  # (reference faces,) the same face's number in the frame before, or -1


def tally(rows: Sequence[NDArray[np.float32]], references: Sequence[Reference]) -> list[Tally]:
    """Every frame of a clip, RUNS x LENGTH of them."""
    out = []
    for number, (row, reference) in enumerate(zip(rows, references, strict=True)):
        overlaps = iou(reference.faces, row[:, :4])  # (reference faces, detections)
        found = np.where(overlaps > SAME, row[None, :, 4], -1.0).max(1, initial=-1.0)
        alarms = row[iou(row[:, :4], reference.anything).max(1, initial=0) < NEAR, 4]
        before = np.full(len(reference.faces), -1)
        if number % LENGTH and len(reference.faces) and len(references[number - 1].faces):
            steady = iou(reference.faces, references[number - 1].faces)
            before = np.where(steady.max(1) > SAME, steady.argmax(1), -1)
        out.append(Tally(found.astype(np.float32), alarms, before))
    return out


def at(tallies: Sequence[Tally], score: float) -> dict[str, float]:
    """Recall of reference faces, false alarms a frame, and breaks: of the found reference faces that stay from one
    frame to the next, the share that is lost."""
    faces = sum(len(t.found) for t in tallies)
    hits = sum(int((t.found > score).sum()) for t in tallies)
    alarms = sum(int((t.alarms > score).sum()) for t in tallies)
    kept = lost = 0
    for last, now in pairwise(tallies):
        stays = now.before >= 0
        had = last.found[now.before[stays]] > score if stays.any() else np.zeros(0, bool)
        kept += int(had.sum())
        lost += int((had & ~(now.found[stays] > score)).sum())
    return {
        "faces": float(faces),
        "recall": hits / max(faces, 1),
        "alarms": alarms / max(len(tallies), 1),
        "breaks": lost / max(kept, 1),
    }


def score_for(tallies: Sequence[Tally], alarms: float) -> float:
    """The least score at which there are no more than `alarms` false alarms a frame."""
    scores = np.sort(np.concatenate([t.alarms for t in tallies]))[::-1]
    allowed = int(np.floor(alarms * len(tallies) + 1e-9))
    return float(scores[allowed]) if len(scores) > allowed else 0.0


def recall_interval(tallies: Sequence[Tally], score: float, rounds: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of the recall, runs of neighbouring frames drawn as wholes."""
    rng = np.random.default_rng(0)
    runs = [tallies[i : i + LENGTH] for i in range(0, len(tallies), LENGTH)]
    hits = np.array([sum((t.found > score).sum() for t in run) for run in runs], float)
    faces = np.array([sum(len(t.found) for t in run) for run in runs], float)
    draws = rng.integers(0, len(runs), (rounds, len(runs)))
    recalls = hits[draws].sum(1) / np.maximum(faces[draws].sum(1), 1)
    return spread(recalls)
