"""Folders of images: read as a video, and written frame by frame."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from ..errors import SinkError, SourceError
from ..imaging import planes
from ..imaging.planes import LAYOUTS
from ..stages.overlay import Rendered
from ..types import Frame, StreamInfo
from .base import SourceOptions, SourceStatus
from .container import open_file
from .formats import IMAGES

log = logging.getLogger(__name__)

_JPEG = {".jpg", ".jpeg"}
_ALPHA = {"rgba": 3, "bgra": 3, "argb": 0, "abgr": 0}  # where it lies


class ImageFolder:
    """The images of a folder in name order, as a video of ``options.rate`` frames a second.

    Raises:
        SourceError: no images in it.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        self.name, self._options = str(folder), options
        self.started = time.monotonic()
        try:
            self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
        except OSError as error:
            raise SourceError(f"{folder}: cannot be read ({error.strerror})") from None
        if not self._files:
            raise SourceError(f"{folder}: holds no images; for a folder of videos use `stream-enhance batch`")
        self._rate = Fraction(options.rate).limit_denominator(1001)
        first = round(options.start * self._rate)
        last = None if options.end is None else round(options.end * self._rate)
        self._files = self._files[first:last]
        count = len(self._files)
        self._info = StreamInfo(
            self.name, rate=self._rate, frame_count=count, format="images", duration=count / options.rate, stills=True
        )
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
        one = self._options.model_copy(update={"start": 0.0, "end": None})
        index = 0
        for path in self._files:
            if self._stopping.is_set():
                break
            try:
                with closing(open_file(path, str(path), one)) as source, closing(source.frames()) as frames:
                    frame = next(frames)
            except SourceError as error:
                self._corrupt += 1
                reason = str(error).removeprefix(f"{path}: ")
                log.warning("%s: not a readable image, passed over (%s)", path, reason)
                continue
            image = frame.image
            if LAYOUTS[image.format.name].kind == "gray" and int(image.color_range) == 0:
                image.color_range = 2  # as in every grey image file; a PGM has no tag for it
            image.pts, image.time_base = index, time_base
            yield replace(
                frame, index=index, pts=index, time_base=time_base, duration=1, name=path.name, stream=self._info
            )
            index += 1
        if index == 0:
            raise SourceError(f"{self.name}: not one image in it could be read")


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
