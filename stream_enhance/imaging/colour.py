"""Colour tags: which matrix, range, primaries and transfer a frame's samples are in."""

from __future__ import annotations

from typing import Any

import av
from av.video.reformatter import Colorspace

TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")  # PyAV's names, on frames and codec contexts
_UNSPECIFIED = 2  # AVColorSpace
_CONVERTIBLE = {0, 1, 2, 4, 5, 6, 7, 9}  # AVColorSpace: matrices that swscale and ``planes`` work in
_NAMES = {3: "reserved", 8: "YCgCo", 10: "BT.2020 constant luminance", 11: "SMPTE 2085", 14: "ICtCp", 15: "IPT-C2"}


def copy_tags(source: Any, target: Any) -> None:
    """Give ``target`` the colour tags of ``source``; each an ``av.VideoFrame`` or an ``av.VideoCodecContext``."""
    for tag in TAGS:
        setattr(target, tag, getattr(source, tag))


def unusable_matrix(image: av.VideoFrame) -> str:
    """The name of ``image``'s matrix where nothing here can convert from it (YCgCo, say); else an empty string."""
    matrix = int(image.colorspace)
    return "" if matrix in _CONVERTIBLE else matrix_name(matrix)


def untag_unusable_matrix(image: av.VideoFrame) -> None:
    """Treat ``image`` as untagged where its matrix is unusable."""
    if unusable_matrix(image):
        image.colorspace = _UNSPECIFIED


def matrix_name(matrix: int) -> str:
    """The name of an AVColorSpace number (ITU-T H.273, table 4)."""
    if matrix in _NAMES:
        return _NAMES[matrix]
    try:
        return Colorspace(matrix).name.lower()
    except ValueError:
        return str(matrix)
