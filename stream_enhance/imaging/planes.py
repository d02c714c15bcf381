"""Reading and changing a rectangle of a frame in the decoder's own planes.

``read`` gives a rectangle as RGB for the networks to look at; ``blend`` mixes an RGB rectangle back under a mask.  Only
the rectangle is ever converted, and where the mask is zero not a bit of the frame changes.  The matrix (BT.601, 709,
2020), range, bit depth and chroma subsampling are the frame's own: ITU-R BT.601-7, BT.709-6, BT.2020-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_KR_KB = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_KR_KB |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}  # AVColorSpace's numbers, ITU-T H.273 table 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How a pixel format lies in memory."""

    kind: str  # "yuv" (planar), "nv" (semi-planar), "gray", "rgb" (packed), "gbr" (planar)
    bits: int = 8
    shift: int = 0  # left shift of the value in its word (P010 keeps its ten bits at the top)
    sx: int = 0  # log2 of the horizontal chroma subsampling
    sy: int = 0
    order: tuple[int, ...] = (0, 1, 2)  # rgb/gbr: where R, G, B lie; nv: where U, V lie
    channels: int = 3  # rgb: samples a pixel
    full: bool = False  # the format's own name says full range (yuvj…)


def _layouts() -> dict[str, Layout]:
    table: dict[str, Layout] = {}
    for name, sx, sy in (("420", 1, 1), ("422", 1, 0), ("444", 0, 0), ("440", 0, 1), ("411", 2, 0), ("410", 2, 2)):
        table[f"yuv{name}p"] = Layout("yuv", 8, 0, sx, sy)
        table[f"yuvj{name}p"] = Layout("yuv", 8, 0, sx, sy, full=True)
        for bits in (9, 10, 12, 14, 16) if name in ("420", "422", "444") else ():
            table[f"yuv{name}p{bits}le"] = Layout("yuv", bits, 0, sx, sy)
    del table["yuvj410p"]
    for alpha in ("yuva420p", "yuva422p", "yuva444p"):
        table[alpha] = table[alpha.replace("yuva", "yuv")]
    table |= {"nv12": Layout("nv", 8, 0, 1, 1), "nv21": Layout("nv", 8, 0, 1, 1, (1, 0))}
    table |= {
        "nv16": Layout("nv", 8, 0, 1, 0),
        "p010le": Layout("nv", 10, 6, 1, 1),
        "p210le": Layout("nv", 10, 6, 1, 0),
    }
    table["gray"] = Layout("gray")
    for bits in (9, 10, 12, 14, 16):
        table[f"gray{bits}le"] = Layout("gray", bits)
    table |= {"rgb24": Layout("rgb"), "bgr24": Layout("rgb", order=(2, 1, 0))}
    for name, order in (("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))):
        for tail in ("a", "0"):
            table[name + tail] = Layout("rgb", order=order, channels=4)
    for name, order in (("argb", (1, 2, 3)), ("abgr", (3, 2, 1)), ("0rgb", (1, 2, 3)), ("0bgr", (3, 2, 1))):
        table[name] = Layout("rgb", order=order, channels=4)
    table["gbrp"] = Layout("gbr", order=(2, 0, 1))
    for bits in (9, 10, 12, 14, 16):
        table[f"gbrp{bits}le"] = Layout("gbr", bits, order=(2, 0, 1))
    return table


LAYOUTS = _layouts()


def layout_of(frame: av.VideoFrame) -> Layout:
    """The layout of ``frame``'s planes, wherever they lie."""
    return LAYOUTS[(frame.sw_format or frame.format).name]


def samples(frame: av.VideoFrame, plane: int) -> NDArray[Any]:
    """Plane ``plane`` of ``frame`` as a (rows, samples) view, uint8 or little-endian uint16, padding cut off.

    Writing to it changes the frame: call ``frame.make_writable()`` first.
    """
    layout = layout_of(frame)
    source = frame.planes[plane]
    dtype = np.dtype("<u2") if layout.bits > 8 else np.dtype(np.uint8)
    rows = np.frombuffer(source, dtype).reshape(-1, source.line_size // dtype.itemsize)  # type: ignore[call-overload]
    width = source.width * (2 if layout.kind == "nv" and plane else layout.channels if layout.kind == "rgb" else 1)
    view: NDArray[Any] = rows[: source.height, :width]
    return view


def align(frame: av.VideoFrame, x0: int, y0: int, x1: int, y1: int) -> tuple[int, int, int, int] | None:
    """The rectangle cut to the frame and grown to whole chroma samples, or None where nothing is left."""
    layout = layout_of(frame)
    step_x, step_y = 1 << layout.sx, 1 << layout.sy
    x0, y0 = max(0, x0) // step_x * step_x, max(0, y0) // step_y * step_y
    x1 = min(frame.width, -(-x1 // step_x) * step_x)
    y1 = min(frame.height, -(-y1 // step_y) * step_y)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def read(frame: av.VideoFrame, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.uint8]:
    """The rectangle (already ``align``-ed) as (y1-y0, x1-x0, 3) uint8 RGB."""
    layout = layout_of(frame)
    parts = _parts(frame, layout, x0, y0, x1, y1)
    width, height = x1 - x0, y1 - y0
    if layout.kind in ("rgb", "gbr"):
        rgb = cv2.merge([parts[i] for i in layout.order])
        return rgb if layout.bits == 8 else _to_bytes(rgb * np.float32(255 / ((1 << layout.bits) - 1)))  # type: ignore[return-value]
    matrix = to_rgb(*color_key(frame, layout))
    luma = _unpacked(parts[0], layout)
    if layout.kind == "gray":
        offset = matrix[0, 3] + (matrix[0, 1] + matrix[0, 2]) * (128 << (layout.bits - 8))  # chroma at its zero
        return _to_bytes(cv2.merge([luma * matrix[0, 0] + offset] * 3))
    chroma = [cv2.resize(_unpacked(c, layout), (width, height), interpolation=cv2.INTER_LINEAR) for c in parts[1:]]
    return _to_bytes(cv2.transform(cv2.merge([luma, *chroma]), matrix))


def crop(frame: av.VideoFrame, x0: int, y0: int, x1: int, y1: int) -> av.VideoFrame:
    """The rectangle (already ``align``-ed) as a frame of its own, in the same format, matrix and range."""
    layout = LAYOUTS[frame.format.name]
    part = av.VideoFrame(x1 - x0, y1 - y0, frame.format.name)
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    for i in range(len(part.planes)):
        sx, sy, each = 0, 0, layout.channels if layout.kind == "rgb" else 1
        if layout.kind in ("yuv", "nv") and i in (1, 2):
            sx, sy, each = layout.sx, layout.sy, 2 if layout.kind == "nv" else 1
        rows = samples(frame, i)[y0 >> sy : -(-y1 >> sy), (x0 >> sx) * each : -(-x1 >> sx) * each]
        samples(part, i)[:] = rows
    return part


def blend(
    frame: av.VideoFrame,
    x0: int,
    y0: int,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    mask: NDArray[np.float32],
) -> None:
    """Add ``(after - before) * mask`` to the frame, in its own planes.

    Args:
        frame: writable; changed in place.
        x0, y0: the rectangle's corner, as ``align`` gave it.
        before: (h, w, 3) uint8 RGB, what ``read`` gave.
        after: (h, w, 3) uint8 RGB.
        mask: (h, w) float32, 0..1; where it is 0 the frame keeps its value to the bit.
    """
    add(frame, x0, y0, (after.astype(np.float32) - before) * mask[:, :, None])


def add(frame: av.VideoFrame, x0: int, y0: int, change: NDArray[np.float32]) -> None:
    """Add ``change`` to a rectangle of the frame, in the frame's own planes.

    Args:
        frame: writable; changed in place.
        x0, y0: the rectangle's corner, as ``align`` gave it.
        change: (h, w, 3) float32 RGB differences, 8-bit units; where it is 0 the frame keeps its value to the bit.
    """
    layout = layout_of(frame)
    height, width = change.shape[:2]
    parts = _parts(frame, layout, x0, y0, x0 + width, y0 + height)
    if layout.kind in ("rgb", "gbr"):
        change = change * np.float32(((1 << layout.bits) - 1) / 255)
        for channel, i in enumerate(layout.order):
            _add(parts[i], change[:, :, channel], layout)
        return
    yuv = cv2.transform(change, from_rgb(*color_key(frame, layout)))  # a change has no offset: 3x3 is enough
    _add(parts[0], yuv[:, :, 0], layout)
    for part, channel in zip(parts[1:], (1, 2), strict=layout.kind != "gray"):
        plane = yuv[:, :, channel]
        if plane.shape != part.shape:
            plane = cv2.resize(plane, part.shape[::-1], interpolation=cv2.INTER_AREA)
        _add(part, plane, layout)


def write(frame: av.VideoFrame, x0: int, y0: int, rgb: NDArray[np.uint8]) -> None:
    """Put an (h, w, 3) uint8 RGB rectangle into a writable frame; x0 and y0 on whole chroma samples."""
    layout = layout_of(frame)
    height, width = rgb.shape[:2]
    parts = _parts(frame, layout, x0, y0, x0 + width, y0 + height)
    if layout.kind in ("rgb", "gbr"):
        neutral = [0] * len(parts)
    else:
        unit = 1 << (layout.bits - 8)
        luma = 0 if color_key(frame, layout)[1] else 16 * unit
        neutral = [luma, 128 * unit, 128 * unit]
    for part, value in zip(parts, neutral, strict=False):
        part[:] = value << layout.shift
    blend(frame, x0, y0, np.zeros_like(rgb), rgb, np.ones((height, width), np.float32))


def _parts(frame: av.VideoFrame, layout: Layout, x0: int, y0: int, x1: int, y1: int) -> list[NDArray[Any]]:
    """The rectangle's views: Y, U, V; Y alone; or the samples of a packed format, one view a channel."""
    if layout.kind == "rgb":
        pixels = samples(frame, 0)[y0:y1, x0 * layout.channels : x1 * layout.channels]
        return [pixels[:, c :: layout.channels] for c in range(layout.channels)]
    if layout.kind == "gbr":
        return [samples(frame, i)[y0:y1, x0:x1] for i in range(3)]
    parts = [samples(frame, 0)[y0:y1, x0:x1]]
    cx0, cx1 = x0 >> layout.sx, -(-x1 >> layout.sx)
    cy0, cy1 = y0 >> layout.sy, -(-y1 >> layout.sy)
    if layout.kind == "yuv":
        parts += [samples(frame, i)[cy0:cy1, cx0:cx1] for i in (1, 2)]
    elif layout.kind == "nv":
        pairs = samples(frame, 1)[cy0:cy1, 2 * cx0 : 2 * cx1]
        parts += [pairs[:, i::2] for i in layout.order[:2]]
    return parts


def _unpacked(part: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
    values = part >> layout.shift if layout.shift else part
    return values.astype(np.float32)


def _add(part: NDArray[Any], change: NDArray[Any], layout: Layout) -> None:
    """``part += change``, rounded and clipped, in place; zero change leaves a sample's every bit."""
    steps = np.rint(change).astype(np.int32)
    values = (part >> layout.shift).astype(np.int32) + steps
    np.copyto(part, np.clip(values, 0, (1 << layout.bits) - 1) << layout.shift, casting="unsafe", where=steps != 0)


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def color_key(frame: av.VideoFrame, layout: Layout) -> tuple[int, bool, int]:
    """AVColorSpace number, full range?, bits.  Untagged video is BT.709 from 720 lines up, else BT.601."""
    space = int(frame.colorspace)
    if space not in _KR_KB:
        space = 1 if frame.height >= 720 else 6
    return space, layout.full or int(frame.color_range) == 2, layout.bits


@lru_cache
def from_rgb(space: int, full: bool, bits: int) -> NDArray[np.float32]:
    """(3, 3): 8-bit RGB differences to Y, Cb, Cr differences in the format's own codes."""
    kr, kb = _KR_KB[space]
    kg = 1 - kr - kb
    luma = np.array([kr, kg, kb])
    rows = np.stack([luma, ([0, 0, 1] - luma) / (2 * (1 - kb)), ([1, 0, 0] - luma) / (2 * (1 - kr))])
    top = (1 << bits) - 1
    ranges = np.array([top, top, top]) if full else np.array([219, 224, 224]) * (1 << (bits - 8))
    return np.asarray(rows * ranges[:, None] / 255, np.float32)


@lru_cache
def to_rgb(space: int, full: bool, bits: int) -> NDArray[np.float32]:
    """(3, 4): Y, Cb, Cr codes to 8-bit RGB, offset in the last column."""
    inverse = np.linalg.inv(from_rgb(space, full, bits).astype(np.float64))
    unit = 1 << (bits - 8)
    zero = np.array([0 if full else 16 * unit, 128 * unit, 128 * unit])
    return np.asarray(np.hstack([inverse, -(inverse @ zero)[:, None]]), np.float32)
