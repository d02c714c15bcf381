"""What a network that takes several frames sees of a track besides the frame: the mean of its inputs, and its result.

Both lie, at half the size, on the canvas of the last patch and are carried to the next by ``steady.Motion``.  Where a
face has changed, a mouth that opens, the past gives way to the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .steady import Motion

THUMB = 64  # pixels; what is compared from frame to frame
HALF = 128  # pixels: side of what is remembered
MOST = 10.0  # inputs that the mean holds at most, so that it forgets


@dataclass(slots=True)
class Past:
    """The past of one track."""

    mean: NDArray[np.float32]  # (HALF, HALF, 3) RGB 0..255, of the inputs
    count: NDArray[np.float32]  # (THUMB, THUMB), inputs in it
    result: NDArray[np.float32]  # (HALF, HALF, 3) RGB 0..255, the network's last; the input until there is one

    @classmethod
    def of(cls, patch: NDArray[np.uint8]) -> Past:
        """A past that begins with ``patch`` (S, S, 3) RGB."""
        now = halved(patch)
        return cls(now, np.ones((THUMB, THUMB), np.float32), now)

    def add(self, patch: NDArray[np.uint8], motion: Motion) -> None:
        """Carry the past along by ``motion`` and take the input ``patch`` (S, S, 3) RGB in."""
        now, side = halved(patch), (HALF, HALF)
        held = motion.carry(self.count) * (1 - motion.change)
        self.count = np.minimum(held + 1, MOST).astype(np.float32)
        share = cv2.resize(1 / self.count, side, interpolation=cv2.INTER_LINEAR)
        change = cv2.resize(motion.change, side, interpolation=cv2.INTER_LINEAR)
        self.mean, self.result = (
            np.asarray(cv2.blendLinear(now, motion.carry(before), new, 1 - new), np.float32)
            for before, new in ((self.mean, share), (self.result, change))
        )

    def gave(self, result: NDArray[np.uint8]) -> None:
        """Remember the network's ``result`` (S, S, 3) RGB."""
        self.result = halved(result)

    def planes(self) -> NDArray[np.float32]:
        """(2, 2 HALF, 2 HALF) float32: eight planes of HALF x HALF by pixel shuffle (Shi et al., CVPR 2016).

        They are RGB 0..1 of the mean and of the last result, the share of MOST inputs that the mean holds, and 0.
        """
        planes = np.zeros((2, HALF, 2, HALF, 2), np.float32)
        for channel in range(3):
            planes[channel // 4, :, channel % 4 // 2, :, channel % 2] = self.mean[:, :, channel] / 255
            other = channel + 3
            planes[other // 4, :, other % 4 // 2, :, other % 2] = self.result[:, :, channel] / 255
        planes[1, :, 1, :, 0] = cv2.resize(self.count / MOST, (HALF, HALF), interpolation=cv2.INTER_NEAREST)
        return planes.reshape(2, 2 * HALF, 2 * HALF)


def halved(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(HALF, HALF, 3) float32 of a (S, S, 3) image."""
    small = cv2.resize(patch, (HALF, HALF), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)
