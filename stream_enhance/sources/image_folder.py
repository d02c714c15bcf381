"""A folder of images, read as a video."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..imaging.orientation import flipped
from ..imaging.planes import LAYOUTS
from ..types import Frame, StreamInfo
from .base import SourceStatus
from .file import VideoSource
from .formats import IMAGES

log = logging.getLogger(__name__)

_JPEG = {".jpg", ".jpeg"}
_MIRRORED = {2: 0, 4: 180, 5: 90, 7: 270}  # EXIF's orientation to degrees counter-clockwise, after a flip left to right


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
