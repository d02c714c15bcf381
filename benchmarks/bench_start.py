"""Seconds from the command to the first frame out: a clip of one frame, imports and model loading included.

    python -m benchmarks.bench_start [--runs 5]

Beside it, in the same run: the time Python takes to start and import the same libraries and nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from benchmarks.conditions import conditions, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(conditions()))
    command: list[float] = []
    imports: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "one.mp4"
        with av.open(str(clip), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height = 1280, 720
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((720, 1280, 3), np.uint8), "rgb24")))
            container.mux(stream.encode(None))
        for i in range(given.runs):
            run = ["-m", "stream_enhance", "run", str(clip), "-o", f"{folder}/{i}.mp4", "--quiet"]
            command.append(_seconds(run))
            imports.append(_seconds(["-c", "import av, cv2, numpy, onnxruntime, pydantic, yaml, click"]))
    whole, bare = statistics.median(command), statistics.median(imports)
    print(
        f"command to finished one-frame file {whole:.2f} s; "
        f"the libraries' imports alone {bare:.2f} s ({whole / bare:.2f} x)"
    )
    save("start", {"command_s": command, "imports_s": imports})


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
