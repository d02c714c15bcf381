"""How far a face is turned to a side and bowed, from its five points.

Under a camera far away (weak perspective) a turn shrinks the distance of the eyes by its cosine and moves the nose tip
aside by its sine, so their ratio gives the angle whatever the face's size; a bow does the same to the line from eyes to
mouth.  The proportions are fitted to what the detector says of small faces; docs/reports/detector.md has the measured
error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How far the nose tip stands out from the line between eyes and mouth, in eye distances; less than on a real face,
# since the detector draws the nose of small, turned faces towards their middle.
NOSE_ASIDE = 0.28
NOSE_DOWN = 0.61  # where it lies on the way from eyes to mouth in a face that is not bowed
NOSE_AHEAD = 0.9  # how far it stands out, in distances from eyes to mouth


def yaw_pitch(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How faces are turned, whatever their tilt in the image.

    Args:
        points: (n, 5, 2) float32 face points in ``crop.TEMPLATE``'s order, pixels.

    Returns:
        Yaw and pitch, (n,) float32 degrees each: yaw from -90 to 90, above 0 where the face turns to the image's right;
        pitch likewise, above 0 where it is bowed.  0, 0 where all points coincide.
    """
    eyes, mouth = points[:, :2].mean(1), points[:, 3:].mean(1)
    down, across = mouth - eyes, points[:, 1] - points[:, 0]
    nose = points[:, 2] - eyes
    length = np.maximum(np.hypot(*down.T), 1e-3)  # (n,) pixels from eyes to mouth
    along = (nose * down).sum(1) / length  # (n,) pixels of the nose tip on that way, and beside it
    aside = (nose[:, 0] * down[:, 1] - nose[:, 1] * down[:, 0]) / length
    width = np.abs(across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]) / length  # of the eyes, at right angles to it
    yaw = np.degrees(np.arctan2(aside, NOSE_ASIDE * width))
    pitch = np.degrees(np.arctan((along / length - NOSE_DOWN) / NOSE_AHEAD))
    return yaw.astype(np.float32), pitch.astype(np.float32)
