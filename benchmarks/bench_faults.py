"""Faults that befall cameras, outputs and viewers, each several times, and how soon fresh frames come again.

    python -m benchmarks.bench_faults [--times 10] [--freeze 30] [--fps 10] [--only WORD]

A line runs on a camera (GStreamer's RTSP server on loopback) while the fault happens.  Given are the seconds from the
moment that the fault is over (the server listens again, is thawed, lets the password pass, the disk has space) to the
first frame in that is less than a second old by the clock drawn into it, or for faults of an output to the first
packet written; frames a second while it lasted, where the line is meant to go on; whether timestamps only rose, and
whether every frame was accounted for.  Needs what tests/live needs; the last two kinds need root and ``unshare``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from benchmarks.bench_live import age
from benchmarks.conditions import conditions, save
from benchmarks.faulty_net import Jumping, Losing
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline
from stream_enhance.sources.camera import CameraSource
from stream_enhance.sources.open import open_source
from tests.live.cameras import Camera, free_port, missing, wait_until
from tests.live.proxy import Proxy

_FRESH = 1.0  # seconds
_IN_VAIN = 90.0  # seconds after which a fault counts as not survived
_HOUR = 3600 * 90_000


@dataclass
class Scene:
    """A camera, the network in between, and the line that watches."""

    camera: Camera
    proxy: Proxy
    freeze: float
    fps: float
    folder: Path
    host: str = "127.0.0.1"
    source: CameraSource | None = None
    runs: list[Any] = field(default_factory=list)

    @property
    def written(self) -> int:
        """Packets in the first output."""
        return int(self.runs[0]._sink._outputs[0].written)


@dataclass
class Kind:
    """A fault: what happens, over what network, into which further output."""

    happen: Callable[[Scene], None]
    network: type[Proxy] = Proxy
    output: str = ""  # the first output, if it is what the fault befalls
    lasting: bool = False  # the line is meant to go on meanwhile
    readable: bool = True  # the clock in the frames can be read afterwards
    settings: tuple[str, ...] = ()
    isolated: bool = False  # needs mounts of its own


def killed(scene: Scene) -> None:
    scene.camera.kill()
    time.sleep(2)
    scene.camera.start()


def frozen(scene: Scene) -> None:
    scene.camera.freeze()
    time.sleep(scene.freeze)
    scene.camera.thaw()


def silent(scene: Scene) -> None:
    scene.proxy.frozen.set()
    time.sleep(scene.freeze)
    scene.proxy.frozen.clear()


def reset(scene: Scene) -> None:
    scene.proxy.cut()


def lossy(scene: Scene) -> None:
    assert isinstance(scene.proxy, Losing)
    scene.proxy.loss = 0.05
    time.sleep(10)
    scene.proxy.loss = 0.0


def halved(scene: Scene) -> None:
    before = scene.proxy.carried
    time.sleep(3)
    scene.proxy.rate = (scene.proxy.carried - before) / 3 / 2
    time.sleep(10)
    scene.proxy.rate = 0


def resized(scene: Scene) -> None:
    scene.camera.kill()
    scene.camera.start(width=800, height=448)


def recoded(scene: Scene) -> None:
    scene.camera.kill()
    scene.camera.start(codec="h265")


def jumped(scene: Scene) -> None:
    assert isinstance(scene.proxy, Jumping)
    scene.proxy.ticks = _HOUR if scene.proxy.ticks <= 0 else -_HOUR  # the second and later are two hours
    time.sleep(3)


def refused(scene: Scene) -> None:
    scene.camera.kill()
    scene.camera.start(user="wart", password="another")
    time.sleep(2)
    scene.camera.kill()
    scene.camera.start()


def hasty(scene: Scene) -> None:
    scene.camera.kill()
    scene.camera.start(fps=120)
    time.sleep(5)
    scene.camera.kill()
    scene.camera.start()


def target_gone(scene: Scene) -> None:
    target = _target(scene)
    target.kill()
    time.sleep(2)
    target.start(record=scene.folder / f"push-{time.monotonic()}.ts")


def full(scene: Scene) -> None:
    ballast = scene.folder / "small" / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    written = scene.written
    wait_until(lambda: bool(scene.runs[0]._sink._outputs[0].problem), 60)
    assert scene.written < written + 1000
    time.sleep(2)
    for file_there in (scene.folder / "small").iterdir():
        file_there.unlink()


def nameless(scene: Scene) -> None:
    """The name goes, and with it the connection."""
    hosts = Path("/etc/hosts")
    text = hosts.read_text()
    hosts.write_text("127.0.0.1 localhost\n")
    scene.proxy.cut()
    time.sleep(4)
    hosts.write_text(text)


KINDS = {
    "server killed and restarted": Kind(killed),
    "server frozen (SIGSTOP)": Kind(frozen),
    "network silent without closing": Kind(silent),
    "TCP reset": Kind(reset),
    "5 % of UDP packets lost for 10 s": Kind(lossy, Losing, lasting=True, settings=("live.transport=udp",)),
    "bandwidth halved for 10 s": Kind(halved, lasting=True),
    "resolution changed on restart": Kind(resized, readable=False),
    "codec changed on restart, H.264 to H.265": Kind(recoded),
    "timestamps jump by an hour or two": Kind(jumped, Jumping, lasting=True),
    "wrong password for 2 s, then right": Kind(refused),
    "120 frames a second for 5 s": Kind(hasty, lasting=True),
    "push target killed and restarted": Kind(target_gone, output="push"),
    "recorder's disk full, then space": Kind(full, output="small/%H%M%S.mkv", isolated=True),
    "DNS name gone for 4 s": Kind(nameless, isolated=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--freeze", type=float, default=30)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--raw", help="Raw I420 frames of 640x360 that the camera plays; else a test pattern.")
    parser.add_argument("--only", default="")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    kinds = {name: kind for name, kind in KINDS.items() if given.only in name}
    if any(kind.isolated for kind in kinds.values()) and "BENCH_ISOLATED" not in os.environ:
        _isolated()
    print(json.dumps(conditions()))
    results = {}
    print("| fault | times | survived | median s | worst s | meanwhile frames/s | accounted for | times rise |")
    print("|---|---|---|---|---|---|---|---|")
    for name, kind in kinds.items():
        one = results[name] = suffered(kind, given)
        seconds, rates = one["seconds"], one["rates"]
        shown = f"{statistics.median(seconds):.2f} | {max(seconds):.2f}" if seconds else "- | -"
        rate = f"{statistics.median(rates):.1f}" if kind.lasting else "-"
        words = (name, given.times, len(seconds), shown, rate, one["balanced"], one["rising"])
        print(f"| {' | '.join(str(word) for word in words)} |", flush=True)
    save("faults" + "".join(c if c.isalnum() else "_" for c in given.only), results)


def _isolated() -> None:
    """The same again in a mount namespace of its own, with a hosts file of its own."""
    if os.geteuid() or not shutil.which("unshare"):
        sys.exit("disk and DNS faults need root and unshare; name others with --only")
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write("127.0.0.1 localhost\n127.0.0.1 camera.test\n")
        hosts.flush()
        again = ["sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts.name, sys.executable]
        words = ["unshare", "-m", "--propagation", "private", *again, "-m", "benchmarks.bench_faults", *sys.argv[1:]]
        sys.exit(subprocess.run(words, env={**os.environ, "BENCH_ISOLATED": "1"}, check=False).returncode)


_targets: dict[Path, Camera] = {}


def _target(scene: Scene) -> Camera:
    """The server that takes this scene's pushes."""
    if scene.folder not in _targets:
        _targets[scene.folder] = Camera(free_port(), record=scene.folder / "push.ts")
        _targets[scene.folder].start()
    return _targets[scene.folder]


