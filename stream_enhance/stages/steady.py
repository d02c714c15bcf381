"""A face over time: what was made of a track is carried along by optical flow and mixed with what is new.

Results mixed along the track do not tremble.  Where a face has changed, a mouth that opens, the new takes the place of
the old at once: a running mean with robust weights (Huber, 1964).  The flow is DIS (Kroeger et al., ECCV 2016) between
small grey copies of the patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .past import THUMB as THUMB
from .past import Past

_REACH = 6.0  # thumb pixels that a feature may have moved
_GAP = 0.5  # seconds unseen after which a face is a new one
_SOFT = 4.0  # grey levels beyond the frame's noise at which a change counts half
_MISFIT = 25.0  # grey levels of median change: another face, or another light
_EASE = 0.2  # of a new strength
NEW = 0.5  # least weight of a new result


@dataclass(slots=True)
class Motion:
    """How a face got from the last input to this one."""

    flow: NDArray[np.float32]  # (THUMB, THUMB, 2) thumb pixels x, y, from this input to the last
    change: NDArray[np.float32]  # (THUMB, THUMB) 0..1, how far it is another than the last, carried along

    def carry(self, image: NDArray[Any]) -> NDArray[Any]:
        """A (S, S[, 3]) image of the last input, of any size, as it lies on this one."""
        size = len(image)
        place = cv2.resize(self.flow, (size, size), interpolation=cv2.INTER_LINEAR) * np.float32(size / THUMB)
        axis = np.arange(size, dtype=np.float32)
        x, y = place[:, :, 0] + axis, place[:, :, 1] + axis[:, None]
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def rigid(self) -> Motion:
        """The shift of the whole face alone: a mouth that opens is then a change."""
        return Motion(np.full_like(self.flow, np.median(self.flow, (0, 1))), self.change)

    def weight(self, least: float, size: int) -> NDArray[np.float32]:
        """(size, size) float32: the weight of what is new, from ``least`` where nothing has changed to 1."""
        small = np.maximum(self.change, np.float32(least))
        return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(slots=True)
class TrackMemory:
    """What is remembered of one track's face, on the canvas of its last patch."""

    thumb: NDArray[np.uint8]  # (THUMB, THUMB) grey, of the last input
    seconds: float  # stream time of the last input
    result: NDArray[np.uint8] | None = None  # (S, S, 3) RGB, of the results; None until the first
    consistency: float = 0.0  # of the last result with its input
    strength: float | None = None  # 0..1, eased
    seen: NDArray[np.uint8] | None = None  # thumb of the input that was last given to the network, shifted along
    seen_at: float = 0.0  # seconds of stream time
    past: Past | None = None  # for a network that takes it
    error: NDArray[np.float32] | None = None  # (THUMB, THUMB) 0..1, expected of the result; None: not given
    fusion: Any = None  # its last inputs, ``fuse.Fusion``, where they are made into one

    @classmethod
    def of(cls, patch: NDArray[np.uint8], seconds: float) -> TrackMemory:
        """A memory that begins with ``patch``."""
        return cls(thumb_of(patch), seconds)

    def goes_on(self, seconds: float) -> bool:
        """Whether what is seen at ``seconds`` is soon enough after the last input."""
        return 0 <= seconds - self.seconds <= _GAP

    def add(self, patch: NDArray[np.uint8], seconds: float) -> Motion | None:
        """Take in an input; how the face got there from the last one, None: it starts over."""
        before, self.thumb, self.seconds = self.thumb, thumb_of(patch), seconds
        motion = motion_of(before, self.thumb)
        if self.seen is not None:
            self.seen = None if motion is None else motion.rigid().carry(self.seen)
        return motion

    def remember(self, patch: NDArray[np.uint8], motion: Motion | None) -> NDArray[np.float32]:
        """Take the input ``patch`` (S, S, 3) RGB into the past, which starts over where ``motion`` is None.

        Returns the past with it, (1, S, S), as a network takes it.
        """
        if self.past is None or motion is None:
            self.past = Past.of(patch)
        else:
            self.past.add(patch, motion)
        return self.past.plane()

    def expect(self, error: NDArray[np.float32] | None, motion: Motion | None) -> None:
        """Take in the expected ``error`` of a new result; None: the last result's, carried along by ``motion``."""
        if error is not None:
            self.error = error
        elif self.error is not None:
            self.error = None if motion is None else motion.carry(self.error)

    def eased(self, strength: float) -> float:
        """``strength`` without jumps: a step would flicker."""
        before = strength if self.strength is None else self.strength
        self.strength = before + _EASE * (strength - before)
        return self.strength

    def still_holds(self, tolerance: float, ttl: float) -> bool:
        """Whether the last input is so much like the one last given to the network that its result can be used again.

        Args:
            tolerance: mean grey levels by which some part of the face may have changed.
            ttl: seconds that a result may be old.
        """
        if self.seen is None or self.seconds - self.seen_at > ttl:
            return False
        face = cv2.absdiff(self.seen, self.thumb)[12:60, 8:56]  # a blink is a change too
        return float(face.reshape(4, 12, 4, 12).mean((1, 3)).max()) < tolerance

    def given(self) -> None:
        """The last input goes to the network."""
        self.seen, self.seen_at = self.thumb, self.seconds

    def mix(self, result: NDArray[np.uint8] | None, motion: Motion | None) -> None:
        """Carry the results along by ``motion`` and mix the network's ``result`` in, if there is one."""
        if self.result is None or motion is None:
            self.result = result
            return
        before = motion.carry(self.result)
        if result is None:
            self.result = before
            return
        weight = motion.weight(NEW, len(result))
        mixed = cv2.blendLinear(result, before, weight, 1 - weight)
        self.result = mixed.astype(np.uint8, copy=False)


