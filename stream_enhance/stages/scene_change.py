"""Where a video becomes another: an edit, a recorder that changes cameras, the next frame of a folder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..imaging.host import Host, Imaging
from ..types import Frame

_GRID = (32, 18)
_ROWS = 256  # of the frame are looked at, at most about twice as many
_ALIKE = 0.4  # correlation below which two frames in succession show different places
_FLAT = 4.0  # squared grey levels: contrast that counts as noise


class SceneChangeDetector:
    """Tells of each frame whether it shows another place than the one before.

    Frames are compared by the correlation of their luma (of packed RGB, of all samples) on a coarse grid, which light,
    noise and what moves hardly change.  The first frame is no cut.
    """

    def __init__(self, imaging: Imaging | None = None) -> None:
        self._imaging = imaging or Host()
        self._last: NDArray[np.float32] | None = None
        self._shape = (0, 0)

    def __call__(self, frame: Frame) -> bool:
        """Whether ``frame`` shows another place than the frame before; False for the first."""
        grid = self._imaging.grid(frame.image, _GRID, _ROWS)
        grid -= grid.mean()
        last, shape = self._last, self._shape
        self._last, self._shape = grid, (frame.image.width, frame.image.height)
        if last is None:
            return False
        floor = _FLAT * grid.size
        alike = ((grid * last).sum() + floor) / np.sqrt(((grid**2).sum() + floor) * ((last**2).sum() + floor))
        return bool(shape != self._shape or alike < _ALIKE)