def suffered(kind: Kind, given: Any) -> dict[str, Any]:
    """One run in which the fault happens again and again."""
    os.environ["BENCH_PASSWORD"] = "geheim"
    config = load(None, ["sink.preset=ultrafast", "live.idle_rate=2", *kind.settings, *given.set])
    frame = {"raw": given.raw} if given.raw else {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        camera = stack.enter_context(Camera(user="wart", password="geheim", fps=given.fps, **frame))
        proxy = stack.enter_context(kind.network(camera.port))
        host = "camera.test" if kind.happen is nameless else "127.0.0.1"
        scene = Scene(camera, proxy, given.freeze, given.fps, folder, host)
        outputs = [str(folder / "out.mp4")]
        if kind.output == "push":
            outputs.insert(0, _target(scene).url.replace("/cam", "/push"))
        elif kind.output:
            (folder / "small").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder / "small")], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(folder / "small")], check=False)
            outputs.insert(0, str(folder / kind.output))
        seconds, rates, report = _run(kind, scene, config, outputs, given.times)
        if target := _targets.pop(folder, None):
            target.kill()
        rising = strictly_rising(folder / "out.mp4")
    return {
        "seconds": [round(s, 3) for s in seconds],
        "rates": [round(r, 1) for r in rates],
        "balanced": report.frames_in == report.frames_out + report.frames_dropped,
        "rising": rising,
        "reconnects": report.reconnects,
    }


