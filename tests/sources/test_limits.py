"""What a stranger's file may cost, and what may read it."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stream_enhance.errors import SourceError
from stream_enhance.imaging.frames import byte_count
from stream_enhance.runtime import Channel
from stream_enhance.sources.base import SourceOptions
from stream_enhance.sources.open import open_source
from tests.conftest import ROOT
from tests.media import SIZE, make_video, raw_h264

pytestmark = pytest.mark.timeout(60)


def large_png(path: Path, width: int, height: int) -> Path:
    """A few kilobytes that say they are ``width`` x ``height`` grey pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    rows = zlib.compress(bytes((width + 1) * 64), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def large_gif(path: Path, side: int, frames: int) -> Path:
    """A GIF of a few hundred bytes and many megapixels."""
    size = side.to_bytes(2, "little")
    image = b"\x21\xf9\x04\x08\x0a\0\0\0" + b"\x2c\0\0\0\0\x01\0\x01\0\0" + b"\x02\x02\x44\x01\0"
    path.write_bytes(b"GIF89a" + size + size + b"\x80\0\0\0\0\0\xff\xff\xff" + image * frames + b"\x3b")
    return path


READ = """
import sys
from pathlib import Path
from stream_enhance.errors import SourceError
from stream_enhance.sources.open import open_source
try:
    for _ in open_source(sys.argv[1]).frames(): pass
except SourceError as error:
    print(error)
# this program's own peak: ``ru_maxrss`` begins with that of the process that started it
print(*(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory in kilobytes")
@pytest.mark.parametrize("kind", ["gif", "png"])
def test_a_frame_above_the_limit_is_refused_before_it_is_decoded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"bomb.{kind}"
    if kind == "gif":
        large_gif(path, 16_000, 12)
    else:
        large_png(path, 16_000, 16_000)
    said = subprocess.run([sys.executable, "-c", READ, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    error, kilobytes = said.stdout.splitlines()
    assert "source.max_megapixels" in error
    assert int(kilobytes) < 400_000


def test_the_limit_is_a_setting(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", 3, (640, 480))
    with pytest.raises(SourceError, match=r"are 0\.307 megapixels, above the limit of 0\.3; raise it with source"):
        open_source(str(path), SourceOptions(max_megapixels=0.3))
    assert len(list(open_source(str(path), SourceOptions(max_megapixels=0.31)).frames())) == 3


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "pgm", "ppm", "y4m", "jpg", "tiff", "webp", "avi"])
def test_a_size_above_the_limit_names_the_limit_and_the_option(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"large.{kind}"
    if kind in ("png", "bmp", "pgm", "ppm", "jpg", "tiff", "webp"):
        pixels = np.full((480, 640), 90, np.uint8)
        cv2.imwrite(str(path), pixels if kind == "pgm" else np.dstack([pixels] * 3))
    else:
        codec, form = {"gif": ("gif", "rgb8"), "y4m": ("wrapped_avframe", "yuv420p"), "avi": ("mjpeg", "yuvj420p")}[
            kind
        ]
        make_video(path, 2, (640, 480), codec=codec, pixel_format=form)
    with pytest.raises(SourceError, match=r"0\.3.* source\.max_megapixels|above 0\.3 .*source\.max_megapixels"):
        list(open_source(str(path), SourceOptions(max_megapixels=0.3)).frames())


def test_a_size_that_grows_above_the_limit_midway_is_passed_over(tmp_path: Path) -> None:
    path = raw_h264(tmp_path / "grows.h264", [SIZE, (640, 480), SIZE])
    frames = list(open_source(str(path), SourceOptions(max_megapixels=0.1)).frames())
    assert {(f.image.width, f.image.height) for f in frames} == {SIZE}
    assert len(frames) >= 6


@pytest.mark.parametrize("name", ["b.mp4", "b.ffconcat", "b.txt"])
def test_a_list_of_other_files_is_no_video(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / "a.mp4", 5)
    (tmp_path / name).write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(SourceError, match="not a video of a kind that is read here"):
        open_source(str(tmp_path / name))


def test_a_playlist_on_disk_is_no_video(tmp_path: Path) -> None:
    make_video(tmp_path / "a.ts", 5)
    path = tmp_path / "b.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(str(path))


def test_a_name_with_a_number_pattern_is_one_file(tmp_path: Path) -> None:
    for i in range(3):
        make_video(tmp_path / f"shot{i}.png", 1, codec="png", pixel_format="rgb24", form="image2")
    (tmp_path / "shot%d.png").write_bytes((tmp_path / "shot0.png").read_bytes())
    assert len(list(open_source(str(tmp_path / "shot%d.png")).frames())) == 1


def test_a_channel_is_bounded_in_bytes_too() -> None:
    large = av.VideoFrame.from_ndarray(np.zeros((100, 100, 3), np.uint8), "rgb24")
    channel: Channel[av.VideoFrame] = Channel(100, "drop_oldest", byte_count, 3 * byte_count(large))
    for _ in range(10):
        channel.put(large)
    assert (len(channel), channel.dropped) == (3, 7)
    tiny: Channel[av.VideoFrame] = Channel(100, "wait", byte_count, 1)
    tiny.put(large)  # one always fits
    assert len(tiny.take()) == 1
    tiny.put(large)
