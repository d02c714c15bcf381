"""What fifty browsers and a fuzzer of the API do to a camera's frames.

    python -m benchmarks.bench_viewers CLIP [--viewers 50] [--seconds 60] [--fuzz]

One camera of 640x360 at 25 frames a second under ``serve``.  The mean age of its frames is taken from /metrics before,
during and after so many viewers of its video (WebSockets that count what comes, in a process of their own); with
``--fuzz`` schemathesis asks what the OpenAPI document allows, and what it does not, meanwhile (GET only: it finds and
deletes the camera else).  Needs what tests/live
needs; for ``--fuzz`` schemathesis on the PATH of this Python.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.bench_live import decoded
from benchmarks.conditions import conditions, save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "live"))
from cameras import Camera, free_port, missing, wait_until


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fuzz", action="store_true")
    parser.add_argument("--watch", help=argparse.SUPPRESS)  # this process is the viewers, of that address
    given = parser.parse_args()
    if given.watch:
        print(json.dumps(asyncio.run(_viewers(given.watch, given.viewers, given.seconds))))
        return
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    with tempfile.TemporaryDirectory() as folder:
        raw, file, port = Path(folder) / "clip.i420", Path(folder) / "cameras.yaml", free_port()
        decoded(given.clip, 640, 360, raw)
        with Camera(raw=raw) as camera:
            config = {"listen": f"127.0.0.1:{port}", "gallery": folder, "cameras": {"one": {"url": camera.url}}}
            file.write_text(yaml.safe_dump(config))
            server = subprocess.Popen([sys.executable, "-m", "stream_enhance", "serve", str(file)])
            try:
                result = watched(given, f"127.0.0.1:{port}")
            finally:
                server.terminate()
                server.wait()
    print(json.dumps(result))
    save("viewers", result)


def watched(given: Any, address: str) -> dict[str, Any]:
    """Ages before, during and after, in milliseconds, and what the viewers and the fuzzer say."""
    wait_until(lambda: _figures(address)[1] > 100, 90)
    result: dict[str, Any] = {"age_ms_before": _age(address, given.seconds / 2)}
    words = [given.clip, "--viewers", str(given.viewers), "--seconds", str(given.seconds + 10), "--watch", address]
    viewers = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bench_viewers", *words], stdout=subprocess.PIPE, text=True
    )
    fuzzer = None
    if given.fuzz:
        tool = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://{address}/openapi.json"]
        tool += ["--include-method", "GET", "--exclude-path-regex", "events|mjpeg", "--checks", "not_a_server_error"]
        tool += ["--phases", "coverage,fuzzing", "--max-examples", "50", "--request-timeout", "20"]
        fuzzer = subprocess.Popen(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(5)
    result["age_ms_during"] = _age(address, given.seconds)
    told = json.loads(viewers.communicate(timeout=120)[0].splitlines()[-1])
    if fuzzer:
        out = fuzzer.communicate(timeout=300)[0]
        result["fuzzer"] = {"code": fuzzer.returncode, "told": out.strip().splitlines()[-8:]}
    result["age_ms_after"] = _age(address, given.seconds / 2)
    return {**result, **told}


def _age(address: str, seconds: float) -> float:
    """Mean age of the frames of so many seconds."""
    total, count = _figures(address)
    time.sleep(seconds)
    later, more = _figures(address)
    return round((later - total) / max(1, more - count) * 1000, 1)


def _figures(address: str) -> tuple[float, float]:
    """Sum of ages in seconds, and how many frames they are of."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0, 0.0
    values = {
        line.split("{")[0]: float(line.split()[-1]) for line in lines if "age_seconds" in line and '"one"' in line
    }
    return values["stream_enhance_age_seconds_sum"], values["stream_enhance_age_seconds_count"]


async def _viewers(address: str, count: int, seconds: float) -> dict[str, Any]:
    """What so many viewers got: messages each."""
    from websockets.asyncio.client import connect

    async def one() -> int:
        got = 0
        async with connect(f"ws://{address}/api/cameras/one/video", max_size=None, open_timeout=60) as socket:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                try:
                    await asyncio.wait_for(socket.recv(), left)
                except TimeoutError:
                    break
                got += 1
        return got

    counts = await asyncio.gather(*(one() for _ in range(count)))
    return {"viewers": count, "messages_each": {"least": min(counts), "median": int(np.median(counts))}}


if __name__ == "__main__":
    main()
