"""Colour tags: which matrix, range, primaries and transfer a frame's samples are in."""

from __future__ import annotations

from typing import Any

TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")  # PyAV's names, on frames and codec contexts
UNSPECIFIED = 2  # AVColorSpace
CONVERTIBLE = {0, 1, 2, 4, 5, 6, 7, 9}  # AVColorSpace: matrices that swscale and ``planes`` work in


def copy_tags(source: Any, target: Any) -> None:
    """Give ``target`` the colour tags of ``source``; each an ``av.VideoFrame`` or an ``av.VideoCodecContext``."""
    for tag in TAGS:
        setattr(target, tag, getattr(source, tag))
