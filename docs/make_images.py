"""Make the images of the documentation: `python docs/make_images.py hero`, `page` and `case`.

`hero` shows portraits to a made surveillance camera (`train/degrade.py`), runs what it delivers through the product,
and lays recorded, enhanced and original faces out in rows.  Nothing is chosen by hand: sizes and seeds are fixed, and
every face that was shown to the camera is in the image.  The portraits are public domain and come with scikit-image
and matplotlib; `--portraits FOLDER` takes others, whose licence you then have to name.

`page` runs `serve` on two made cameras, `case` makes a case of the demo clip, and each page is photographed in
chromium.  Needs `.[train,dev,evidence]`, GStreamer's RTSP server and chromium, as the tests do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance import Config, Pipeline
from stream_enhance.backends import open_session
from stream_enhance.shipped import DETECTOR, default_model
from stream_enhance.stages.detect import Detector
from stream_enhance.types import Frame

Image = NDArray[np.uint8]  # (H, W, 3) RGB
IMAGES = Path(__file__).resolve().parent / "images"
HEIGHTS = (24, 32, 48)  # of the face in the camera's frame, pixels
DEFECTS = ("defocus", "noise", "h264")
TILE, GAP, LABELS = 216, 6, 130  # pixels: side of a face, between faces, width of the row labels
AROUND = 1.6  # side of what is shown / height of the face
RATE = 8  # frames a second of a made camera
CLIP = Path(__file__).resolve().parent.parent / "tests" / "clips" / "demo.mp4"


def main() -> None:
    """Make the images that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["hero", "page", "case"])
    parser.add_argument("--portraits", type=Path, help="folder of portraits, one face each")
    parser.add_argument("--out", type=Path, default=IMAGES)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    match given.which:
        case "hero":
            save(given.out / "hero.jpg", hero(list(portraits(given.portraits))))
        case "page":
            page(given.out)
        case _:
            case_page(given.out)


def read(path: Path) -> Image:
    """The image file as (H, W, 3) uint8 RGB."""
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: not an image")
    return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8)


def save(path: Path, image: Image) -> None:
    """Write ``image``, (H, W, 3) uint8 RGB, and print its size."""
    cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    print(f"{path}: {image.shape[1]}x{image.shape[0]}, {path.stat().st_size / 1000:.0f} kB")


# ---- before and after


