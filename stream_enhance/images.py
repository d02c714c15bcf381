"""Folders of images: read as a video, and written picture by picture."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from .errors import SinkError, SourceError
from .overlay import Rendered
from .source import IMAGES, VideoSource
from .types import Frame

log = logging.getLogger(__name__)


class ImageFolder:
    """The images of a folder in name order, as a video of ``rate`` frames a second.

    Raises:
        SourceError: no images in it.
    """

    live = False

    def __init__(self, folder: Path, rate: float) -> None:
        self.name = str(folder)
        self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
        if not self._files:
            raise SourceError(f"{folder}: holds no images; for a folder of videos use `stream-enhance batch`")
        self.rate: Fraction | None = Fraction(rate).limit_denominator(1001)
        self.pixel_aspect: Fraction | None = None
        self.side_streams: list[Any] = []
        self.packets: deque[Any] = deque()
        self.metadata: dict[str, str] = {}
        self.chapters: list[Any] = []
        self.frame_count = len(self._files)
        self.corrupt = 0

    def close(self) -> None:
        """Nothing is held open."""

    def frames(self) -> Generator[Frame, None, None]:
        assert self.rate is not None
        time_base = 1 / self.rate
        index = 0
        for path in self._files:
            try:
                one = VideoSource(f"file:{path}", name=str(path))
                frame = next(one.frames())
                one.close()
            except (SourceError, StopIteration):
                self.corrupt += 1
                log.warning("%s: not a readable image, passed over", path)
                continue
            frame.image.pts, frame.image.time_base = index, time_base
            now = time.monotonic()
            yield Frame(frame.image, index, index, time_base, now, time.time(), frame.rotation, path.name)
            index += 1
        if index == 0:
            raise SourceError(f"{self.name}: not one image in it could be read")


class ImageFolderSink:
    """Each picture as an image file, named after the one it came from, or by its number as PNG.

    Raises:
        SinkError: a file is there already, or cannot be written.
    """

    def __init__(self, folder: Path, overwrite: bool) -> None:
        self.name, self._folder, self._overwrite = str(folder), folder, overwrite
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
            part = path.with_name(f".part.{path.name}")
            try:
                save_image(item.image, part)
                os.replace(part, path)
            except OSError as error:
                part.unlink(missing_ok=True)
                raise SinkError(f"{path}: cannot be written ({error.strerror})") from None
            yield item

    def finish(self) -> None:
        """Every picture has its name already."""


def save_image(image: av.VideoFrame, path: Path) -> None:
    """Write ``image`` as the kind of file that ``path``'s suffix names, at high quality; raises OSError."""
    pixels = image.to_ndarray(format="bgr24")
    ok, data = cv2.imencode(path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not ok:
        raise OSError(errno.EINVAL, f"not an image kind that can be written: {path.suffix}")
    path.write_bytes(data.tobytes())
