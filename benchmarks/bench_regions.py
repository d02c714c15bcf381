"""Small faces in large frames: recall and time of regions against the whole frame, and the line against the script.

    python -m benchmarks.bench_regions CLIP... [--runs 2] [--frames 150] [--line]

A CLIP of ``benchmarks.made_scenes`` has its faces' places beside it (.json); of any other, what detection at 1920 on
every frame shows is taken for the truth.  Detection alone is measured in core milliseconds a frame, decoding left out;
the first second, in which regions look at everything once, is given by itself.
``--line`` adds frames a second of the whole line and of the script (ultralytics at 640 on every frame; see
``bench_line``).  Every measurement has a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_line import line, script
from benchmarks.conditions import conditions, median, one, save
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline
from stream_enhance.sources.open import open_source
from stream_enhance.types import Frame

START = 25  # frames whose time is given by itself
SAME = 0.4  # overlap of a face that is found
BANDS = ((0, 24), (24, 32), (32, 10_000))  # pixels of height
VARIANTS = {
    "640, whole frame": ["detector.regions=off"],
    "regions": [],
    "1920, every frame": ["detector.size=1920", "detector.every=1", "detector.regions=off"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--line", action="store_true", help="Measure the whole line and the script, too.")
    parser.add_argument("--one", choices=["detection", "line", "script"], help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    if given.one:
        measure = {"detection": detection, "line": line, "script": script}[given.one]
        print(json.dumps(measure(given.clips[0], given.frames, load(None, given.set))))
        return
    print(json.dumps(conditions()))
    save("regions", {"frames": given.frames, "clips": {Path(c).name: compared(c, given) for c in given.clips}})


def compared(clip: str, given: Any) -> dict[str, Any]:
    """The table of one clip, printed and returned."""
    common = [clip, "--frames", str(given.frames), *(word for s in given.set for word in ("--set", s))]
    variants = {
        name: [*common, "--one", "detection", *(word for s in sets for word in ("--set", s))]
        for name, sets in VARIANTS.items()
    }
    lines = {"line, 640": [*common, "--one", "line", "--set", "detector.regions=off"]}
    lines |= {"line, regions": [*common, "--one", "line"], "script": [*common, "--one", "script"]}
    found = {name: [one("benchmarks.bench_regions", *words)] for name, words in variants.items()}
    timed = {name: words for name, words in variants.items() if name != "1920, every frame"}
    for _ in range(given.runs - 1):
        for name, words in timed.items():
            found[name].append(one("benchmarks.bench_regions", *words))
    truth = known(clip, given.frames) or found["1920, every frame"][0]["faces"]
    base = median(found["640, whole frame"], "ms")
    table: dict[str, Any] = {}
    print(Path(clip).name)
    for name, results in found.items():
        recalls, alarms = recall(truth, results[0]["faces"])
        ms = median(results, "ms")
        table[name] = {"recall": recalls, "false_a_frame": alarms, "ms": round(ms, 1), "times": round(ms / base, 2)}
        start = table[name]["start_ms"] = round(median(results, "start_ms"))
        print(f"  {name:18s} {ms:6.1f} ms a frame, {ms / base:5.2f} x (first second: {start} ms in all)")
        print(f"{'':21s}recall {recalls}; {alarms} boxes a frame on no face")
    if given.line:
        rates = {
            name: [one("benchmarks.bench_regions", *words) for _ in range(given.runs)] for name, words in lines.items()
        }
        for name, results in rates.items():
            table[name] = round(median(results, "fps"), 1)
            times = table[name] / median(rates["script"], "fps")
            print(f"  {name:18s} {table[name]:6.1f} frames/s, {times:.2f} x the script")
    return table


def detection(clip: str, frames: int, config: Any) -> dict[str, Any]:
    """Core milliseconds of the detection stage a frame, and the boxes it shows on each."""
    shown: list[list[list[float]]] = []
    with Pipeline(config) as pipeline:
        list(pipeline.detector()(f for f, _ in zip(open_source(clip).frames(), range(2), strict=False)))  # warm
        given: list[Frame] = []

        def current() -> Iterator[Frame]:
            while given:
                yield given.pop()

        took, stage = [0.0, 0.0], None  # seconds after the start, and at the start
        for frame, _ in zip(open_source(clip).frames(), range(frames), strict=False):
            given.append(frame)
            stage = stage or pipeline.detector()(current())
            began = time.process_time()
            scene = next(stage)
            took[len(shown) < START] += time.process_time() - began
            shown.append(np.round(scene.faces.xyxy, 1).tolist())
    return {"ms": 1000 * took[0] / max(1, len(shown) - START), "start_ms": 1000 * took[1], "faces": shown}


def known(clip: str, frames: int) -> list[list[list[float]]]:
    path = Path(clip).with_suffix(".json")
    return (
        [[face["box"] for face in one_frame] for one_frame in json.loads(path.read_text())[:frames]]
        if path.is_file()
        else []
    )


def recall(truth: list[list[list[float]]], shown: list[list[list[float]]]) -> tuple[dict[str, float], float]:
    """Share of the faces that are shown, in all and by height, and boxes a frame that lie on none."""
    heights: list[float] = []
    hits: list[bool] = []
    false = 0
    for wanted, boxes in zip(truth, shown, strict=False):
        overlap = iou(np.array(wanted, np.float32).reshape(-1, 4), np.array(boxes, np.float32).reshape(-1, 4))
        heights += [box[3] - box[1] for box in wanted]
        hits += (overlap.max(1, initial=0) > SAME).tolist()
        false += int((overlap.max(0, initial=0) < SAME / 2).sum())
    height, hit = np.array(heights), np.array(hits, bool)
    result = {"all": round(float(hit.mean()), 3)} if len(hit) else {}
    for low, high in BANDS:
        if (band := (height >= low) & (height < high)).any():
            result[f"{low}-{high}"] = round(float(hit[band].mean()), 3)
    return result, round(false / max(1, len(shown)), 2)


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared + 1e-9), np.float32)


if __name__ == "__main__":
    main()
