"""The footage of a case: an unchanged copy, and one that browsers play where that copy is none."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import av
import numpy as np

from ...errors import SinkError, SourceError
from ...imaging.frames import native
from ...imaging.orientation import upright
from ...safe_files import Originals, create, publish
from ...sinks.codecs import Encoding
from ...sinks.muxer import part_of
from ...sinks.open import open_sink
from ...sources.open import open_source
from ...types import Enhanced, Faces, Frame, Rendered, Scene

_PLAYED = {".mp4": {"h264", "vp9", "av1"}, ".m4v": {"h264"}, ".webm": {"vp8", "vp9", "av1"}, ".mov": {"h264"}}
_BLOCK = 1 << 20


def copy_unchanged(source: Path, target: Path) -> str:
    """Copy ``source`` byte for byte; its SHA-256.

    Raises:
        SourceError: it cannot be read.
        SinkError: the copy cannot be written.
    """
    digest = hashlib.sha256()
    part = part_of(target)
    originals = Originals.of(source)
    try:
        reading = source.open("rb")
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror})") from None
    with reading:
        try:
            file = create(part, originals)
            try:
                while block := reading.read(_BLOCK):
                    digest.update(block)
                    file.write(block)
            finally:
                file.close()
            publish(part, target, originals)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SinkError(f"{target}: cannot be written ({error.strerror})") from None
    return digest.hexdigest()


def is_playable(path: Path) -> bool:
    """Whether browsers play this file as it is."""
    codecs = _PLAYED.get(path.suffix.lower())
    if not codecs:
        return False
    try:
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            return context.name in codecs and context.pix_fmt in ("yuv420p", "yuvj420p")
    except (av.FFmpegError, IndexError, OSError):
        return False


def write_viewing_copy(source: Path, target: Path) -> None:
    """Every frame of ``source``, unchanged but for the encoding, as MP4.

    Raises:
        SourceError: it cannot be decoded.
        SinkError: the copy cannot be written.
    """
    sink = open_sink(target, Encoding(crf=12), "a copy for players; no face was changed", source=str(source))
    with closing(read_upright(source)) as frames:
        for _ in sink(unchanged(frame) for frame in frames):
            pass
    sink.finish()


def read_upright(path: Path) -> Generator[Frame, None, None]:
    """Every frame of a recording as a player shows it, in a format whose planes can be changed."""
    source = open_source(str(path))
    try:
        with closing(source.frames(side_packets=False)) as frames:
            yield from upright(frames)
    finally:
        source.close()


def unchanged(frame: Frame, image: av.VideoFrame | None = None) -> Rendered:
    """A finished frame without faces; its image is ``image`` where one is given."""
    shown = native(frame.image) if image is None else image
    shown.pts, shown.time_base = frame.pts, frame.time_base
    none = np.zeros((0, 1, 1, 3), np.uint8)
    empty = Enhanced(Scene(frame, Faces.none()), np.zeros(0, np.int64), none, none, np.zeros((0, 2, 3), np.float32))
    return Rendered(shown, empty)
