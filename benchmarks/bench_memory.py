"""Resident memory over a long file: its slope from frame 500 on, and its peak.

    python -m benchmarks.bench_memory CLIP [--frames 10000] [--size 1920x1080]

The clip is encoded once at ``--size`` and its packets are repeated until the file holds ``--frames``; the line then
reads that file as it reads any other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from benchmarks.conditions import conditions, save
from stream_enhance import memory
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline


def repeated(clip: str, path: Path, frames: int, size: tuple[int, int]) -> None:
    """Write ``frames`` frames of ``clip``, over and over, at ``size`` into ``path``."""
    with av.open(clip) as source, av.open(str(path), "w") as out:
        rate = source.streams.video[0].average_rate or Fraction(25)
        coder: Any = av.CodecContext.create("libx264", "w")
        coder.width, coder.height, coder.pix_fmt = *size, "yuv420p"
        coder.framerate, coder.time_base = rate, 1 / rate
        coder.options = {"preset": "veryfast", "crf": "23", "bf": "0"}
        images = [frame.reformat(*size, format="yuv420p") for frame in source.decode(video=0)]
        for index, frame in enumerate(images):
            frame.pts, frame.time_base = index, 1 / rate
        coded = [bytes(packet) for frame in [*images, None] for packet in coder.encode(frame)]
        stream: Any = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        out.start_encoding()
        for index in range(frames):
            packet: Any = av.Packet(coded[index % len(coded)])
            packet.stream, packet.time_base = stream, 1 / rate
            packet.pts = packet.dts = index
            packet.is_keyframe = index % len(coded) == 0
            out.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    print(json.dumps(conditions()), flush=True)
    width, height = map(int, given.size.split("x"))
    process, points = psutil.Process(), []

    def watch(run: Any) -> None:
        points.append((run.done, process.memory_info().rss / 2**20))
        if len(points) % 100 == 0:
            print(f"frame {points[-1][0]}: {points[-1][1]:.1f} MB", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.ts"
        repeated(given.clip, long, given.frames, (width, height))
        before = process.memory_info().rss / 2**20
        with Pipeline(load(None, given.set)) as pipeline:
            memory.configure_allocator()  # as the command does
            report = pipeline.run(str(long), f"{folder}/out.mp4", watch=watch)
    warm = np.array([p for p in points if p[0] >= 500])
    slope = float(np.polyfit(warm[:, 0] / 1000, warm[:, 1], 1)[0])
    peak = max(p[1] for p in points)
    print(
        f"{report.frames_out} frames of {given.size}: {slope:+.2f} MB per 1,000 frames from frame 500 on, "
        f"peak {peak:.0f} MB, {before:.0f} MB of it before the run"
    )
    save("memory", {"size": given.size, "frames": report.frames_out, "slope_mb": slope, "peak_mb": peak})


if __name__ == "__main__":
    main()
