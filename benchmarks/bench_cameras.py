"""How many cameras this machine carries: lines are added until the age of their frames passes the limit.

    python -m benchmarks.bench_cameras CLIP [--size 640x360] [--rate 10] [--limit 300] [--from 1] [--to 16]

A process of its own sends CLIP, encoded once, as MPEG-TS over UDP on loopback to each camera, so that no encoder of
the benchmark's takes the machine's time.  All lines share the networks, as in ``serve``, and encode to files.  Age
counts from decoded to written; the first five seconds are left out.  Beside it, in the same run: how many such cameras
the script of ``bench_line`` (ultralytics at 640 on every frame) could carry by its frame rate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.conditions import conditions, one, save
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline
from stream_enhance.run import Run
from stream_enhance.sources.open import open_source

WARM = 5.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--rate", type=int, default=10)
    parser.add_argument("--limit", type=float, default=300, help="Milliseconds, of the age's p99.")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--to", dest="last", type=int, default=16)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    print(json.dumps(conditions()))
    counts = range(given.first, given.last + 1, given.step)
    found = measure(given.clip, given.size, given.rate, counts, given.limit, given.seconds, given.set)
    print("\n".join(table(found)))
    save(f"cameras_{given.size}", found)


def measure(
    source: str,
    size: str,
    rate: int,
    counts: Sequence[int],
    limit: float = 300,
    seconds: float = 15,
    changes: Sequence[str] = (),
    script: bool = True,
) -> dict[str, Any]:
    """Lines of ``size`` at ``rate`` in each of ``counts`` in turn, until one is not kept up with.

    Args:
        source: the clip.
        size: "640x360".
        rate: frames a second of each camera.
        counts: how many cameras at once, rising.
        limit: milliseconds, of the age's p99.
        seconds: measured of each count, after ``WARM``.
        changes: settings, "key=value".
        script: whether the script of ``bench_line`` is measured too.
    """
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        encode(source, clip, tuple(map(int, size.split("x"))), rate)
        found: dict[str, Any] = {"size": size, "rate": rate, "limit_ms": limit, "cameras": 0, "table": {}}
        if script:
            found["script_fps"] = one("benchmarks.bench_line", str(clip), "--frames", "60", "--one", "script")["fps"]
            found["script_cameras"] = found["script_fps"] / rate
        for count in counts:
            found["table"][count] = row = carried(clip, count, rate, seconds, changes, Path(folder))
            print(f"{count} cameras: {json.dumps(row)}", flush=True)
            if not kept_up(row, limit):
                break
            found["cameras"] = count
    return found


def table(found: dict[str, Any]) -> list[str]:
    """Markdown."""
    lines = ["| cameras | age p50, ms | p95 | p99 | dropped | frames/s |", "|---|---|---|---|---|---|"]
    for count, row in found["table"].items():
        ages = " | ".join(str(row["age_ms"][p]) for p in ("p50", "p95", "p99"))
        lines.append(f"| {count} | {ages} | {row['dropped']} of {row['frames'] + row['dropped']} | {row['fps']} |")
    kept = f"Kept up with (p99 of at most {found['limit_ms']:g} ms, one frame in a hundred dropped): {found['cameras']}"
    by_script = f"; the ultralytics script: {found['script_cameras']:.1f}" if "script_cameras" in found else ""
    return [*lines, "", f"{kept} cameras of {found['size']} at {found['rate']} frames/s{by_script}."]


def kept_up(row: dict[str, Any], limit: float) -> bool:
    """Young enough, and not by dropping more than one frame in a hundred."""
    return bool(row["frames"] and row["age_ms"]["p99"] <= limit and row["dropped"] <= 0.01 * row["frames"])


def encode(source: str, to: Path, size: tuple[int, ...], rate: int) -> None:
    """At most 15 seconds of ``source`` in that size and at that rate, as a camera encodes: no B-frames."""
    with av.open(source) as clip, av.open(str(to), "w") as out:
        video = clip.streams.video[0]
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "g": str(2 * rate)}
        stream: Any = out.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        step, count = max(1.0, float(video.average_rate or rate) / rate), 0
        for i, frame in enumerate(clip.decode(video)):
            if i < count * step or count >= 15 * rate:
                continue
            image = frame.reformat(size[0], size[1], "yuv420p")
            image.pts, image.time_base, image.pict_type = count, Fraction(1, rate), 0
            out.mux(stream.encode(image))
            count += 1
        out.mux(stream.encode(None))


def send(clip: str, ports: list[int], rate: int) -> None:
    """CLIP in a loop to each port, in time, each camera a little later than the one before."""
    with av.open(clip) as source:
        packets = [(bytes(p), p.is_keyframe) for p in source.demux(video=0) if p.size]
        outs = [av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", "mpegts") for port in ports]
        streams = [out.add_stream_from_template(source.streams.video[0]) for out in outs]
    began, count = time.monotonic(), 0
    while True:
        for i, (out, stream) in enumerate(zip(outs, streams, strict=True)):
            due = began + (count + i / len(outs)) / rate
            time.sleep(max(0.0, due - time.monotonic()))
            data, key = packets[count % len(packets)]
            packet = av.Packet(data)
            packet.stream, packet.is_keyframe, packet.time_base = stream, key, Fraction(1, rate)
            packet.pts = packet.dts = count
            out.mux(packet)
        count += 1


def carried(clip: Path, count: int, rate: int, seconds: float, changes: Sequence[str], folder: Path) -> dict[str, Any]:
    """Age of the frames of so many cameras at once, and what was dropped."""
    config = load(None, list(changes))
    ports = [free_port() for _ in range(count)]
    sender = multiprocessing.get_context("spawn").Process(target=send, args=(str(clip), ports, rate), daemon=True)
    runs: list[Run] = []
    with Pipeline(config, shared=True) as pipeline:
        sources = [open_source(f"udp://127.0.0.1:{port}", config.source, config.live) for port in ports]
        sender.start()
        for i, source in enumerate(sources):
            source.wait_ready()
            runs.append(pipeline.new_run(source, pipeline.outputs([str(folder / f"{count}-{i}.ts")], source)))
        threads = [threading.Thread(target=run.go, args=(seconds + WARM,)) for run in runs]
        for thread in threads:
            thread.start()
        time.sleep(WARM)
        dropped = sum(run.dropped for run in runs)
        for run in runs:
            run.ages.clear()
        for thread in threads:
            thread.join()
        ages = np.concatenate([np.array(run.ages) for run in runs]) * 1000
        for source in sources:
            source.close()
        sender.terminate()
        return {
            "age_ms": {f"p{p}": round(float(np.percentile(ages, p)), 1) if len(ages) else None for p in (50, 95, 99)},
            "fps": round(len(ages) / seconds, 1),
            "frames": len(ages),
            "dropped": sum(run.dropped for run in runs) - dropped,
            "faces": sum(run.faces for run in runs),
            "quality_steps": [run.quality_controller.step for run in runs],
        }


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
