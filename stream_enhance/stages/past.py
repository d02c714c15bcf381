"""What a network that takes several frames remembers of a track: the mean of its inputs, and a hidden state.

Both lie on the canvas of the last patch and are carried to the next by ``steady.Motion``.  Where a face has changed, a
mouth that opens, the past is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .steady import Motion

MOST = 10.0  # inputs that the mean holds at most, so that it forgets
CELLS = 64  # a side of the hidden state


@dataclass(slots=True)
class Past:
    """The past of one track."""

    mean: NDArray[np.float32]  # (S, S, 3) RGB 0..255, of the inputs
    count: NDArray[np.float32]  # (CELLS, CELLS), inputs in it
    state: NDArray[np.float32] | None = None  # (C, CELLS, CELLS); None until the network gave one

    @classmethod
    def of(cls, patch: NDArray[np.uint8]) -> Past:
        """A past that begins with ``patch`` (S, S, 3) RGB."""
        return cls(patch.astype(np.float32), np.ones((CELLS, CELLS), np.float32))

    def add(self, patch: NDArray[np.uint8], motion: Motion) -> None:
        """Carry the past along by ``motion`` and take the input ``patch`` (S, S, 3) RGB in."""
        held = motion.carry(self.count) * (1 - motion.change)
        self.count = np.minimum(held + 1, MOST).astype(np.float32)
        share = cv2.resize(1 / self.count, (len(patch), len(patch)), interpolation=cv2.INTER_LINEAR)[:, :, None]
        before = motion.carry(self.mean)
        self.mean = (before + share * (patch - before)).astype(np.float32)
        if self.state is not None:
            self.state = carried(self.state, motion)


def carried(state: NDArray[np.float32], motion: Motion) -> NDArray[np.float32]:
    """``state`` (C, CELLS, CELLS) of the last input as it lies on this one, 0 where the face has changed."""
    parts = [motion.carry(np.ascontiguousarray(part.transpose(1, 2, 0))) for part in np.split(state, len(state) // 4)]
    return np.concatenate([part.transpose(2, 0, 1) for part in parts]) * (1 - motion.change)
