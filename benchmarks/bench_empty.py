"""What the line costs where there is no face: against a bare PyAV transcode plus detection, interleaved, in one run.

    python -m benchmarks.bench_empty [--runs 3] [--frames 300] [--size 1920x1080]

The clip is a pan over a photograph without people (scikit-image's coffee cup, CC0), so it needs the ``dev`` extra.
Detection is what the line does by default: the same network at the same size on every second frame.  Given are seconds
of the clock and core-seconds; decoding is in the transcode, model loading in neither.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

from benchmarks.bench_line import enhanced, transcode
from benchmarks.conditions import conditions, interleaved, median, save
from stream_enhance.config import Config
from stream_enhance.pipeline import Pipeline
from stream_enhance.sources.open import open_source


def pan(path: Path, frames: int, width: int, height: int) -> None:
    """Write a clip that moves over the photograph, H.264."""
    import cv2
    import skimage.data

    frame = cv2.resize(skimage.data.coffee(), (width + 320, height + 180), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height = width, height
        for index in range(frames):
            x, y = (abs(index * speed % (2 * room) - room) for speed, room in ((3, 320), (2, 180)))
            image = av.VideoFrame.from_ndarray(frame[y : y + height, x : x + width].copy(), "rgb24")
            image.pts, image.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))


def measured(work: Any) -> dict[str, float]:
    """Seconds of the clock and of the cores that ``work()`` takes; what it returns are faces found."""
    wall, cores = time.perf_counter(), time.process_time()
    faces = work()
    return {"wall": time.perf_counter() - wall, "cores": time.process_time() - cores, "faces": faces}


def line(clip: str, frames: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, Pipeline(Config()) as pipeline:
        return measured(lambda: enhanced(pipeline, clip, frames, f"{folder}/out.mp4").faces_detected)


def detection(clip: str, frames: int) -> dict[str, float]:
    with Pipeline(Config()) as pipeline:
        few = list(islice(open_source(clip).frames(), 8))  # decoding is the transcode's
        detector = pipeline.detector()
        list(detector(few))  # the first run of a network takes its time
        return measured(lambda: sum(len(s.faces) for s in detector(few[i % 8] for i in range(frames))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--one", choices=["line", "transcode", "detection"], help=argparse.SUPPRESS)
    parser.add_argument("--clip", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        bare = lambda: transcode(given.clip, given.frames, Config())["frames"] * 0  # noqa: E731
        work = {"line": line, "detection": detection}.get(given.one)
        print(json.dumps(work(given.clip, given.frames) if work else measured(bare)))
        return
    print(json.dumps(conditions()))
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "empty.mp4"
        pan(clip, given.frames, *map(int, given.size.split("x")))
        common = ["--clip", str(clip), "--frames", str(given.frames), "--one"]
        names = ("line", "transcode", "detection")
        results = interleaved("benchmarks.bench_empty", given.runs, {name: [*common, name] for name in names})
    ratios = {}
    for key in ("wall", "cores"):
        own, bare, found = (1000 * median(results[name], key) / given.frames for name in names)
        ratios[key] = own / (bare + found)
        print(
            f"{key:5s} line {own:.1f} ms a frame, transcode {bare:.1f} + detection {found:.1f}: {ratios[key]:.2f} times"
        )
    print(f"faces found: {results['line'][0]['faces']:.0f}")
    save("empty", {"size": given.size, "frames": given.frames, "ratios": ratios, "raw": results})


if __name__ == "__main__":
    main()
