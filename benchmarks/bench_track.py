"""Milliseconds a frame of our tracker beside libraries that could stand in its place, in one run.

    python -m benchmarks.bench_track [--frames 300]

Boxes move at constant speed with noise; every library that is installed is timed, the others are named as absent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.conditions import conditions, save
from stream_enhance.stages.track import Tracker
from stream_enhance.types import Faces


def ours() -> Callable[[np.ndarray, int], Any]:
    tracker = Tracker(0.3)

    def update(boxes: np.ndarray, frame: int) -> Any:
        n = len(boxes)
        return tracker.update(Faces(boxes, np.full(n, 0.9, np.float32), np.full(n, -1), None), frame / 25)

    return update


def norfair() -> Callable[[np.ndarray, int], Any]:
    import norfair as library

    tracker = library.Tracker("iou", distance_threshold=0.7)

    def update(boxes: np.ndarray, frame: int) -> Any:
        return tracker.update([library.Detection(box.reshape(2, 2).astype(float)) for box in boxes])

    return update


def trackers() -> Callable[[np.ndarray, int], Any]:
    import supervision
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker()

    def update(boxes: np.ndarray, frame: int) -> Any:
        n = len(boxes)
        found = supervision.Detections(boxes, confidence=np.full(n, 0.9), class_id=np.zeros(n, int))
        return tracker.update(found)

    return update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    given = parser.parse_args()
    print(json.dumps(conditions()))
    figures: dict[str, Any] = {}
    for faces in (1, 10, 100):
        rng = np.random.default_rng(0)
        start = rng.uniform(0, 1800, (faces, 2))
        speed = rng.normal(0, 2, (faces, 2))
        updates: dict[str, Any] = {}
        for make in (ours, norfair, trackers):
            try:
                updates[make.__name__] = make()
            except ImportError as error:
                print(f"{make.__name__}: not installed ({error.name})")
        times: dict[str, list[float]] = {name: [] for name in updates}
        for frame in range(given.frames):
            low = start + speed * frame + rng.normal(0, 0.5, (faces, 2))
            boxes = np.concatenate([low, low + 30], 1).astype(np.float32)
            for name, update in updates.items():
                started = time.perf_counter()
                update(boxes, frame)
                times[name].append(time.perf_counter() - started)
        base = statistics.median(times["ours"])
        for name, seconds in times.items():
            ms = statistics.median(seconds) * 1000
            figures[f"{name}, {faces} faces"] = round(ms, 3)
            print(f"{faces:4d} faces  {name:9s} {ms:8.3f} ms a frame  {ms / 1000 / base:6.1f} x ours")
    save("track", figures)


if __name__ == "__main__":
    main()
