"""Frames as image files: each in a folder, or the only one under a name of its own."""

from __future__ import annotations

import errno
import logging
import zlib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import av
import cv2

from ..errors import OutputError, SinkError
from ..imaging import planes
from ..imaging.planes import LAYOUTS
from ..safe_files import Originals, write_whole
from ..types import Frame, Rendered

log = logging.getLogger(__name__)

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}  # suffixes that can be written
_JPEG = {".jpg", ".jpeg"}
_ALPHA = {"rgba": 3, "bgra": 3, "argb": 0, "abgr": 0}  # where it lies


class ImageFolderSink:
    """Each frame as an image file, named after the one it came from, or by its number as PNG.

    Args:
        folder: created where it is not there.
        overwrite: replace files that are there.
        comment: metadata that says what was changed; for PNG, JPEG, PPM and PGM.
        originals: what is being read.

    Raises:
        SinkError: the folder cannot be created.
    """

    takes_side_packets = False
    upright = True

    def __init__(self, folder: Path, overwrite: bool, comment: str = "", originals: Originals | None = None) -> None:
        self.name, self._folder, self._overwrite, self._comment = str(folder), folder, overwrite, comment
        self._originals = originals or Originals()
        self._warned = False
        self._written: set[str] = set()  # names of this run: frame.heic and frame.png are two images
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{folder}: cannot be created ({error.strerror}); name another folder") from None

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        """Save each frame under its file's name, or its number, then yield it.

        Raises:
            OutputError: a file cannot be written, or is there already.
        """
        for item in items:
            frame: Frame = item.enhanced.scene.frame
            path = self._folder / (frame.name or f"{frame.index:06d}.png")
            if path.suffix.lower() not in IMAGES:
                path = path.with_suffix(".png")
            while path.name in self._written:
                path = path.with_name(f"{path.name}.png")
            self._written.add(path.name)
            if not self._warned:
                self._warned = _warn_of_loss(path, frame)
            _save(item, path, self._comment, self._originals, self._overwrite)
            yield item

    def finish(self) -> None:
        """Every frame has its name already."""

    def outputs(self) -> list[dict[str, Any]] | None:
        """None: its frames are all there is to report."""
        return None


class ImageSink:
    """The one frame of a source that is one image.

    Args:
        path: the image file.
        overwrite: replace it where it is there.
        comment: as for ``ImageFolderSink``.
        originals: what is being read.
    """

    takes_side_packets = False
    upright = True

    def __init__(self, path: Path, overwrite: bool, comment: str, originals: Originals) -> None:
        self.name, self._path, self._overwrite, self._comment = str(path), path, overwrite, comment
        self._originals = originals

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        """Save the one frame, then yield it.

        Raises:
            OutputError: there is a second frame, or the file cannot be written.
        """
        only: Rendered | None = None
        for item in items:
            if only is not None:
                raise OutputError(f"{self._path}: holds one image, and there are more; name a folder (ends in /)")
            only = item
        if only is not None:
            _warn_of_loss(self._path, only.enhanced.scene.frame)
            _save(only, self._path, self._comment, self._originals, self._overwrite)
            yield only

    def finish(self) -> None:
        """It has its name already."""

    def outputs(self) -> list[dict[str, Any]] | None:
        """None: its frame is all there is to report."""
        return None


def _save(item: Rendered, path: Path, comment: str, originals: Originals, overwrite: bool) -> None:
    try:
        write_whole(path, encoded_image(item.image, path.suffix.lower(), comment), originals, overwrite)
    except FileExistsError:
        raise SinkError(f"{path}: already exists; use --overwrite to replace it") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


def _warn_of_loss(path: Path, frame: Frame) -> bool:
    """Say what of ``frame`` its file will lack; whether there was anything to say."""
    if lost := _lost(frame.image):
        log.warning("%s: images are written without %s; this is said once a run", path.name, lost)
    return bool(lost)


def _lost(image: av.VideoFrame) -> str:
    """What of ``image`` the files written here do not hold."""
    name = image.format.name
    alpha = planes.samples(image, 0)[:, _ALPHA[name] :: 4] if name in _ALPHA else None
    if name.startswith("yuva"):
        alpha = planes.samples(image, 3)
    lost = [f"{bits - 8} of its {bits} bits"] if (bits := LAYOUTS[name].bits) > 8 else []
    lost += ["its transparency"] if alpha is not None and alpha.min() < 255 else []
    return " and ".join(lost)


def encoded_image(image: av.VideoFrame, suffix: str, comment: str = "") -> bytes:
    """``image`` as the kind of file that ``suffix`` names, at high quality; raises OSError."""
    pixels = image.to_ndarray(format="gray" if suffix == ".pgm" else "bgr24")
    ok, data = cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in _JPEG else [])
    if not ok:
        raise OSError(errno.EINVAL, f"not an image kind that can be written: {suffix}")
    return _labelled(data.tobytes(), suffix, comment) if comment else data.tobytes()


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
