"""A face over time: inputs of a track averaged before the network, its results after it, both on one canvas.

The canvas is the patch.  Each new patch is registered to what is remembered, so that the same feature stays on the same
pixel; the mean of the inputs then has less noise than any of them, and results mixed along it do not tremble.  Where a
face has changed, a mouth that opens, the new patch takes the mean's place at once.  A robust running mean in the sense
of Huber's weights; shifts after Lucas and Kanade (IJCAI 1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

THUMB = 32  # pixels; what is compared from frame to frame
REACH = 3  # thumb pixels that a face may have moved against its track
_GAP = 0.5  # seconds unseen after which a face is a new one
_PULL = 0.9  # of a measured shift that is followed: the rest keeps the canvas from drifting off the points
_SOFT = 4.0  # grey levels beyond the frame's noise at which a change counts half
_MISFIT = 25.0  # grey levels of median change: another face, or another light
INPUTS = 0.2  # least weight of a new input in the mean
RESULTS = 0.5  # least weight of a new result


@dataclass(slots=True)
class TrackMemory:
    """What is remembered of one track's face."""

    mean: NDArray[np.float32]  # (S, S, 3) RGB, of the inputs
    thumb: NDArray[np.uint8]  # (THUMB, THUMB) grey, of the mean
    seconds: float  # stream time of the last input
    count: int = 1  # inputs in the mean
    result: NDArray[np.uint8] | None = None  # (S, S, 3) RGB, of the results; None until the first
    consistency: float = 0.0  # of the last result with its input
    seen: NDArray[np.uint8] | None = None  # thumb of the input that was last given to the network
    seen_at: float = 0.0  # seconds of stream time

    @classmethod
    def of(cls, patch: NDArray[np.uint8], seconds: float) -> TrackMemory:
        """A memory that begins with ``patch``."""
        return cls(patch.astype(np.float32), thumb_of(patch), seconds)

    def goes_on(self, seconds: float) -> bool:
        """Whether what is seen at ``seconds`` is soon enough after the last input."""
        return 0 <= seconds - self.seconds <= _GAP

    def add(self, patch: NDArray[np.uint8], seconds: float) -> NDArray[np.float32] | None:
        """Take in an input that is registered to this canvas; how far each part has changed, None: it begins anew."""
        change = change_of(self.thumb, thumb_of(patch))
        if change is None:
            self.mean, self.count, self.seen = patch.astype(np.float32), 1, None
        else:
            self.count += 1
            weight = np.maximum(change, max(1 / self.count, INPUTS))
            self.mean += _enlarged(weight, len(patch)) * (patch - self.mean)
        self.thumb, self.seconds = thumb_of(self.fused()), seconds
        return change

    def fused(self) -> NDArray[np.uint8]:
        """(S, S, 3) uint8 RGB: the mean of the inputs."""
        return cv2.convertScaleAbs(self.mean).astype(np.uint8, copy=False)

    def still_holds(self, tolerance: float, ttl: float) -> bool:
        """Whether the last input is so much like the one last given to the network that its result can be used again.

        Args:
            tolerance: mean grey levels by which some part of the face may have changed.
            ttl: seconds that a result may be old.
        """
        if self.seen is None or self.seconds - self.seen_at > ttl:
            return False
        face = cv2.absdiff(self.seen, self.thumb)[6:30, 4:28]  # a blink is a change too
        return float(face.reshape(4, 6, 4, 6).mean((1, 3)).max()) < tolerance

    def given(self) -> NDArray[np.uint8]:
        """``fused``, about to be given to the network."""
        self.seen, self.seen_at = self.thumb, self.seconds
        return self.fused()

    def mix(self, result: NDArray[np.uint8], change: NDArray[np.float32] | None) -> None:
        """Mix the network's ``result`` with those before, less where the input had ``change``-d."""
        if self.result is None or change is None:
            self.result = result
        else:
            weight = _enlarged(np.maximum(change, RESULTS), len(result))
            before = self.result.astype(np.float32)
            self.result = cv2.convertScaleAbs(before + weight * (result - before)).astype(np.uint8, copy=False)


def thumb_of(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(THUMB, THUMB) uint8 grey of a (S, S, 3) RGB patch."""
    small = cv2.resize(patch, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def shift_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far a face went from one thumb to another, thumb pixels x, y; zero where that cannot be said."""
    centre = np.array([[[THUMB / 2, THUMB / 2]]], np.float32)
    window = (THUMB - 8, THUMB - 8)
    place, found, _ = cv2.calcOpticalFlowPyrLK(before, after, centre, centre.copy(), winSize=window, maxLevel=1)
    shift = np.asarray((place - centre)[0, 0], np.float32)
    return shift * np.float32(_PULL) if found[0, 0] and np.abs(shift).max() <= REACH else np.zeros(2, np.float32)


def change_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """(THUMB, THUMB) float32, 0..1: where two registered thumbs differ by more than their noise; None: everywhere."""
    difference = cv2.blur(cv2.absdiff(before, after).astype(np.float32), (3, 3))
    typical = float(np.median(difference))
    if typical > _MISFIT:
        return None
    beyond = (np.maximum(difference - 1.5 * typical, 0) / np.float32(_SOFT)) ** 2
    return np.asarray(beyond / (1 + beyond), np.float32)


def _enlarged(weight: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(size, size, 1) float32."""
    large = cv2.resize(weight, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)[:, :, None]
