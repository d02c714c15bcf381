"""What the stages do to a frame in the host's memory, by OpenCV and swscale.  ``device`` has the same in torch.

``Imaging`` says what they have in common, so that a stage need not know where its frames lie.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from . import crop, planes

Pixels: TypeAlias = Any  # (H, W, 3) uint8 RGB where the frame lies: an array, or torch's tensor

GREY = 114  # around a letterbox, as YOLO was trained


class Imaging(Protocol):
    """The operations on whole frames and on the rectangles of faces."""

    def grid(self, image: av.VideoFrame, size: tuple[int, int], rows: int) -> NDArray[np.float32]:
        """The first plane, of which about ``rows`` rows are read, averaged to (height, width) of ``size`` (w, h).

        In 8-bit grey levels, in the host's memory.
        """
        ...

    def shrink(self, image: av.VideoFrame, width: int, height: int, quarters: int) -> Pixels:
        """``image`` as (height, width, 3) uint8 RGB, bilinear, then turned by so many quarters counter-clockwise."""
        ...

    def letterbox(self, pixels: Pixels, height: int, width: int, left: int, top: int) -> Pixels:
        """``pixels`` at (left, top) of a grey (height, width, 3) image."""
        ...

    def cut(self, image: av.VideoFrame, to_frame: NDArray[np.float32], size: int) -> NDArray[np.uint8] | None:
        """The (size, size, 3) uint8 RGB patch, in the host's memory; None where it lies wholly outside ``image``."""
        ...

    def paste(
        self,
        image: av.VideoFrame,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        mask: NDArray[np.float32],
        to_frame: NDArray[np.float32],
    ) -> None:
        """Add ``(after - before) * mask`` to a writable frame, where ``to_frame`` places it.

        The frame keeps what a patch loses by being enlarged and shrunk again: where nothing changed, every bit.

        Args:
            before: (S, S, 3) uint8 RGB, as ``cut`` took it.
            after: (S, S, 3) uint8 RGB.
            mask: (S, S) 0..1.
            to_frame: (2, 3) patch pixels to frame pixels.
        """
        ...

    def draw(self, image: av.VideoFrame, x: int, y: int, rgb: NDArray[np.uint8], opacity: NDArray[np.float32]) -> None:
        """Lay an (h, w, 3) RGB image of (h, w) ``opacity`` over a writable frame at (x, y); cut at its edges."""
        ...


class Host:
    """``Imaging`` in the host's memory.  Not to be shared by threads."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def grid(self, image: av.VideoFrame, size: tuple[int, int], rows: int) -> NDArray[np.float32]:
        """See ``Imaging``."""
        first = planes.samples(image, 0)
        small = cv2.resize(first[:: max(1, len(first) // rows)], size, interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) * np.float32(255 / ((1 << planes.layout_of(image).bits) - 1))

    def shrink(self, image: av.VideoFrame, width: int, height: int, quarters: int) -> NDArray[np.uint8]:
        """See ``Imaging``: one swscale call from the decoder's own format."""
        small = self._reformatter.reformat(
            image, width, height, "rgb24", interpolation=Interpolation.BILINEAR, dst_color_range="JPEG", threads=1
        )
        pixels: NDArray[np.uint8] = small.to_ndarray()  # type: ignore[assignment]
        return np.rot90(pixels, quarters) if quarters else pixels

    def letterbox(self, pixels: Pixels, height: int, width: int, left: int, top: int) -> NDArray[np.uint8]:
        """See ``Imaging``."""
        canvas = np.full((height, width, 3), GREY, np.uint8)
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return canvas

    def cut(self, image: av.VideoFrame, to_frame: NDArray[np.float32], size: int) -> NDArray[np.uint8] | None:
        """See ``Imaging``."""
        region = planes.align(image, *crop.bounds(to_frame, size))
        if region is None:
            return None
        return crop.cut(planes.read(image, *region), crop.moved(to_frame, *region[:2]), size)

    def paste(
        self,
        image: av.VideoFrame,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        mask: NDArray[np.float32],
        to_frame: NDArray[np.float32],
    ) -> None:
        """See ``Imaging``."""
        region = planes.align(image, *crop.bounds(to_frame, len(before)))
        if region is None:
            return
        x0, y0, x1, y1 = region
        change = (after.astype(np.float32) - before) * mask[:, :, None]
        planes.add(image, x0, y0, crop.place(change, crop.moved(to_frame, x0, y0), (x1 - x0, y1 - y0)))

    def draw(self, image: av.VideoFrame, x: int, y: int, rgb: NDArray[np.uint8], opacity: NDArray[np.float32]) -> None:
        """See ``Imaging``."""
        height, width = opacity.shape
        region = planes.align(image, x, y, x + width, y + height)
        if region is None:
            return
        x0, y0, x1, y1 = region
        before = planes.read(image, *region)
        after, mask = before.copy(), np.zeros(before.shape[:2], np.float32)
        part = np.s_[max(0, y - y0) : min(y - y0 + height, y1 - y0), max(0, x - x0) : min(x - x0 + width, x1 - x0)]
        shape = after[part].shape
        after[part], mask[part] = rgb[: shape[0], : shape[1]], opacity[: shape[0], : shape[1]]
        planes.blend(image, x0, y0, before, after, mask)
