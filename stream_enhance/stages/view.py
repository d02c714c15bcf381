"""What the network is shown of a frame, and where it lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..imaging import planes
from ..types import Frame


@dataclass(frozen=True, slots=True)
class LetterboxView:
    """A network input and where it came from: frame = (input - (left, top)) / scale."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB, H and W multiples of the network's stride
    scale: tuple[float, float]  # input pixels a frame pixel, x and y
    left: float  # the upright frame's origin in the input, pixels
    top: float


def crop_view(frame: Frame, box: tuple[int, int, int, int], reformatter: VideoReformatter) -> LetterboxView:
    """The part ``box`` (x0, y0, x1, y1, of the frame as it is coded, on whole chroma samples), upright, as it is."""
    x0, y0, x1, y1 = box
    part = planes.crop(frame.image, x0, y0, x1, y1)
    image = reformatter.reformat(part, format="rgb24", dst_color_range="JPEG", threads=1).to_ndarray()
    width, height = frame.image.width, frame.image.height
    match frame.rotation:
        case 90:
            left, top = y0, width - x1
        case 180:
            left, top = width - x1, height - y1
        case 270:
            left, top = height - y1, x0
        case _:
            left, top = x0, y0
    return LetterboxView(np.ascontiguousarray(np.rot90(image, frame.rotation // 90)), (1.0, 1.0), -left, -top)