def portraits(folder: Path | None) -> Iterator[Image]:
    """The images in ``folder``, or those that come with the Python packages."""
    if folder:
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
            yield read(path)
        return
    from matplotlib import get_data_path
    from skimage import data

    yield data.astronaut()
    yield read(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")


def hero(people: list[Image]) -> Image:
    """Rows recorded, enhanced, original; a column for each person and face height."""
    from train.degrade import Ranges, Seen, degrade_clip

    # an ordinary camera: the middle of what training draws from
    camera = Ranges(defocus_of_face=(0.03, 0.03), noise_sigma=(8, 8), crf=(30, 30), kbps=(768, 768))

    seen: list[Seen] = []
    with open_session(default_model(DETECTOR), "face-detection") as session:
        detector = Detector(session)
        for number, person in enumerate(people):
            x1, y1, x2, y2 = largest_face(detector, person)
            center = ((x1 + x2) / 2, (y1 + y2) / 2)
            for height in HEIGHTS if len(people) < 4 else HEIGHTS[number % len(HEIGHTS) :][:1]:
                rng = np.random.default_rng([2026, number, height])
                seen.append(degrade_clip(person, center, y2 - y1, rng, camera, height, DEFECTS))
    columns = []
    for face, (enhanced, changed) in zip(seen, through_product([face.frame for face in seen]), strict=True):
        label = f"{face.face_px:.0f} pixels" + ("" if changed else ", left alone")
        cut = round(AROUND * face.face_px)
        margin = (len(face.frame) - cut) // 2
        to_image = face.to_clean.copy()  # from the tile's pixels
        to_image[:, 2] += to_image[:, :2] @ np.array([margin, margin], np.float32)
        to_image[:, :2] *= cut / TILE
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        truth = cv2.warpAffine(face.clean, to_image, (TILE, TILE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        area = slice(margin, margin + cut)
        views = [
            cv2.resize(view[area, area], (TILE, TILE), interpolation=cv2.INTER_CUBIC) for view in (face.frame, enhanced)
        ]
        columns.append((label, *views, truth))
    return laid_out(columns)


def largest_face(detector: Detector, image: Image) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in pixels of ``image``."""
    frame = Frame(av.VideoFrame.from_ndarray(image, format="rgb24"), 0, 0, Fraction(1, 25), 0.0, 0.0)
    boxes = detector.find(frame).xyxy
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    x1, y1, x2, y2 = (float(value) for value in boxes[int(areas.argmax())])
    return x1, y1, x2, y2


def through_product(views: list[Image]) -> list[tuple[Image, bool]]:
    """Each of ``views`` as the product shows it, and whether it changed a face, each in the middle of a grey frame."""
    results = []
    with tempfile.TemporaryDirectory() as folder, Pipeline(Config()) as pipeline:
        for number, view in enumerate(views):
            frame = np.full((360, 640, 3), 96, np.uint8)
            frame[middle(view)] = view
            cv2.imwrite(f"{folder}/{number:03d}.png", frame[:, :, ::-1])
        for view, rendered in zip(views, pipeline.frames(folder), strict=True):
            image = rendered.image.to_ndarray(format="rgb24")
            results.append(
                (np.ascontiguousarray(image[middle(view)]).astype(np.uint8), len(rendered.enhanced.patches) > 0)
            )
    return results


def middle(view: Image) -> tuple[slice, slice]:
    """Rows and columns of a 640 x 360 image that ``view`` is the middle of."""
    height, width = view.shape[:2]
    return slice(180 - height // 2, 180 - height // 2 + height), slice(320 - width // 2, 320 - width // 2 + width)


def laid_out(columns: list[Any]) -> Image:
    """The contact sheet of (label, recorded, enhanced, original), each image (TILE, TILE, 3)."""
    step = TILE + GAP
    sheet = np.full((3 * step + 34, LABELS + len(columns) * step, 3), 255, np.uint8)
    for row, label in enumerate(("recorded", "enhanced", "the person")):
        write(sheet, label, (8, row * step + TILE // 2 + 38))
    for column, (label, *faces) in enumerate(columns):
        left = LABELS + column * step
        write(sheet, label, (left + 4, 22))
        for row, face in enumerate(faces):
            sheet[34 + row * step : 34 + row * step + TILE, left : left + TILE] = face
    return sheet


def write(sheet: Image, text: str, at: tuple[int, int]) -> None:
    """Put ``text`` on ``sheet``, its baseline beginning at ``at`` (x, y)."""
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.62, (40, 40, 40), 1, cv2.LINE_AA)


# ---- the page


def page(out: Path) -> None:
    """Photograph the page of a real ``serve`` on a desktop and on a phone."""
    sys.path.insert(0, str(CLIP.parents[2]))
    from tests.live.browser import Browser
    from tests.live.cameras import free_port, wait_until

    ports, stopped = [free_port(), free_port()], threading.Event()
    senders = [threading.Thread(target=send, args=(port, 4.0 * n, stopped)) for n, port in enumerate(ports)]
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        cameras = {
            name: {"url": f"udp://127.0.0.1:{p}"} for name, p in zip(("counter", "entrance"), ports, strict=True)
        }
        settings = {"live": {"max_age": 3.0}}
        wanted = {
            "listen": f"127.0.0.1:{port}",
            "gallery": f"{folder}/gallery",
            "settings": settings,
            "cameras": cameras,
        }
        (Path(folder) / "cameras.yaml").write_text(json.dumps(wanted))  # JSON is YAML
        serving = subprocess.Popen([sys.executable, "-m", "stream_enhance", "serve", f"{folder}/cameras.yaml"])
        for sender in senders:
            sender.start()
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}"))
            for name, width, height, dark in (("page_desktop", 1280, 1060, False), ("page_phone", 390, 844, True)):
                with Browser(width, height, dark) as browser:
                    browser.open(f"http://127.0.0.1:{port}")
                    browser.wait("[...document.querySelectorAll('video')].every(v => v.currentTime > 3)")
                    time.sleep(20)  # for best shots
                    browser.press("3")
                    time.sleep(2)
                    browser.screenshot(Path(folder) / "page.png")
                    save(out / f"{name}.jpg", read(Path(folder) / "page.png"))
        finally:
            stopped.set()
            serving.terminate()
            serving.wait(30)
            for sender in senders:
                sender.join(30)


def case_page(out: Path) -> None:
    """Photograph the page of a case of the demo clip."""
    sys.path.insert(0, str(CLIP.parents[2]))
    from tests.live.browser import Browser

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stream_enhance", "case", CLIP, "-o", f"{folder}/case", "--title", "Shop"]
        subprocess.run([*command, "--enhancer", "unet", "--quiet"], check=True)
        with Browser(1280, 1330) as browser:
            browser.open((Path(folder) / "case" / "index.html").as_uri())
            browser.wait("document.documentElement?.dataset.ready === '1'")
            browser.eval("document.querySelector('.card .go').click()")
            browser.eval("$('zoom').value = 1; draw(); scrollTo(0, 0)")
            browser.wait("boxes[0] && !original.seeking && !enhanced.seeking && enhanced.readyState >= 2")
            time.sleep(1)
            browser.screenshot(Path(folder) / "page.png")
            save(out / "case.jpg", read(Path(folder) / "page.png"))


def send(port: int, begin: float, stopped: threading.Event) -> None:
    """A camera: the demo clip from ``begin`` (seconds) on, over and over, as MPEG-TS to a UDP port."""
    with av.open(str(CLIP)) as clip:
        frames = [frame.to_ndarray(format="yuv420p") for frame in clip.decode(video=0)]
    with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as out:
        stream = out.add_stream(
            "libx264", rate=RATE, options={"preset": "ultrafast", "tune": "zerolatency", "g": str(RATE), "crf": "18"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        started, count = time.monotonic(), 0
        while not stopped.is_set():
            frame = av.VideoFrame.from_ndarray(
                frames[(round(25 * begin) + 25 * count // RATE) % len(frames)], format="yuv420p"
            )
            frame.pts, frame.time_base = count, Fraction(1, RATE)
            out.mux(stream.encode(frame))
            count += 1
            stopped.wait(max(0.0, started + count / RATE - time.monotonic()))


def answers(url: str) -> bool:
    """Whether the server at ``url`` is up."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
