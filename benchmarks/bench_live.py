"""How old a frame is when it comes out: from the camera's sensor to a player that reads our output.

    python -m benchmarks.bench_live CLIP [--seconds 60] [--size 640x360] [--fps 25] [--only to_muxed]

A camera (GStreamer's RTSP server on loopback, x264 ultrafast with zerolatency) plays CLIP in a loop and draws its clock
into each frame.  ``to_muxed`` reads it back from each frame the moment that our muxer has written it: it holds the
camera's encoder, the network, decoding, the whole line and our encoder.  ``to_player``: ``stream-enhance run`` sends
MPEG-TS to a pipe, a reader decodes that; FFmpeg's demuxer gives a frame when the next begins, so this holds one or
two frame times more.  A third run asks too much of the line: detection at 960 on every frame, no cache.  Needs what
tests/live needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.conditions import conditions, save
from stream_enhance.cli.options import seconds_of
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline
from stream_enhance.sources.open import open_source
from stream_enhance.types import Rendered
from tests.live.cameras import Camera, missing

BITS, BLOCK = 24, 16  # as tests/live/camera.py draws them
OVERLOAD = ["--set", "detector.size=960", "--set", "detector.every=1", "--set", "enhancer.cache_tolerance=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--max-age", default="300ms")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--only", help="One of the three.")
    parser.add_argument("--starts", type=int, default=0, help="Only begin so often, and time the first frame.")
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    width, height = (int(side) for side in given.size.split("x"))
    chosen = [word for each in given.set for word in ("--set", each)]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "clip.i420"
        decoded(given.clip, width, height, raw)
        with Camera(raw=raw, width=width, height=height, fps=given.fps) as camera:
            if given.starts:
                save("live_starts", starts(camera.url, given, Path(folder)))
                return
            runs: dict[str, Callable[[], dict[str, Any]]] = {
                "to_muxed": lambda: muxed(camera.url, given, Path(folder)),
                "to_player": lambda: measured(camera.url, given, Path(folder), chosen),
                "to_player, overloaded": lambda: measured(camera.url, given, Path(folder), [*chosen, *OVERLOAD]),
            }
            results = {name: run() for name, run in runs.items() if given.only in (None, name)}
    for name, result in results.items():
        print(f"{name}: {json.dumps(result)}")
    save("live" if given.only is None else f"live_{given.only}", results)


def starts(url: str, given: Any, folder: Path) -> dict[str, Any]:
    """Seconds from the command to the first frame that a reader of its output has decoded, so often."""
    given.seconds = 6
    seconds = [
        measured(url, given, folder, [])["first_frame_s"]["process start to reader"] for _ in range(given.starts)
    ]
    print(seconds)
    return {"first_frame_s": {"median": float(np.median(seconds)), "worst": max(seconds), "all": seconds}}


def decoded(clip: str, width: int, height: int, to: Path) -> None:
    """At most 250 frames of ``clip`` as raw I420."""
    with av.open(clip) as container, to.open("wb") as raw:
        for i, frame in enumerate(container.decode(video=0)):
            if i == 250:
                break
            raw.write(frame.reformat(width, height, "yuv420p").to_ndarray().tobytes())


def measured(url: str, given: Any, folder: Path, chosen: list[str]) -> dict[str, Any]:
    """One run, its output read back frame by frame."""
    report = folder / "report.json"
    words = ["run", url, "-o", "-", "--quiet", "--duration", f"{given.seconds}s", "--max-age", given.max_age]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "stream_enhance", *words, "--report", str(report), *chosen],
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    options = {"probesize": "32768", "analyzeduration": "0", "flags": "low_delay"}
    container = av.open(process.stdout, format="mpegts", options=options)
    assert isinstance(container, av.container.InputContainer)
    container.streams.video[0].thread_type = "SLICE"
    times, ages = [], []
    for frame in container.decode(video=0):
        times.append(time.monotonic() - started)
        ages.append(age(frame))
    process.wait()
    result = json.loads(report.read_text())
    return {
        **figures(times, ages),
        "frames_read": len(ages),
        "first_frame_s": {"process start to reader": round(times[0], 2), "report": result["first_frame_s"]},
        "line_age_ms": result["age_ms"],
        "frames": {key: result[f"frames_{key}"] for key in ("in", "out", "dropped", "no_signal")},
        "balanced": result["frames_in"] == result["frames_out"] + result["frames_dropped"],
        "fps": result["fps"],
        "quality": result["quality"],
        "faces_enhanced": result["faces_enhanced"],
    }


def muxed(url: str, given: Any, folder: Path) -> dict[str, Any]:
    """One run in this process, each frame's age taken as soon as it has been muxed."""
    config = load(None, [f"live.max_age={seconds_of(given.max_age)}", *given.set])
    times: list[float] = []
    ages: list[float] = []

    def measured(items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        for item in written(items):
            if not item.enhanced.scene.frame.no_signal:
                times.append(time.monotonic())
                ages.append(age(item.image))
            yield item

    source = open_source(url, config.source, config.live)
    with Pipeline(config) as pipeline:
        source.wait_ready()
        run = pipeline.new_run(source, pipeline.outputs([str(folder / "out.ts")], source))
        written, run.line.workers[-1].stage = run.line.workers[-1].stage, measured
        run.go(given.seconds)
        result = run.report().as_dict()
        source.close()
    return {**figures(times, ages), "line_age_ms": result["age_ms"], "fps": result["fps"], "quality": result["quality"]}


def figures(times: list[float], ages: list[float]) -> dict[str, Any]:
    """Without the first three seconds."""
    warm = np.array(times) > times[0] + 3
    minutes, ms = (np.array(times)[warm] - times[0]) / 60, np.array(ages)[warm]
    return {
        "p50_by_minute": [round(float(np.median(ms[minutes.astype(int) == m])), 1) for m in range(int(minutes[-1]))],
        "glass_ms": {f"p{p}": round(float(np.percentile(ms, p)), 1) for p in (50, 95, 99)},
        "slope_ms_per_minute": round(float(np.polyfit(minutes, ms, 1)[0]), 2),
    }


def age(frame: av.VideoFrame) -> float:
    """Milliseconds since the clock in the frame."""
    luma = frame.to_ndarray()[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK]
    shown = sum(1 << bit for bit in range(BITS) if luma[bit] > 120)
    return float((int(time.time() * 1000) - shown) % (1 << BITS))


if __name__ == "__main__":
    main()
