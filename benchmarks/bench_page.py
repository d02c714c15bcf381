"""How old a frame is when a browser shows it on the page: from the camera's sensor to chromium's video element.

    python -m benchmarks.bench_page CLIP [--seconds 30]

A camera draws its clock into each frame (see bench_live); a script in the page reads it back from the video element
each time chromium presents a frame.  Needs what tests/live needs, chromium included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import yaml

from benchmarks.bench_live import decoded
from benchmarks.conditions import conditions, save
from tests.live import browser, cameras

READ = """(() => {
  const video = document.querySelector("video"), canvas = document.createElement("canvas");
  canvas.width = 384; canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  window.ages = [];
  const look = () => {
    context.drawImage(video, 0, 8, 384, 1, 0, 0, 384, 1);
    const pixels = context.getImageData(0, 0, 384, 1).data;
    let shown = 0;
    for (let bit = 0; bit < 24; bit++) if (pixels[4 * (bit * 16 + 8)] > 120) shown += 2 ** bit;
    window.ages.push((Date.now() - shown) % 2 ** 24);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    if reason := cameras.missing() or browser.missing():
        sys.exit(reason)
    print(json.dumps(conditions()))
    with tempfile.TemporaryDirectory() as folder:
        raw, file = Path(folder) / "clip.i420", Path(folder) / "cameras.yaml"
        decoded(given.clip, 640, 360, raw)
        with cameras.Camera(raw=raw) as camera:
            port = cameras.free_port()
            file.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{port}", "cameras": {"one": {"url": camera.url}}}))
            server = subprocess.Popen([sys.executable, "-m", "stream_enhance", "serve", str(file)])
            try:
                result = watched(f"http://127.0.0.1:{port}/", given.seconds)
            finally:
                server.terminate()
                server.wait()
    print(json.dumps(result))
    save("page", result)


def watched(url: str, seconds: float) -> dict[str, object]:
    """The page in a browser for so long."""

    def up() -> bool:
        try:
            with urllib.request.urlopen(f"{url}healthz"):
                return True
        except OSError:
            return False

    cameras.wait_until(up, 60)
    with browser.Browser() as page:
        page.open(url)
        page.wait("document.querySelector('video')?.currentTime > 2")
        page.eval(READ)
        time.sleep(seconds)
        ages = np.array(page.eval("window.ages"))
    return {
        "glass_to_screen_ms": {f"p{p}": round(float(np.percentile(ages, p)), 1) for p in (50, 95, 99)},
        "frames": len(ages),
        "frames_a_second": round(len(ages) / seconds, 1),
    }


if __name__ == "__main__":
    main()
