"""How a frame is turned and mirrored to be shown, and frames turned so."""

from __future__ import annotations

import math
import struct
from collections.abc import Generator, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.filter

from ..types import Frame
from .colour import copy_tags
from .frames import to_host

# EXIF 2.32, 4.6.4 A: orientation to what ``orientation`` gives
_EXIF = {2: (0, True), 3: (180, False), 4: (180, True), 5: (90, True), 6: (270, False), 7: (270, True), 8: (90, False)}
_TURNS = {90: ("transpose", "cclock"), 180: ("rotate", "PI"), 270: ("transpose", "clock")}


def upright(frames: Iterable[Frame]) -> Generator[Frame, None, None]:
    """Frames turned as a player would show them, without rotation; for outputs that draw beside the frame."""
    graph, key = None, None
    for frame in frames:
        image = frame.image
        if not frame.rotation:
            yield frame
            continue
        if key != (frame.rotation, image.width, image.height, image.format.name):
            key = (frame.rotation, image.width, image.height, image.format.name)
            graph = _graph(to_host(image), frame.time_base, *_TURNS[frame.rotation])
        assert graph is not None
        graph.vpush(to_host(image))
        turned = graph.vpull()
        turned.pts, turned.time_base, turned.duration = frame.pts, frame.time_base, frame.duration
        yield replace(frame, image=turned, rotation=0, turned=frame.rotation % 180 == 90)


def flipped(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` mirrored left to right."""
    image = to_host(image)
    graph = _graph(image, image.time_base or Fraction(1), "hflip")
    graph.vpush(to_host(image))
    result = graph.vpull()
    copy_tags(image, result)
    result.pts, result.time_base, result.duration = image.pts, image.time_base or Fraction(1), image.duration
    return result


def _graph(image: av.VideoFrame, time_base: Fraction, *filter_and_arguments: str) -> av.filter.Graph:
    graph = av.filter.Graph()  # in the host's memory
    start = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=time_base)
    graph.link_nodes(start, graph.add(*filter_and_arguments), graph.add("buffersink")).configure()
    return graph


def orientation(image: av.VideoFrame, packet: Any = b"") -> tuple[int, bool]:
    """How ``image`` is shown: mirrored left to right where the second is true, then turned by the first.

    From the display matrix that FFmpeg makes of a container's matrix or of EXIF; whole quarters only.

    Args:
        image: as decoded.
        packet: what it was decoded from, a buffer: an image file's holds EXIF.

    Returns:
        Degrees counter-clockwise (0, 90, 180 or 270), and whether it is mirrored.
    """
    try:
        data: Any = image.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for EXIF, and gives none of the side data beside it
        return _EXIF.get(exif_orientation(bytes(packet)), (0, False))
    if data is None:
        return round(image.rotation) % 360, False
    # row vectors: (x, y) is shown at (ax + cy, bx + dy), y down
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    mirrored = a * d - b * c < 0
    if mirrored:  # the flip comes first: its column of x has the other sign
        a, b = -a, -b
    return round(math.degrees(math.atan2(-b, a)) / 90) * 90 % 360, mirrored


def exif_orientation(data: bytes) -> int:
    """EXIF's orientation, 1 to 8, of a JPEG, PNG or WebP file; 1 where it has none."""
    for marker in (b"Exif\0\0", b"eXIf", b"EXIF"):  # JPEG's APP1; PNG's chunk, after its length; WebP's, before it
        found = data.find(marker)
        start = found + len(marker) + (4 if marker == b"EXIF" else 0)
        order: Any = {b"II": "little", b"MM": "big"}.get(data[start : start + 2])
        if found >= 0 and order:
            return _orientation(data[start:], order)
    return 1


def _orientation(tiff: bytes, order: Any) -> int:
    def number(at: int, size: int = 2) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4)
    entries = range(first + 2, min(first + 2 + 12 * number(first), len(tiff)), 12)
    return next((number(at + 8) for at in entries if number(at) == 0x112), 1)
