"""Four cameras and their page for a long time, with a fault every 20 s and strangers at the port: nothing may grow.

    python -m benchmarks.bench_soak CLIP [--minutes 30]

The cameras are one RTSP server on loopback that plays CLIP in a loop, 640x360 at 5 frames a second, seen through a
proxy; in turn it is killed and started again, frozen for 6 s, its connections are reset, and one camera's line is
restarted.  Meanwhile strangers (``benchmarks.strangers``) do to the page's port what they like.  Each camera has a
gallery and is recorded in segments of half a minute; 20 MB of each are kept.  Given are frames a second of each camera
between faults, and the slopes of resident memory, threads and open files after a warm-up of a fifth of the time.  Needs
what tests/live needs.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_live import decoded
from benchmarks.conditions import conditions, save
from stream_enhance.config import load
from stream_enhance.memory import resident
from stream_enhance.server import connections
from stream_enhance.server.access import hashed
from stream_enhance.server.app import make_server
from stream_enhance.server.config import CameraConfig
from stream_enhance.server.shots import ShotStore
from stream_enhance.server.supervisor import Supervisor
from tests.live.cameras import Camera, missing
from tests.live.proxy import Proxy

NAMES = "abcd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    kept = ["segments.seconds=30", "segments.keep_megabytes=20"]
    settings = load(None, [*kept, *given.set]).model_dump(exclude_unset=True)
    samples: list[tuple[float, int, int, int]] = []
    rates: list[list[float]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a gallery may be finishing still
        raw = Path(folder) / "clip.i420"
        decoded(given.clip, 640, 360, raw)
        with Camera(paths=",".join(NAMES), fps=5, raw=raw) as camera, Proxy(camera.port) as proxy:
            counts, faults = soak(given, settings, Path(folder), camera, proxy, samples, rates)
    print(json.dumps(counts))
    result = {"minutes": given.minutes, "faults": faults, "rates_before_each_fault": rates[1:], **slopes(samples)}
    print(json.dumps(result))
    save("soak", {**result, "samples": samples, "counts": counts})


def soak(
    given: argparse.Namespace,
    settings: dict[str, Any],
    folder: Path,
    camera: Camera,
    proxy: Proxy,
    samples: list[tuple[float, int, int, int]],
    rates: list[list[float]],
) -> tuple[dict[str, Any], int]:
    """All of it; what each camera counted, and how many faults there were."""
    cameras = Supervisor(settings, ShotStore(folder / "shots", keep_megabytes=20))
    configs = {
        name: CameraConfig(url=f"rtsp://127.0.0.1:{proxy.port}/{name}", outputs=(f"{folder}/{name}/%H%M%S.mp4",))
        for name in NAMES
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        cameras.put(name, config)
    with page(cameras):
        faults = faulty(given.minutes, cameras, configs, camera, proxy, samples, rates)
    counts = {c.name: {**c.counts(), "state": c.state, "restarts": c.restarts} for c in cameras}
    cameras.close()
    return counts, faults


@contextmanager
def page(cameras: Supervisor) -> Iterator[None]:
    """The cameras' page, with strangers at its port."""
    token = secrets.token_urlsafe(16)
    listening = connections.listen("127.0.0.1", 0)
    server = make_server(cameras, "127.0.0.1", hashed(token))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    command = [sys.executable, "-m", "benchmarks.strangers", str(listening.getsockname()[1]), NAMES[0]]
    strangers = subprocess.Popen(command, env={**os.environ, "STREAM_ENHANCE_TOKEN": token})
    try:
        yield
        if strangers.poll() is not None:
            raise RuntimeError("the strangers have left early")
    finally:
        strangers.kill()
        strangers.wait()
        server.should_exit = True
        thread.join(20)
        listening.close()


def faulty(
    minutes: float,
    cameras: Supervisor,
    configs: dict[str, CameraConfig],
    camera: Camera,
    proxy: Proxy,
    samples: list[tuple[float, int, int, int]],
    rates: list[list[float]],
) -> int:
    """A fault every 20 s for so many minutes; how many there were."""
    began, faults = time.monotonic(), 0
    while time.monotonic() - began < 60 * minutes:
        rates.append(watched(cameras, samples, began))
        one = NAMES[faults // 4 % 4]
        match faults % 4:
            case 0:
                camera.kill()
                camera.start()
            case 1:
                camera.freeze()
                time.sleep(6)
                camera.thaw()
            case 2:
                proxy.cut()
            case _:
                cameras.put(one, configs[one])
        faults += 1
    return faults


def watched(cameras: Supervisor, samples: list[tuple[float, int, int, int]], began: float) -> list[float]:
    """Twenty seconds; frames a second of each camera in the last ten."""
    for second in range(20):
        if second == 10:
            before = [c.counts()["out"] - c.counts()["no_signal"] for c in cameras]
        time.sleep(1)
        files = len(os.listdir("/proc/self/fd"))
        samples.append((time.monotonic() - began, resident(), threading.active_count(), files))
    after = [c.counts()["out"] - c.counts()["no_signal"] for c in cameras]
    return [round((b - a) / 10, 1) for a, b in zip(before, after, strict=True)]


def slopes(samples: list[tuple[float, int, int, int]]) -> dict[str, Any]:
    """After the first fifth of the time, by least squares; of memory also for each minute's least, and its medians.

    Memory goes up and down with the frames in hand, so the least of each minute tells more of what is kept.
    """
    whole = np.array(samples)
    by_minute = [whole[whole[:, 0] // 60 == m, 1] / 1e6 for m in range(int(whole[-1, 0] // 60))]
    table = whole[whole[:, 0] > 0.2 * whole[-1, 0]]
    minutes = table[:, 0] / 60
    first = -(-len(by_minute) // 5)
    least = [values.min() for values in by_minute[first:]]
    return {
        "megabytes_by_minute": [round(float(np.median(values))) for values in by_minute],
        "least_megabytes_per_10_min": round(float(np.polyfit(range(len(least)), least, 1)[0]) * 10, 2),
        "megabytes_per_10_min": round(float(np.polyfit(minutes, table[:, 1] / 1e6, 1)[0]) * 10, 2),
        "threads_per_10_min": round(float(np.polyfit(minutes, table[:, 2], 1)[0]) * 10, 2),
        "files_per_10_min": round(float(np.polyfit(minutes, table[:, 3], 1)[0]) * 10, 2),
        "peak_megabytes": round(float(table[:, 1].max()) / 1e6, 1),
        "threads_at_end": float(table[-1, 2]),
    }


if __name__ == "__main__":
    main()
