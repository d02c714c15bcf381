"""Resident memory over a long file: its slope from frame 500 on, and its peak.

    python -m benchmarks.bench_memory CLIP [--frames 10000] [--size 1920x1080]

The clip is played over and over, enlarged to ``--size``, until ``--frames`` have gone through the whole line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import psutil

from benchmarks.conditions import conditions, save
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline
from stream_enhance.source import open_source
from stream_enhance.types import Frame


class Loop:
    """A clip over and over, at another size."""

    def __init__(self, clip: str, frames: int, size: tuple[int, int]) -> None:
        self._clip, self._count, self._size = clip, frames, size
        self._source = open_source(clip)
        self.side_streams: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def frames(self) -> Generator[Frame, None, None]:
        index = 0
        while index < self._count:
            source = open_source(self._clip)
            for frame in source.frames():
                image = frame.image.reformat(*self._size)
                step = round(1 / (source.rate or 25) / frame.time_base)
                yield replace(frame, image=image, index=index, pts=index * step)
                index += 1
                if index == self._count:
                    break
            source.packets.clear()
            source.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    print(json.dumps(conditions()))
    width, height = map(int, given.size.split("x"))
    process, points = psutil.Process(), []

    def watch(run: Any) -> None:
        points.append((run.done, process.memory_info().rss / 2**20))

    with tempfile.TemporaryDirectory() as folder, Pipeline(load(None, given.set)) as pipeline:
        report = pipeline.run(Loop(given.clip, given.frames, (width, height)), f"{folder}/out.mp4", watch=watch)
    settled = np.array([p for p in points if p[0] >= 500])
    slope = float(np.polyfit(settled[:, 0] / 1000, settled[:, 1], 1)[0])
    peak = max(p[1] for p in points)
    print(
        f"{report.frames_out} frames of {given.size}: {slope:+.2f} MB per 1,000 frames from frame 500 on, "
        f"peak {peak:.0f} MB"
    )
    save("memory", {"size": given.size, "frames": report.frames_out, "slope_mb": slope, "peak_mb": peak})


if __name__ == "__main__":
    main()
