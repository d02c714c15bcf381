"""One moment of a face, shown in every way: as recorded, enlarged, by formulas, by the network, and what that added."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...imaging import crop
from ...stages import gates
from ...stages.classical import Classical
from ...stages.networks import Network
from .tracks import Moment

HOTTEST = 16.0  # grey levels of added detail at which the heat map is at its brightest
_FULL = 0.05  # of strength, below which a result is not shown: it would be the input


@dataclass(frozen=True, slots=True)
class Shot:
    """A moment's renderings, all (S, S, 3) uint8 RGB at one scale."""

    original: NDArray[np.uint8]  # the camera's own pixels, each a square
    bicubic: NDArray[np.uint8]
    classical: NDArray[np.uint8]
    learned: NDArray[np.uint8] | None  # None where the face is left alone
    heat: NDArray[np.uint8] | None  # what of ``learned`` the input does not explain, see ``unexplained``
    strength: float  # share of the network's result in ``learned``
    added: float  # mean grey levels of ``unexplained`` over the face
    left_alone: str  # why, in words

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """By name, those that there are."""
        every = {
            "original": self.original,
            "bicubic": self.bicubic,
            "classical": self.classical,
            "learned": self.learned,
            "heat": self.heat,
        }
        return {name: image for name, image in every.items() if image is not None}


def unexplained(before: NDArray[np.uint8], after: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    """How much of a result the low-resolution input does not explain, grey levels a pixel.

    The result is taken down to the resolution that the camera gave and enlarged again, as the input was.  What is lost
    on the way is detail finer than the camera's pixels: none of it was recorded.  What then still differs from the
    input contradicts its pixels, be it as removed noise.  Both count.  (Back-projection's residual: Irani and Peleg,
    CVGIP 1991.)

    Args:
        before: (S, S, 3) uint8 RGB, the input enlarged.
        after: (S, S, 3) uint8 RGB, the result.
        scale: frame pixels a patch pixel.

    Returns:
        (S, S) float32, 0 where the input explains all.
    """
    change = cv2.cvtColor(after, cv2.COLOR_RGB2GRAY).astype(np.float32) - cv2.cvtColor(before, cv2.COLOR_RGB2GRAY)
    size = len(before)
    native = min(size, max(8, round(size * scale)))
    small = cv2.resize(change, (native, native), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    result: NDArray[np.float32] = np.abs(change - coarse) + np.abs(coarse)
    return cv2.GaussianBlur(result, (0, 0), size / 128).astype(np.float32, copy=False)


def heat_map(before: NDArray[np.uint8], added: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 3) uint8 RGB: ``added`` grey levels in colour, from none (the grey input) to ``HOTTEST`` (yellow)."""
    level = np.clip(added / HOTTEST, 0, 1)
    colour = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    grey = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.float32) * 0.6
    opacity = np.clip(level * 3, 0, 1)[:, :, None] * 0.85
    mixed: NDArray[np.uint8] = np.rint(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    return mixed


def shot_of(moment: Moment, network: Network | None, strength: float | None) -> Shot:
    """Every rendering of ``moment``.

    Args:
        network: the learned one; None: there is no learned rendering.
        strength: share of its result; None: by the face's size and sharpness, and less at the mouth of small faces.
    """
    scale = crop.scale_of(moment.to_frame)
    patch, scales = moment.patch[None], np.array([scale], np.float32)
    classical = Classical()(patch, scales)[0]
    left, learned, heat, added = moment.left_alone, None, None, 0.0
    share = gates.strength_of(moment.height, moment.sharpness) if strength is None else strength
    if not left and network is not None:
        if share < _FULL:
            left = "it is sharp enough"
        else:
            computed = network(patch, scales)[0]
            mixed = cv2.addWeighted(computed, share, moment.patch, 1 - share, 0).astype(np.uint8, copy=False)
            learned = mixed if strength is not None else gates.with_mouth_as_seen(mixed, moment.patch, moment.height)
            extra = unexplained(moment.patch, learned, scale)
            edge = len(moment.patch) // 6
            added = float(extra[edge:-edge, edge:-edge].mean())
            heat = heat_map(moment.patch, extra)
    return Shot(
        moment.pixels, moment.patch, classical, learned, heat, share if learned is not None else 0.0, added, left
    )
