"""How often the runtime's tracker loses a face because of a detector, on runs of neighbouring frames.

A reference face (`train.detector.eval.clips`) that overlaps itself from frame to frame is a chain. The detections go
through the runtime's tracker, and each frame of a chain has the number of the track that lies on it, or none.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stream_enhance.stages.track import Tracker
from stream_enhance.types import Faces
from train.detector.boxes import iou
from train.detector.eval.clips import LENGTH, SAME, Reference, tally

SHORTEST = 4  # frames of a chain that counts
RATE = 25.0  # frames a second


def chains(references: Sequence[Reference]) -> list[list[tuple[int, int]]]:
    """Each chain as (frame, number of the reference face) pairs, frame after frame within one run."""
    held: list[list[tuple[int, int]]] = []
    open_: dict[int, list[tuple[int, int]]] = {}
    nothing = [np.zeros((0, 5), np.float32)] * len(references)
    for frame, one in enumerate(tally(nothing, references)):
        following: dict[int, list[tuple[int, int]]] = {}
        for face, before in enumerate(one.before):
            chain = open_.pop(int(before), None) if before >= 0 else None
            if chain is None:
                chain = []
                held.append(chain)
            chain.append((frame, face))
            following[face] = chain
        open_ = following
    return [chain for chain in held if len(chain) >= SHORTEST]


def tracked(rows: Sequence[NDArray[np.float32]], score: float) -> list[Faces]:
    """What the tracker shows on every frame, restarted with each run; `rows` as a `Finder` gives them."""
    shown = []
    tracker = Tracker(score)
    for number, row in enumerate(rows):
        if number % LENGTH == 0:
            tracker = Tracker(score)
        kept = row[row[:, 4] > score]
        found = Faces(kept[:, :4], kept[:, 4], np.full(len(kept), -1, np.int64), None)
        shown.append(tracker.update(found, number % LENGTH / RATE))
    return shown


def followed(rows: Sequence[NDArray[np.float32]], references: Sequence[Reference], score: float) -> dict[str, float]:
    """How the tracker follows the reference faces on detections above `score`.

    `chains`: how many; `frames`: of them all; `found`: chains with a track at least once; `covered`: share of frames
    with a track on them; `breaks`: how often a chain's track ends or changes before the chain does, a chain; `tracks`:
    track numbers a chain that has any.
    """
    shown = tracked(rows, score)
    count = frames = covered = breaks = 0
    numbers = []
    for chain in chains(references):
        count += 1
        ids = []
        for frame, face in chain:
            faces = shown[frame]
            overlaps = iou(references[frame].faces[face : face + 1], faces.xyxy)[0]
            ids.append(int(faces.track[overlaps.argmax()]) if overlaps.max(initial=0) > SAME else 0)
        frames += len(ids)
        covered += sum(number > 0 for number in ids)
        breaks += sum(a > 0 and a != b for a, b in pairwise(ids))
        if any(ids):
            numbers.append(len(set(ids) - {0}))
    return {
        "chains": float(count),
        "frames": float(frames),
        "found": float(len(numbers)),
        "covered": covered / max(frames, 1),
        "breaks": breaks / max(count, 1),
        "tracks": float(np.mean(numbers)) if numbers else 0.0,
    }
