"""The frame shown while a camera has no signal: its last one, greyed, with the time it is from."""

from __future__ import annotations

import time
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging import planes
from ..imaging.frames import blank_like

_DIM = 0.45  # of the last frame's brightness


def no_signal(last: av.VideoFrame, wall: float) -> av.VideoFrame:
    """``last`` (in a format of ``planes.LAYOUTS``) as a new frame, greyed: NO SIGNAL since ``wall`` (epoch s)."""
    grey = cv2.cvtColor(planes.read(last, 0, 0, last.width, last.height), cv2.COLOR_RGB2GRAY)
    frame: NDArray[Any] = cv2.cvtColor((grey * _DIM).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    text = time.strftime("NO SIGNAL since %Y-%m-%d %H:%M:%S", time.localtime(wall))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, last.width / 640 * 0.8
    thick = max(1, round(scale * 1.5))
    (width, height), base = cv2.getTextSize(text, font, scale, thick)
    x, y = (last.width - width) // 2, (last.height + height) // 2
    cv2.rectangle(frame, (x - 8, y - height - 8), (x + width + 8, y + base + 4), (0, 0, 0), cv2.FILLED)
    cv2.putText(frame, text, (x, y), font, scale, (255, 255, 255), thick, cv2.LINE_AA)
    result = blank_like(last)
    planes.write(result, 0, 0, frame)
    return result
