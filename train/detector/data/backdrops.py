"""Places for made scenes: views into panoramas, crops of images, and what detectors take for faces drawn on them.

Every maker is a pure function of (inputs, rng). Images are (H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from train.common.images import Image


def background(source: Image, rng: np.random.Generator, side: int) -> Image:
    """A side x side view of `source`: of a panorama (twice as wide as high) as a camera on the wall sees it, of
    anything else a crop."""
    height, width = source.shape[:2]
    view = panorama_view(source, rng, side) if width == 2 * height else crop(source, rng, side)
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    tint = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.5, 1.15)
    return np.clip(view * tint, 0, 255).astype(np.uint8)


def panorama_view(panorama: Image, rng: np.random.Generator, side: int) -> Image:
    """A view into an equirectangular panorama, 55 to 100 degrees wide, pitched from 5 degrees up to 40 degrees down."""
    half = np.tan(np.radians(rng.uniform(55, 100)) / 2)
    yaw, pitch = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-5, 40))
    x, y = np.meshgrid(np.linspace(-half, half, side), np.linspace(-half, half, side))
    down = np.sin(pitch) + y * np.cos(pitch)
    ahead = np.cos(pitch) - y * np.sin(pitch)
    longitude = np.arctan2(x, ahead) + yaw
    latitude = np.arctan2(down, np.hypot(x, ahead))  # positive is down
    height, width = panorama.shape[:2]
    u = (longitude / (2 * np.pi) * width) % width
    v = (latitude / np.pi + 0.5) * height
    x32, y32 = u.astype(np.float32), v.astype(np.float32)
    return cv2.remap(panorama, x32, y32, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP).astype(np.uint8, copy=False)


def crop(source: Image, rng: np.random.Generator, side: int) -> Image:
    """A square of `source`, at least half of its shorter side."""
    height, width = source.shape[:2]
    size = int(min(height, width) * rng.uniform(0.5, 1.0))
    x, y = rng.integers(0, width - size + 1), rng.integers(0, height - size + 1)
    how = cv2.INTER_AREA if size > side else cv2.INTER_LINEAR
    part = cv2.resize(source[y : y + size, x : x + size], (side, side), interpolation=how)
    return part.astype(np.uint8, copy=False)


def clutter(place: Image, rng: np.random.Generator) -> Image:
    """`place` with shelves of packets, discs, skin-coloured blobs and lettering: what detectors take for faces."""
    canvas = place.copy()
    side = place.shape[0]
    for _ in range(rng.integers(1, 4)):
        x, y = rng.integers(-side // 4, side, 2)
        cell, columns, rows = int(rng.integers(6, 42)), int(rng.integers(3, 14)), int(rng.integers(1, 7))
        palette = rng.uniform(0, 255, (int(rng.integers(2, 6)), 3))
        kind = rng.integers(4)
        for i in range(rows * columns):
            cx, cy = int(x + i % columns * cell * 1.05), int(y + i // columns * cell * 1.3)
            tone = tuple(float(v) for v in palette[rng.integers(len(palette))] * rng.uniform(0.7, 1.2))
            dark = tuple(0.5 * v for v in tone)
            half = max(cell // 2 - 1, 2)
            if kind == 0:
                cv2.rectangle(canvas, (cx - half, cy - half), (cx + half, cy + half), tone, -1)
                cv2.rectangle(canvas, (cx - half // 2, cy), (cx + half // 2, cy + half // 2), dark, -1)
            elif kind == 1:
                cv2.circle(canvas, (cx, cy), half, tone, -1, cv2.LINE_AA)
                cv2.circle(canvas, (cx, cy), max(half // 2, 1), dark, int(rng.integers(-1, 3)) or 1, cv2.LINE_AA)
            elif kind == 2:
                skin = np.array([205, 150, 120]) * rng.uniform(0.35, 1.15)
                axes = (half, int(half * rng.uniform(0.8, 1.5)))
                cv2.ellipse(canvas, (cx, cy), axes, float(rng.uniform(0, 180)), 0, 360, skin.tolist(), -1, cv2.LINE_AA)
            else:
                text = "".join(chr(c) for c in rng.integers(48, 91, 3))
                cv2.putText(
                    canvas, text, (cx, cy), int(rng.integers(0, 5)), cell / 30, tone, 1 + cell // 16, cv2.LINE_AA
                )
    return cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.4, 1.2))).astype(np.uint8, copy=False)


def shelves(place: Image, sources: Sequence[Image], rng: np.random.Generator) -> Image:
    """`place` with up to three aslant shelves of goods: rows of the same few packets, cut from `sources`."""
    canvas = place.copy()
    side = place.shape[0]
    for _ in range(rng.integers(1, 4)):
        wide = int(rng.integers(6, 30))
        high = int(wide * rng.uniform(0.7, 2.0))
        rows, columns = int(rng.integers(2, 9)), int(rng.integers(4, 16))
        packets = [packet(sources[int(rng.integers(len(sources)))], rng, wide, high) for _ in range(rng.integers(2, 7))]
        lines = []
        for _ in range(rows):
            kinds = np.repeat(rng.integers(len(packets), size=columns), rng.integers(1, 6, columns))[:columns]
            lines.append(np.concatenate([packets[kind] for kind in kinds], 1))
        block = np.concatenate(lines)
        angle, shear = np.radians(rng.normal(0, 12)), rng.normal(0, 0.25)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, shear], [0, 1]]
        shift = rng.uniform(0, side, 2) - turn @ [block.shape[1] / 2, block.shape[0] / 2]
        affine = np.concatenate([turn, shift[:, None]], 1)
        share = cv2.warpAffine(np.full(block.shape[:2], 255, np.uint8), affine, (side, side))
        shown = cv2.warpAffine(block, affine, (side, side), flags=cv2.INTER_LINEAR)
        canvas[share > 127] = shown[share > 127]
    return canvas


def packet(source: Image, rng: np.random.Generator, wide: int, high: int) -> Image:
    """A high x wide piece of `source`, of any scale and tint, with a dark edge now and then."""
    height, width = source.shape[:2]
    size = int(rng.integers(12, max(min(height, width) // 2, 13)))
    x, y = rng.integers(0, width - size + 1), rng.integers(0, height - size + 1)
    piece = cv2.resize(source[y : y + size, x : x + size], (wide, high), interpolation=cv2.INTER_AREA)
    piece = np.clip(piece * rng.uniform(0.5, 1.5, 3), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        piece[-1:], piece[:, -1:] = piece[-1:] // 3, piece[:, -1:] // 3
    return piece.astype(np.uint8, copy=False)
