"""The line against what it takes the place of, in one run, interleaved.

    python -m benchmarks.bench_baselines CLIP [--runs 3] [--frames 100] [--weights yolov8n-face.pt] [--quick]

``original``: the first program's loop: OpenCV's capture, ultralytics at 640 on every frame with its own weights, the
original 54.4 M pix2pix U-Net one face at a time, ``cv2.VideoWriter``.  ``ultralytics script``: the same loop with our
small U-Net.  Both as in ``bench_line``; each measurement has a process of its own and counts from the first frame to
the closed file.  Random weights do for pix2pix: they cost what trained ones cost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.bench_line import line, script
from benchmarks.conditions import conditions, interleaved, median, save
from stream_enhance.config import load

WANTED = {"original": 8.0, "ultralytics script": 3.5}  # times as fast as each, at least


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--weights", default="", help="ultralytics' own .pt; without it our detector's weights")
    parser.add_argument("--set", action="append", default=[], help="of the line, such as precision=int8")
    parser.add_argument("--quick", action="store_true", help="one run of six frames")
    parser.add_argument("--one", choices=["original", "script", "line"], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(one(given)))
        return
    runs, frames = (1, 6) if given.quick else (given.runs, given.frames)
    print(json.dumps(conditions()))
    found = measure(given.clip, runs, frames, given.weights, given.set)
    print("\n".join(table(found)))
    save("baselines", found)


def one(given: argparse.Namespace) -> dict[str, Any]:
    config = load(None, given.set)
    match given.one:
        case "line":
            return line(given.clip, given.frames, config)
        case "original":
            from train.enhancer.models import build

            network = build({"name": "pix2pix"}).eval()
            return script(given.clip, given.frames, config, given.weights, network)
    return script(given.clip, given.frames, config, given.weights)


def measure(clip: str, runs: int, frames: int, weights: str, settings: list[str]) -> dict[str, Any]:
    """Frames a second of each, and how many times the line is as fast."""
    common = [clip, "--frames", str(frames), "--weights", weights]
    variants = {
        "original": [*common, "--one", "original"],
        "ultralytics script": [*common, "--one", "script"],
        "line": [*common, "--one", "line", *(word for each in settings for word in ("--set", each))],
    }
    results = interleaved("benchmarks.bench_baselines", runs, variants)
    fps = {name: round(median(found, "fps"), 2) for name, found in results.items()}
    times = {name: round(fps["line"] / fps[name], 2) for name in WANTED}
    return {"clip": Path(clip).name, "frames": frames, "runs": runs, "fps": fps, "times": times, "set": settings}


def table(found: dict[str, Any]) -> list[str]:
    """Markdown."""
    lines = ["| | frames/s | the line is … times as fast | wanted |", "|---|---|---|---|"]
    for name, fps in found["fps"].items():
        times = found["times"].get(name, 1.0)
        lines.append(f"| {name} | {fps} | {times} | {WANTED.get(name, '')} |")
    return lines


if __name__ == "__main__":
    main()
