"""Faults of one camera's line and of one viewer: how soon they are over, and what the others notice.

    python -m benchmarks.bench_bystanders [--times 10]

Two cameras at 10 frames a second in one process.  *Poisoned frame*: one camera's detector is given what its network
cannot take; given are the seconds until that camera's next frame and the longest time without a frame of the other
one meanwhile.  *Tab that stops reading*: of two viewers of one camera one does not read for 10 s; given are the seconds
until it has caught up, and the longest time without a frame of the other viewer.  Needs what tests/live needs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import yaml
from websockets.sync.client import connect

from benchmarks.conditions import conditions, save
from stream_enhance.server.camera import Camera as Line
from stream_enhance.server.config import CameraConfig
from stream_enhance.server.shots import ShotStore
from stream_enhance.server.supervisor import Supervisor
from tests.live.cameras import Camera, Poisoned, free_port, missing, wait_until

_APART = 61.0  # seconds; a line that fails more often restarts after ever longer pauses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    results = {}
    for name, measured in (("poisoned frame", poisoned), ("tab that stops reading for 10 s", stuck)):
        pairs = measured(given.times)
        own, others = [round(a, 2) for a, _ in pairs], [round(b, 2) for _, b in pairs]
        results[name] = {"seconds": own, "others_longest_gap": others}
        shown = f"{statistics.median(own):.2f} | {max(own):.2f} | {statistics.median(others):.2f} | {max(others):.2f}"
        print(f"| {name} | {given.times} | {len(own)} | {shown} |", flush=True)
    save("bystanders", results)


def poisoned(times: int) -> list[tuple[float, float]]:
    pairs = []
    with Camera(paths="good,bad", fps=10) as camera, tempfile.TemporaryDirectory() as folder:
        cameras = Supervisor({"live": {"max_age": 2}}, ShotStore(Path(folder)))
        for name in ("good", "bad"):
            cameras.put(name, CameraConfig(url=camera.url.replace("/cam", f"/{name}")))
        good, bad = cameras.get("good"), cameras.get("bad")
        assert good is not None
        assert bad is not None
        for _ in range(times):
            wait_until(lambda: bad._run is not None and bad._run.done > 20 and good.counts()["out"] > 20, 90)
            time.sleep(_APART)
            assert bad._run is not None
            run = bad._run
            run.detect._session = Poisoned(run.detect._session)
            before, restarts, gap = bad.counts()["out"], bad.restarts, _Gap(good)
            began = time.monotonic()
            wait_until(lambda restarts=restarts: bad.restarts > restarts, 90)
            before = bad.counts()["out"]
            wait_until(lambda before=before: bad.state == "live" and bad.counts()["out"] > before, 90)
            pairs.append((time.monotonic() - began, gap.end()))
            assert good.restarts == 0
        cameras.close()
    return pairs


class _Gap:
    """Watches a camera for its longest time without a frame."""

    def __init__(self, line: Line) -> None:
        self._line, self._longest, self._ended = line, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        count, at = self._line.counts()["out"], time.monotonic()
        while not self._ended.wait(0.01):
            if (now := self._line.counts()["out"]) > count:
                count, at = now, time.monotonic()
            self._longest = max(self._longest, time.monotonic() - at)

    def end(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._longest


def stuck(times: int) -> list[tuple[float, float]]:
    pairs = []
    with Camera(fps=10) as camera, tempfile.TemporaryDirectory() as folder:
        port, file = free_port(), Path(folder) / "cameras.yaml"
        file.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{port}", "cameras": {"one": {"url": camera.url}}}))
        server = subprocess.Popen([sys.executable, "-m", "stream_enhance", "serve", str(file)])
        wait_until(lambda: _live(port), 90)
        address = f"ws://127.0.0.1:{port}/api/cameras/one/video"
        with connect(address, max_queue=1) as lazy, connect(address, max_size=None) as keen:
            for _ in range(times):
                for viewer in (lazy, keen):
                    viewer.recv(timeout=60)
                longest, end, ended = [0.0], time.monotonic() + 12, threading.Event()

                def read(longest: list[float] = longest, end: float = end, ended: threading.Event = ended) -> None:
                    while time.monotonic() < end:
                        began = time.monotonic()
                        keen.recv(timeout=60)
                        longest[0] = max(longest[0], time.monotonic() - began)
                    ended.set()

                threading.Thread(target=read, daemon=True).start()
                time.sleep(10)
                began = waited = time.monotonic()
                while time.monotonic() - waited < 0.05:  # what comes at once is of before
                    waited = time.monotonic()
                    lazy.recv(timeout=60)
                pairs.append((time.monotonic() - began, longest[0]))
                ended.wait(60)
        server.terminate()
        server.wait()
    return pairs


def _live(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
