"""The hash of a frame, as FFmpeg's ``framehash`` muxer computes it for raw video with SHA-256."""

from __future__ import annotations

import hashlib

import av
import numpy as np

from ..imaging import planes


def frame_hash(image: av.VideoFrame) -> str:
    """SHA-256 over the planes of ``image`` one after the other, rows without padding, as 64 hexadecimal digits.

    Args:
        image: in a format of ``planes.LAYOUTS``.
    """
    digest = hashlib.sha256()
    for i in range(len(image.planes)):
        digest.update(np.ascontiguousarray(planes.samples(image, i)).data)
    return digest.hexdigest()