def _run(kind: Kind, scene: Scene, config: Any, outputs: list[str], times: int) -> tuple[list[float], list[float], Any]:
    """What each fault cost, what went on meanwhile, and the run's report."""
    source = open_source(
        f"rtsp://wart:{{BENCH_PASSWORD}}@{scene.host}:{scene.proxy.port}/cam", config.source, config.live
    )
    assert isinstance(source, CameraSource)
    scene.source = source
    done, reports = threading.Event(), list[Any]()

    def watch(run: Any) -> None:
        scene.runs[:] = [run]
        if done.is_set():
            run.stop()

    def run() -> None:
        with Pipeline(config) as pipeline:
            reports.append(pipeline.run(source, outputs, watch=watch))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seconds: list[float] = []
    rates: list[float] = []
    for _ in range(times):
        wait_until(lambda: source.state == "live" and scene.runs, _IN_VAIN)
        time.sleep(6)  # so long that it counts as well
        began, frames = time.monotonic(), _frames(scene)
        kind.happen(scene)
        over = time.monotonic()
        rates.append((_frames(scene) - frames) / (over - began))
        if (took := recovered(kind, scene, over)) is not None:
            seconds.append(took)
    done.set()
    thread.join(60)
    return seconds, rates, reports[0]


def _frames(scene: Scene) -> int:
    """That came from the camera so far."""
    assert scene.source is not None
    return int(scene.runs[0].line.workers[0].count - scene.source.no_signal_frames)


def recovered(kind: Kind, scene: Scene, over: float) -> float | None:
    """Seconds from ``over`` to what counts as recovery; None where it does not come."""
    source, end = scene.source, time.monotonic() + _IN_VAIN
    assert source is not None
    written = scene.written if kind.output else 0
    while time.monotonic() < end:
        last = source._last
        if kind.output:
            if scene.written > written + 1:
                return time.monotonic() - over
        elif source.state == "live" and last is not None and last[1] > over and _fresh(kind, last):
            return last[1] - over
        time.sleep(0.01)
    return None


def _fresh(kind: Kind, last: tuple[av.VideoFrame, float, float]) -> bool:
    return not kind.readable or age(last[0]) < 1000 * (_FRESH + time.monotonic() - last[1])


def strictly_rising(path: Path) -> bool:
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    return all(a < b for a, b in itertools.pairwise(times))


if __name__ == "__main__":
    main()
