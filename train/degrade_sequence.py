"""A face filmed over several frames for training: the sensor, processor and recorder of `train.degrade_sensor`, moving.

`film_sequence` shows one image, or the images of a video, to a drawn camera and returns every frame from some point
of the clip on, each with where it lies in its own clean image. A still moves by a smooth random walk (shift, roll,
scale). Lengths are pixels of the frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.imaging.crop import cut
from train.common.images import Image
from train.degrade import DEFAULT, Ranges, frame_to_image, in_light
from train.degrade_sensor import draw_processor, draw_sensor, encoded, expose, process

Box = tuple[tuple[float, float], float]  # middle (x, y) and height of a face box, pixels of its image
LEAD = 4  # frames before the first kept one: an encoder's start and the noise reduction's


@dataclass(frozen=True)
class FilmedClip:
    """What the camera delivers of one face over time."""

    frames: NDArray[np.uint8]  # (T, S, S, 3) RGB
    to_clean: NDArray[np.float32]  # (T, 2, 3): a point of a frame -> the same point of its clean image
    face_px: float
    mono: bool
    gamma: float  # of the light: 1 by day, more by night


def film_sequence(
    images: Sequence[Image],
    boxes: Sequence[Box],
    count: int,
    rng: np.random.Generator,
    ranges: Ranges = DEFAULT,
    perfect: bool = False,
) -> FilmedClip:
    """`count` frames of the face at `boxes` in `images`, one of each a frame of `count + LEAD`, or one for all.

    `perfect`: a good camera without a codec, whose faces are only small: there is nothing to repair.
    """
    total = count + LEAD
    px = float(np.exp(rng.uniform(*np.log((32, 160) if perfect else ranges.face_px))))
    mono, dark = rng.random() < 0.08, rng.random() < 0.12
    gamma = float(rng.uniform(*ranges.night_gamma)) if dark and not perfect else 1.0
    side = max(64, 8 * round((2.1 * px + 16) / 8))
    grow = float(rng.uniform(1.15, 2.2)) if rng.random() < 0.35 and not perfect else 1.0
    wide = max(64, 8 * round(side * grow / 8))
    path = walk(px, total, ranges.tilt_degrees, rng)
    lit = [in_light(image, gamma, mono) for image in images]
    places, speed = [], 0.0
    for t in range(total):
        (x, y), height = boxes[t % len(boxes)]
        shift, turn, zoom = path[t, :2], path[t, 2], path[t, 3]
        places.append(frame_to_image((x, y), height / (px * zoom), turn, side))
        places[-1][:, 2] += places[-1][:, :2] @ shift
        if t:
            speed = max(speed, float(np.hypot(*(shift - path[t - 1, :2]))))
    views = [cut(lit[t % len(lit)], widened(place, side, wide), wide) for t, place in enumerate(places)]
    if not perfect:
        views = camera(views, px, side, speed * wide / side, dark, mono, rng)
    elif wide != side:
        views = [cv2.resize(v, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8) for v in views]
    return FilmedClip(np.stack(views[-count:]), np.stack(places[-count:]).astype(np.float32), px, mono, gamma)


def camera(
    views: list[Image], px: float, side: int, speed: float, dark: bool, mono: bool, rng: np.random.Generator
) -> list[Image]:
    """The views of the scene (W, W, 3) as a drawn sensor, processor and recorder deliver them, (side, side, 3)."""
    wide = len(views[0])
    sensor = draw_sensor(px * wide / side, speed, float(rng.uniform(0, 360)), dark, rng)
    frames = process([expose(view, sensor, rng, mono) for view in views], draw_processor(rng))
    if wide != side:
        how = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
        if rng.random() < 0.5:
            frames = encoded(frames, wide, rng, 18, 32)
        frames = [cv2.resize(f, (side, side), interpolation=how).astype(np.uint8) for f in frames]
    if rng.random() < 0.9:
        frames = encoded(frames, px, rng, 20, 40)
    return frames


def widened(place: NDArray[np.float32], side: int, wide: int) -> NDArray[np.float32]:
    """`place` (2, 3), from a frame of `side` pixels, for a frame of `wide` pixels of the same scene."""
    onto = place.copy()
    onto[:, :2] *= side / wide
    onto[:, 2] += place[:, :2] @ np.full(2, 0.5 * side / wide - 0.5)
    return onto


def walk(px: float, count: int, tilt: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 4): shift x, y in pixels, roll in degrees and scale of a face `px` high, frame by frame.

    A steady walk, a slow sway and now and then no motion at all; speeds up to a fifteenth of the face a frame.
    """
    t = np.arange(count) - count / 2
    if rng.random() < 0.15:
        return np.stack([0 * t, 0 * t, 0 * t + rng.uniform(-tilt, tilt), 0 * t + 1], 1)
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) ** 2 * 0.06 * px
    sway = rng.normal(0, 0.03, 2) * px
    phase, period = rng.uniform(0, 2 * np.pi, 4), rng.uniform(12, 40, 4)
    wave = np.sin(2 * np.pi * t[:, None] / period + phase)  # (count, 4)
    turn = rng.uniform(-tilt, tilt) + rng.normal(0, 1.5) * wave[:, 2]
    zoom = np.exp(rng.normal(0, 0.002) * t + rng.normal(0, 0.01) * wave[:, 3])
    x, y = (speed * f(heading) * t + s * w for f, s, w in zip((np.cos, np.sin), sway, wave.T, strict=False))
    limit = 0.1 * px  # the frame has that much around the patch
    return np.stack([np.clip(x, -limit * 4, limit * 4), np.clip(y, -limit * 4, limit * 4), turn, zoom], 1)
