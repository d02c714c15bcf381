"""How soon ``serve`` and ``run`` end after SIGTERM, on a machine that has too much to do.

    python -m benchmarks.bench_stop [--times 10] [--busy 4]

``serve`` has four cameras of 640x360 at 5 frames a second, each recorded and pushed to a server that takes connections
and never answers, a gallery, and a browser's connections: one that reads video, one that does not, and one for events.
``run`` has one camera, a recording and such a push.  ``busy`` processes do nothing but count meanwhile.  Needs what
tests/live needs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import yaml
from websockets.sync.client import connect

from benchmarks.conditions import conditions, save
from tests.live.cameras import Camera, free_port, missing, wait_until

NAMES = "abcd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--busy", type=int, default=2)
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        camera = stack.enter_context(Camera(paths=",".join(NAMES), fps=5))
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # nobody takes its connections
        for _ in range(given.busy):
            process = multiprocessing.Process(target=_count, daemon=True)
            process.start()
            stack.callback(process.kill)
        for name, measured in (("serve", served), ("run", ran)):
            ends = [measured(camera, deaf.getsockname()[1]) for _ in range(given.times)]
            seconds = sorted(end["seconds"] for end in ends)
            results[name] = {
                "seconds": seconds,
                "worst": seconds[-1],
                "exit_codes": sorted({end["code"] for end in ends}),
                "recordings_closed": all(end["closed"] for end in ends),
            }
            print(f"{name}: {json.dumps(results[name])}", flush=True)
    save("stop", {"busy": given.busy, **results})


def _count() -> None:
    while True:
        pass


def served(camera: Camera, deaf: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port, file = free_port(), Path(folder) / "cameras.yaml"
        cameras = {
            name: {
                "url": camera.url.replace("/cam", f"/{name}"),
                "outputs": [f"{folder}/{name}-%H%M%S.mp4", f"rtsp://127.0.0.1:{deaf}/push"],
            }
            for name in NAMES
        }
        settings = {"live": {"max_age": 2}}
        file.write_text(yaml.safe_dump(
            {"listen": f"127.0.0.1:{port}", "gallery": f"{folder}/shots", "settings": settings, "cameras": cameras}
        ))  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "stream_enhance", "serve", str(file)])

        def live() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/cameras", timeout=20) as answer:
                    return all(c["frames"]["out"] > 10 for c in json.load(answer))
            except OSError:
                return False

        wait_until(live, 120)
        events = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events", timeout=60)
        stack.callback(events.close)
        for name in "ab":
            viewer = connect(
                f"ws://127.0.0.1:{port}/api/cameras/{name}/video", max_queue=1, open_timeout=60, legacy=True
            )
            stack.callback(viewer.socket.close)
        viewer.recv(timeout=60)
        return ended(process, Path(folder))


def ran(camera: Camera, deaf: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", camera.url.replace("/cam", "/a"), "-o", f"{folder}/%H%M%S.mp4"]
        words += ["-o", f"rtsp://127.0.0.1:{deaf}/push", "--gallery", f"{folder}/shots", "--max-age", "2s", "--quiet"]
        process = subprocess.Popen([sys.executable, "-m", "stream_enhance", *words])
        wait_until(lambda: any(p.stat().st_size > 20_000 for p in Path(folder).glob("*.mp4")), 120)
        return ended(process, Path(folder))


def ended(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """Seconds from SIGTERM to the end, the exit code, and whether every recording was closed."""
    began = time.monotonic()
    process.terminate()
    code = process.wait(60)
    seconds = round(time.monotonic() - began, 2)
    recordings = list(folder.glob("*.mp4"))
    return {"seconds": seconds, "code": code, "closed": bool(recordings) and all(map(closed, recordings))}


def closed(path: Path) -> bool:
    """Whether an MP4 file has the index that only its end brings, and all of its frames can be decoded."""
    with path.open("rb") as file:
        kinds: list[bytes] = []
        while len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            if size == 1:
                size = int.from_bytes(file.read(8), "big") - 8
            kinds.append(kind)
            file.seek(size - 8, 1)
    with av.open(str(path)) as container:
        return kinds[-1] == b"moov" and sum(1 for _ in container.decode(video=0)) > 0


if __name__ == "__main__":
    main()
