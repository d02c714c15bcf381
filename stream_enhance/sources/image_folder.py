"""Folders of images: read as a video, and written frame by frame."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from ..errors import SinkError, SourceError
from ..imaging import planes
from ..imaging.orientation import flipped
from ..imaging.planes import LAYOUTS
from ..stages.overlay import Rendered
from ..types import Frame, StreamInfo
from .base import SourceStatus
from .file import VideoSource
from .formats import IMAGES

log = logging.getLogger(__name__)

_JPEG = {".jpg", ".jpeg"}
_MIRRORED = {2: 0, 4: 180, 5: 90, 7: 270}  # EXIF's orientation to degrees counter-clockwise, after a flip left to right
_ALPHA = {"rgba": 3, "bgra": 3, "argb": 0, "abgr": 0}  # where it lies


class ImageFolder:
    """The images of a folder in name order, as a video of ``rate`` frames a second.

    Raises:
        SourceError: no images in it.
    """

    def __init__(self, folder: Path, rate: float) -> None:
        self.name = str(folder)
        self.started = time.monotonic()
        self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
        if not self._files:
            raise SourceError(f"{folder}: holds no images; for a folder of videos use `stream-enhance batch`")
        self._rate = Fraction(rate).limit_denominator(1001)
        self._info = StreamInfo(self.name, rate=self._rate, frame_count=len(self._files), stills=True)
        self._corrupt = 0
        self._stopping = threading.Event()

    @property
    def info(self) -> StreamInfo:
        return self._info

    def status(self) -> SourceStatus:
        return SourceStatus(corrupt=self._corrupt)

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """It is ready at once."""

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        """Nothing is held open."""

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """Each image that can be read, as a frame named after its file.

        Raises:
            SourceError: there was not one.
        """
        time_base = 1 / self._rate
        index = 0
        for path in self._files:
            if self._stopping.is_set():
                break
            try:
                one = VideoSource(f"file:{path}", name=str(path))
                frame = next(one.frames())
                one.close()
            except (SourceError, StopIteration):
                self._corrupt += 1
                log.warning("%s: not a readable image, passed over", path)
                continue
            image, rotation = frame.image, frame.rotation
            if (orientation := _orientation(path)) in _MIRRORED:  # FFmpeg gives a turn alone, and not the right one
                image, rotation = flipped(image), _MIRRORED[orientation]
            if LAYOUTS[image.format.name].kind == "gray" and int(image.color_range) == 0:
                image.color_range = 2  # as in every grey image file; a PGM has no tag for it
            image.pts, image.time_base = index, time_base
            now = time.monotonic()
            yield Frame(image, index, index, time_base, now, time.time(), rotation, path.name, stream=self._info)
            index += 1
        if index == 0:
            raise SourceError(f"{self.name}: not one image in it could be read")


def _orientation(path: Path) -> int:
    """EXIF's orientation of a JPEG, 1 to 8; 1 where it has none."""
    if path.suffix.lower() not in _JPEG:
        return 1
    with path.open("rb") as file:
        _, found, tiff = file.read(1 << 16).partition(b"Exif\0\0")
    order: Any = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if not found or not order:
        return 1

    def number(at: int, size: int = 2) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4)
    entries = range(first + 2, min(first + 2 + 12 * number(first), len(tiff)), 12)
    return next((number(at + 8) for at in entries if number(at) == 0x112), 1)


class ImageFolderSink:
    """Each frame as an image file, named after the one it came from, or by its number as PNG.

    Args:
        folder: made where it is not there.
        overwrite: replace files that are there.
        comment: metadata that says what was changed; for PNG, JPEG, PPM and PGM.

    Raises:
        SinkError: a file is there already, or cannot be written.
    """

    takes_side_packets = False
    upright = True

    def __init__(self, folder: Path, overwrite: bool, comment: str = "") -> None:
        self.name, self._folder, self._overwrite, self._comment = str(folder), folder, overwrite, comment
        self._warned = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{folder}: cannot be made ({error.strerror}); name another folder") from None

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        for item in items:
            frame: Frame = item.enhanced.scene.frame
            path = self._folder / (frame.name or f"{frame.index:06d}.png")
            if path.suffix.lower() not in IMAGES:
                path = path.with_suffix(".png")
            if path.exists() and not self._overwrite:
                raise SinkError(f"{path}: is there already; use --overwrite to replace it")
            if not self._warned and (lost := _lost(frame.image)):
                self._warned = True
                log.warning("%s: images are written without %s; this is said once a run", path.name, lost)
            part = path.with_name(f".part.{path.name}")
            try:
                save_image(item.image, part, self._comment)
                os.replace(part, path)
            except OSError as error:
                part.unlink(missing_ok=True)
                raise SinkError(f"{path}: cannot be written ({error.strerror})") from None
            yield item

    def finish(self) -> None:
        """Every frame has its name already."""

    def outputs(self) -> list[dict[str, Any]] | None:
        """It is the report's own frames."""
        return None


def _lost(image: av.VideoFrame) -> str:
    """What of ``image`` the files written here do not hold."""
    name = image.format.name
    alpha = planes.samples(image, 0)[:, _ALPHA[name] :: 4] if name in _ALPHA else None
    if name.startswith("yuva"):
        alpha = planes.samples(image, 3)
    lost = [f"{bits - 8} of its {bits} bits"] if (bits := LAYOUTS[name].bits) > 8 else []
    lost += ["its transparency"] if alpha is not None and alpha.min() < 255 else []
    return " and ".join(lost)


def save_image(image: av.VideoFrame, path: Path, comment: str = "") -> None:
    """Write ``image`` as the kind of file that ``path``'s suffix names, at high quality; raises OSError."""
    suffix = path.suffix.lower()
    pixels = image.to_ndarray(format="gray" if suffix == ".pgm" else "bgr24")
    ok, data = cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in _JPEG else [])
    if not ok:
        raise OSError(errno.EINVAL, f"not an image kind that can be written: {path.suffix}")
    path.write_bytes(_labelled(data.tobytes(), suffix, comment) if comment else data.tobytes())


def _labelled(data: bytes, suffix: str, comment: str) -> bytes:
    """The image file ``data`` with ``comment`` in its head; as it is where its kind has no simple place for one."""
    text = comment.encode("latin-1", "replace")
    if suffix == ".png":  # after the signature, 8 bytes, and IHDR, 25
        body = b"tEXtComment\0" + text
        chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        return data[:33] + chunk + data[33:]
    if suffix in _JPEG:  # after SOI, 2 bytes, and APP0, whose place is just there
        at = 4 + int.from_bytes(data[4:6], "big") if data[2:4] == b"\xff\xe0" else 2
        return data[:at] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[at:]
    if suffix in (".ppm", ".pgm"):
        return data[:3] + b"# " + text.replace(b"\n", b" ") + b"\n" + data[3:]
    return data
