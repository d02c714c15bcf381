"""What a network that takes several frames sees of a track besides the frame: the running mean of its inputs.

It lies, at half the size, on the canvas of the last patch and is carried to the next by ``steady.Motion``.  Where a
face has changed, a mouth that opens, the mean starts over.
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
CAUTION = 0.2  # of the expected error: a change so large counts half
MOST = 10.0  # inputs that the mean holds at most, so that it forgets


@dataclass(slots=True)
class Past:
    """The past of one track."""

    mean: NDArray[np.float32]  # (S/2, S/2, 3) RGB 0..255, of the inputs
    count: NDArray[np.float32]  # (THUMB, THUMB), inputs in it

    @classmethod
    def of(cls, patch: NDArray[np.uint8]) -> Past:
        """A past that begins with ``patch`` (S, S, 3) RGB."""
        return cls(halved(patch), np.ones((THUMB, THUMB), np.float32))

    def add(self, patch: NDArray[np.uint8], motion: Motion) -> None:
        """Carry the past along by ``motion`` and take the input ``patch`` (S, S, 3) RGB in."""
        held = motion.carry(self.count) * (1 - motion.change)
        self.count = np.minimum(held + 1, MOST).astype(np.float32)
        share = cv2.resize(1 / self.count, self.mean.shape[:2], interpolation=cv2.INTER_LINEAR)
        mean = cv2.blendLinear(halved(patch), motion.carry(self.mean), share, 1 - share)
        self.mean = np.asarray(mean, np.float32)

    def plane(self) -> NDArray[np.float32]:
        """(1, S, S) float32: four planes of half the size by pixel shuffle (Shi et al., CVPR 2016).

        They are RGB 0..1 of the mean, and the share of MOST inputs that the mean holds.
        """
        half = len(self.mean)
        plane = np.empty((half, 2, half, 2), np.float32)
        for channel in range(3):
            plane[:, channel // 2, :, channel % 2] = self.mean[:, :, channel] / 255
        plane[:, 1, :, 1] = cv2.resize(self.count / MOST, (half, half), interpolation=cv2.INTER_NEAREST)
        return plane.reshape(1, 2 * half, 2 * half)


def share_of(before: NDArray[np.uint8], after: NDArray[np.uint8], error: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, S) float32 0..1: how much of a result to show, by how far it may be wrong.

    Args:
        before: (S, S, 3) uint8, what the camera saw.
        after: the result.
        error: (THUMB, THUMB) float32, its expected absolute error, 0..1.
    """
    small = cv2.resize(cv2.absdiff(before, after), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    change = cv2.GaussianBlur(small.astype(np.float32).mean(2) / np.float32(255), (0, 0), 1.0)
    share = change**2 / (change**2 + (CAUTION * error) ** 2 + np.float32(1e-9))
    return np.asarray(cv2.resize(share, before.shape[:2], interpolation=cv2.INTER_LINEAR), np.float32)


def halved(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(S/2, S/2, 3) float32 of a (S, S, 3) image."""
    half = len(patch) // 2
    small = cv2.resize(patch, (half, half), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)
