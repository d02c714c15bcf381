"""Whole frames: new ones like another, copies, and the nearest pixel format that ``planes`` can work in."""

from __future__ import annotations

import av
from av.codec.codec import find_best_pix_fmt_of_list

from . import planes
from .colour import copy_tags
from .planes import LAYOUTS

_NATIVE = sorted(LAYOUTS)


def native(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` in its own format, or in the nearest whose planes can be read and changed."""
    if image.sw_format or image.format.name in LAYOUTS:
        return image
    nearest = find_best_pix_fmt_of_list(_NATIVE, image.format.name)[0]
    assert nearest is not None
    return image.reformat(format=nearest.name)


def to_host(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` in the host's memory: a copy where it lies on a GPU."""
    if image.sw_format is None:
        return image
    there = image.reformat(format=image.sw_format.name)
    copy_tags(image, there)
    there.pts, there.duration = image.pts, image.duration
    if image.time_base is not None:
        there.time_base = image.time_base
    return there


def blank_like(image: av.VideoFrame, width: int | None = None, height: int | None = None) -> av.VideoFrame:
    """A frame in ``image``'s format and with its colour tags, of its size where none is given; pixels undefined."""
    blank = av.VideoFrame(width or image.width, height or image.height, image.format.name)
    copy_tags(image, blank)
    return blank


def copy_of(image: av.VideoFrame) -> av.VideoFrame:
    """A frame of its own with ``image``'s pixels and colour tags."""
    copy = blank_like(image)
    for i in range(len(image.planes)):
        planes.samples(copy, i)[:] = planes.samples(image, i)
    return copy


def byte_count(image: av.VideoFrame) -> int:
    """Bytes of memory that ``image``'s planes take."""
    return sum(plane.buffer_size for plane in image.planes)
