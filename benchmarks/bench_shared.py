"""Four lines at once on shared networks against one line with the same frames, both at full speed.

    python -m benchmarks.bench_shared CLIP [--lines 4] [--rounds 3]

The one line runs CLIP so many times in a row on networks of its own; the lines run it once each, at the same time, on
networks that batch what they ask.  Every run encodes to a file.  Rounds are interleaved; given are the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.conditions import conditions, save
from stream_enhance.backends.batching import BatchingSession
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--lines", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    print(json.dumps(conditions()))
    config = load(None, given.set)
    rates: dict[str, list[float]] = {"one": [], "shared": []}
    sizes: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Pipeline(config) as one,
        Pipeline(config, shared=True) as shared,
    ):
        one.run(given.clip, f"{folder}/warm.mp4")
        shared.run(given.clip, f"{folder}/warm2.mp4")
        for number in range(given.rounds):
            outs = [Path(folder) / f"{number}-{i}.mp4" for i in range(given.lines)]
            began = time.monotonic()
            frames = sum(one.run(given.clip, str(out)).frames_out for out in outs)
            rates["one"].append(frames / (time.monotonic() - began))
            rates["shared"].append(_at_once(shared, given.clip, [out.with_suffix(".mkv") for out in outs]))
        for task, session in shared.sessions.items():
            assert isinstance(session, BatchingSession)
            sizes[task] = dict(sorted(session.sizes.items()))
    medians = {name: round(statistics.median(values), 2) for name, values in rates.items()}
    result = {"fps": medians, "shared_over_one": round(medians["shared"] / medians["one"], 3), "batches_by_rows": sizes}
    print(json.dumps(result))
    save("shared", {**result, "all": rates})


def _at_once(pipeline: Pipeline, clip: str, outs: list[Path]) -> float:
    """Frames a second of all lines together."""
    frames: list[int] = []
    threads = [
        threading.Thread(target=lambda out=out: frames.append(pipeline.run(clip, str(out)).frames_out)) for out in outs
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frames) == len(outs), "a line failed"
    return sum(frames) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