def thumb_of(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(THUMB, THUMB) uint8 grey of a (S, S, 3) RGB patch."""
    small = cv2.resize(patch, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def motion_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Motion | None:
    """How a face got from one thumb to another; None where it is another face, or in another light."""
    calm = (cv2.GaussianBlur(after, (0, 0), 1.0), cv2.GaussianBlur(before, (0, 0), 1.0))
    raw = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST).calc(*calm, np.zeros(0))
    flow = np.asarray(cv2.GaussianBlur(np.clip(raw, -_REACH, _REACH), (0, 0), 2.0), np.float32)
    motion = Motion(flow, np.zeros((THUMB, THUMB), np.float32))
    difference = cv2.blur(cv2.absdiff(motion.carry(before), after).astype(np.float32), (5, 5))
    typical = float(np.median(difference))
    if typical > _MISFIT:
        return None
    beyond = (np.maximum(difference - 1.5 * typical, 0) / np.float32(_SOFT)) ** 2
    motion.change = np.asarray(beyond / (1 + beyond), np.float32)
    return motion


def blended(
    result: NDArray[np.uint8], original: NDArray[np.uint8], share: float | NDArray[np.float32]
) -> NDArray[np.uint8]:
    """``share`` (0..1, one for all or (S, S)) of ``result`` and the rest of ``original``, (S, S, 3) uint8."""
    if isinstance(share, float):
        return np.asarray(cv2.addWeighted(result, share, original, 1 - share, 0), np.uint8)
    return np.asarray(cv2.blendLinear(result, original, share, 1 - share), np.uint8)


def consistency_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Correlation of two patches' middles in the band of eyes, nose and mouth, at 24 x 24 pixels; 1: alike.

    That coarse, noise, blur and coding hardly matter, and brightness does not.  A patch that is all but flat before
    and after counts as alike.
    """
    bands = []
    for patch in (before, after):
        small = cv2.cvtColor(cv2.resize(patch, (24, 24), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        grey = small.astype(np.float32)
        bands.append((grey - cv2.GaussianBlur(grey, (0, 0), 2.0))[3:21, 3:21])
    x, y = bands
    floor = np.float32(0.25 * x.size)  # half a grey level of contrast
    return float(((x * y).sum() + floor) / np.sqrt(((x * x).sum() + floor) * ((y * y).sum() + floor)))
