"""How a frame is turned and mirrored to be shown, and frames turned so."""

from __future__ import annotations

import math
import struct
from collections.abc import Generator, Iterable
from dataclasses import replace
from fractions import Fraction

import av
import av.filter

from ..types import Frame
from .colour import copy_tags

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
            graph = _graph(image, frame.time_base, *_TURNS[frame.rotation])
        assert graph is not None
        graph.vpush(image)
        turned = graph.vpull()
        turned.pts, turned.time_base = frame.pts, frame.time_base
        yield replace(frame, image=turned, rotation=0, turned=frame.rotation % 180 == 90)


def flipped(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` mirrored left to right."""
    graph = _graph(image, image.time_base or Fraction(1), "hflip")
    graph.vpush(image)
    result = graph.vpull()
    copy_tags(image, result)
    result.pts, result.time_base, result.duration = image.pts, image.time_base or Fraction(1), image.duration
    return result


def _graph(image: av.VideoFrame, time_base: Fraction, *filter_and_arguments: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    start = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=time_base)
    graph.link_nodes(start, graph.add(*filter_and_arguments), graph.add("buffersink")).configure()
    return graph


def rotation_and_mirroring(image: av.VideoFrame) -> tuple[int, bool]:
    """How ``image`` is shown: mirrored left to right first where the second is true, then turned by the first.

    From the display matrix that FFmpeg makes of a container's matrix or of EXIF; whole quarters only.

    Returns:
        Degrees counter-clockwise (0, 90, 180 or 270), and whether it is mirrored.
    """
    try:
        data = image.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that this PyAV has no name for
        data = None
    if data is None:
        return round(image.rotation) % 360, False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])  # type: ignore[call-overload]   # row vectors: (x, y) to (ax + cy, bx + dy), y down
    mirrored = a * d - b * c < 0
    if mirrored:  # the flip comes first: its column of x has the other sign
        a, b = -a, -b
    return round(math.degrees(math.atan2(-b, a)) / 90) * 90 % 360, mirrored
