"""Faults that befall cameras, each several times, and how soon pictures come again.

    python -m benchmarks.bench_faults [--times 10] [--freeze 6]

A line runs on a camera (GStreamer's RTSP server on loopback) while the fault happens; given are the seconds from the
moment that the fault is over (the server listens again, is thawed, lets the password pass) to the first new picture,
whether timestamps only rose, and whether every frame was accounted for.  Needs what tests/live needs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from benchmarks.conditions import conditions, save
from stream_enhance.config import load
from stream_enhance.live import LiveSource
from stream_enhance.pipeline import Pipeline, open_with
from stream_enhance.run import Report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "live"))
import itertools

from cameras import Camera, missing, wait_until
from proxy import Proxy

FAULTS: dict[str, Callable[[Camera, Proxy, float], None]] = {}


def fault(name: str) -> Callable[[Any], Any]:
    def kept(function: Any) -> Any:
        FAULTS[name] = function
        return function

    return kept


@fault("server killed and restarted")
def killed(camera: Camera, proxy: Proxy, freeze: float) -> None:
    camera.kill()
    time.sleep(2)
    camera.start()


@fault("server frozen")
def frozen(camera: Camera, proxy: Proxy, freeze: float) -> None:
    camera.freeze()
    time.sleep(freeze)
    camera.thaw()


@fault("TCP reset")
def reset(camera: Camera, proxy: Proxy, freeze: float) -> None:
    proxy.cut()


@fault("network silent without closing")
def silent(camera: Camera, proxy: Proxy, freeze: float) -> None:
    proxy.frozen.set()
    time.sleep(freeze)
    proxy.frozen.clear()


@fault("resolution changed on restart")
def resized(camera: Camera, proxy: Proxy, freeze: float) -> None:
    camera.kill()
    camera.start(width=800, height=448)


@fault("codec changed on restart, H.264 to H.265")
def recoded(camera: Camera, proxy: Proxy, freeze: float) -> None:
    camera.kill()
    camera.start(codec="h265")


@fault("120 frames a second for 5 s")
def hasty(camera: Camera, proxy: Proxy, freeze: float) -> None:
    camera.kill()
    camera.start(fps=120)
    time.sleep(5)
    camera.kill()
    camera.start()


@fault("wrong password, then right")
def password(camera: Camera, proxy: Proxy, freeze: float) -> None:
    camera.kill()
    camera.start(user="wart", password="another")
    time.sleep(2)
    camera.kill()
    camera.start()


@fault("bandwidth below the stream's for 10 s")
def narrow(camera: Camera, proxy: Proxy, freeze: float) -> None:
    proxy.rate = 60_000
    proxy.cut()
    time.sleep(10)
    proxy.rate = 0
    proxy.cut()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--freeze", type=float, default=6)
    parser.add_argument("--only", default="")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    results = {}
    print("| fault | times | recovered | median s | worst s | frames accounted for | timestamps rise |")
    print("|---|---|---|---|---|---|---|")
    for name, happen in FAULTS.items():
        if given.only not in name:
            continue
        one = suffered(happen, given)
        results[name] = one
        seconds = one["seconds"]
        shown = f"{statistics.median(seconds):.2f} | {max(seconds):.2f}" if seconds else "- | -"
        print(
            f"| {name} | {given.times} | {len(seconds)} | {shown} | {one['balanced']} | {one['rising']} |", flush=True
        )
    save("faults", results)


def suffered(happen: Callable[[Camera, Proxy, float], None], given: Any) -> dict[str, Any]:
    """One run in which the fault happens again and again."""
    os.environ["BENCH_PASSWORD"] = "geheim"
    config = load(None, ["sink.preset=ultrafast", *given.set])
    seconds: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Camera(user="wart", password="geheim") as camera,
        Proxy(camera.port) as proxy,
    ):
        source = open_with(config, f"rtsp://wart:{{BENCH_PASSWORD}}@127.0.0.1:{proxy.port}/cam")
        assert isinstance(source, LiveSource)
        out, done, reports = Path(folder) / "out.mp4", threading.Event(), list[Report]()

        def run() -> None:
            with Pipeline(config) as pipeline:
                reports.append(pipeline.run(source, str(out), watch=lambda run: run.stop() if done.is_set() else None))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        for _ in range(given.times):
            wait_until(lambda: source.state == "live", 90)
            time.sleep(6)  # so long that it counts as well
            happen(camera, proxy, given.freeze)
            over = time.monotonic()
            lives = len([s for _, s in source.states if s == "live"])
            recovered_after(source, over, lives, seconds)
        done.set()
        thread.join(30)
        rising = strictly_rising(out)
    report = reports[0]
    return {
        "seconds": [round(s, 3) for s in seconds],
        "balanced": report.frames_in == report.frames_out + report.frames_dropped,
        "rising": rising,
        "reconnects": report.reconnects,
    }


def recovered_after(source: LiveSource, over: float, lives: int, seconds: list[float]) -> None:
    """Note how long after ``over`` a picture came; none within 90 s is noted as no recovery."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        last = source.last_picture_at
        if source.state == "live" and last > over and (len([s for _, s in source.states if s == "live"]) > lives
                                                       or last > over + 6):  # fmt: skip
            live_at = source.started + [at for at, s in source.states if s == "live"][-1]
            seconds.append(max(0.0, live_at - over))
            return
        time.sleep(0.01)


def strictly_rising(path: Path) -> bool:
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    return all(a < b for a, b in itertools.pairwise(times))


if __name__ == "__main__":
    main()
