"""Make ``demo.mp4``: ten seconds of what a cheap camera over a shop's counter would record.

    python tests/clips/make_demo.py [OUT.mp4] [--one]

The one person in it, several times over in other clothes, is scikit-image's image of the astronaut Eileen Collins
(NASA, public domain).  The shop is drawn here, with three of scikit-image's CC0 images for wall, counter and poster;
the sound is computed.  LICENSE.md beside this file names each.

The people are cut out, walked along paths with their faces 24 to 60 pixels high, blurred by their motion, dimmed,
blurred by the lens, given sensor noise and a clock, and coded as H.264 at a camera's bit rate.  Nothing is random but
the noise, and that is seeded: the same library versions make the same file.  ``--one`` leaves all but one person out,
for benchmarks whose mark is for one face.  Needs scikit-image; takes a minute.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

Image = NDArray[np.float32]  # RGB 0..255, or RGBA with alpha 0..1 and the colour multiplied by it
WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 25, 10
SHUTTER = 0.5  # of a frame's time that the shutter is open
FACE = (178.0, 65.0, 269.5, 176.5)  # x1, y1, x2, y2 of the face in the astronaut's image
COUNTER, FLOOR = 186, 306  # frame rows of the counter's far edge and foot
AUDIO_RATE = 16_000


@dataclass(frozen=True)
class Person:
    """Someone on a way through the image."""

    figure: Image  # (512, 512, 4)
    behind: bool  # the counter
    path: Callable[[float], tuple[float, float, float] | None]  # seconds to x, y of the face and its height, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path(__file__).with_name("demo.mp4"))
    parser.add_argument("--one", action="store_true")
    given = parser.parse_args()
    out = given.out
    room, cast = shop(), people()[1:2] if given.one else people()
    rng = np.random.default_rng(2026)
    frames = (camera(scene(room, cast, i / RATE), i, rng) for i in range(RATE * SECONDS))
    encode(out, frames, sound(np.random.default_rng(3)))
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


# ---- the people


def people() -> list[Person]:
    image, alpha = cut_out()
    blue, green, grey, brown = (
        dressed(image, alpha, *dye) for dye in ((106, 0.6, 0.5), (62, 0.3, 0.5), (12, 0.12, 0.55), (12, 0.45, 0.42))
    )
    return [
        # far ones first: who is painted later stands in front
        Person(blue[:, ::-1], True, lambda t: (610 - 34 * t, 104 + bob(t, 1.7, 0.7), 25)),
        Person(green, True, lambda t: (70 + 24 * t, 92 + 0.5 * t + bob(t, 1.6, 0.9), 28 + 1.2 * t)),
        Person(grey[:, ::-1], False, standing),
        Person(brown, False, passing),
    ]


def blurred(image: NDArray[Any], sigma: float) -> Image:
    return cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32)


def bob(t: float, steps: float, size: float) -> float:
    """The rise and fall of a head that walks ``steps`` steps a second."""
    return size * abs(math.sin(math.pi * steps * t)) * 2


def passing(t: float) -> tuple[float, float, float] | None:
    """Close by, from left to right, in six seconds."""
    part = t / 6.2
    return (-60 + 760 * part, 168 + bob(t, 1.8, 2), 56 + 4 * part) if part <= 1 else None


def standing(t: float) -> tuple[float, float, float] | None:
    """Comes in from the right, waits at the counter, looks about, goes."""
    if t < 2.5:
        return None
    x = 710 - 220 * smooth((t - 2.5) / 2.2) + 240 * smooth((t - 8.6) / 1.6) + 3 * np.sin(1.9 * t)
    return x, 200 + bob(t, 1.6, 1.2) * float(t < 4.7 or t > 8.6) + 1.5 * np.sin(1.3 * t), 47


def smooth(part: float) -> float:
    part = min(1.0, max(0.0, part))
    return part * part * (3 - 2 * part)


def cut_out() -> tuple[NDArray[np.uint8], Image]:
    """The astronaut (512, 512, 3) without her helmet, and her outline (512, 512) 0..1.

    By GrabCut (Rother et al., SIGGRAPH 2004).
    """
    image = np.ascontiguousarray(data.astronaut())
    outer = [(225, 8), (275, 18), (306, 60), (304, 110), (286, 140), (276, 160), (300, 180), (312, 240), (345, 265)]
    outer += [(368, 300), (372, 350), (440, 338), (490, 370), (511, 420), (511, 511), (15, 511), (15, 460), (14, 400)]
    outer += [(30, 300), (50, 255), (105, 215), (110, 170), (160, 148), (176, 120), (150, 110), (146, 70), (170, 25)]
    inner = [(225, 25), (270, 40), (292, 80), (285, 115), (262, 150), (258, 180), (290, 230), (330, 290), (345, 400)]
    inner += [(420, 400), (500, 470), (500, 511), (40, 511), (40, 400), (60, 290), (110, 245), (135, 190), (190, 165)]
    inner += [(190, 120), (165, 100), (165, 60)]
    mask = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    cv2.fillPoly(mask, [np.array(outer)], cv2.GC_PR_FGD)
    cv2.fillPoly(mask, [np.array(inner)], cv2.GC_FGD)
    cv2.setRNGSeed(0)
    whole = (0, 0, *image.shape[1::-1])  # not read where there is a mask
    cv2.grabCut(image, mask, whole, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    alpha = blurred(cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((5, 5))), 1.2)
    # her left arm, mirrored, in place of the helmet
    image[330:, 272:400], alpha[330:, 272:400] = image[330:, 138:10:-1], alpha[330:, 138:10:-1]
    alpha[330:, 400:] = 0
    return image, alpha


def dressed(image: NDArray[np.uint8], alpha: Image, hue: int, saturation: float, value: float) -> Image:
    """The figure with its orange suit dyed: (512, 512, 4)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    orange = ((hsv[:, :, 0] < 18) | (hsv[:, :, 0] > 165)) & (hsv[:, :, 1] > 85)
    orange[:190] = False  # that is her face
    dyed = np.dstack([np.full_like(alpha, hue), hsv[:, :, 1] * saturation, hsv[:, :, 2] * value]).astype(np.uint8)
    suit = cv2.GaussianBlur(orange.astype(np.float32), (0, 0), 1)[..., None]
    colour = image * (1 - suit) + cv2.cvtColor(dyed, cv2.COLOR_HSV2RGB) * suit
    return np.dstack([colour * alpha[..., None], alpha]).astype(np.float32)


def place(canvas: Image, figure: Image, x: float, y: float, face: float) -> None:
    """Paint ``figure`` so that its face's centre is at (x, y) and its face ``face`` pixels high."""
    side = figure.shape[0]
    size = round(side * face / (FACE[3] - FACE[1]))
    small = cv2.resize(figure, (size, size), interpolation=cv2.INTER_AREA)
    scale = size / side
    centre = (FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2
    mirrored = figure[:170, : side // 2, 3].sum() < figure[:170, side // 2 :, 3].sum()
    left = x - (side - centre[0] if mirrored else centre[0]) * scale
    top = y - centre[1] * scale
    x0, y0 = int(np.floor(left)), int(np.floor(top))
    shift = np.array([[1, 0, left - x0], [0, 1, top - y0]], np.float32)
    layer = cv2.warpAffine(small, shift, (size + 1, size + 1), flags=cv2.INTER_LINEAR)
    rows, columns = slice(max(0, y0), max(0, y0 + size + 1)), slice(max(0, x0), max(0, x0 + size + 1))
    part = canvas[rows, columns]
    layer = layer[rows.start - y0 :, columns.start - x0 :][: part.shape[0], : part.shape[1]]
    part *= 1 - layer[:, :, 3:]
    part += layer[:, :, :3]


# ---- the shop


def shop() -> tuple[Image, Image]:
    """The room (360, 640, 3) and the counter (360, 640, 4) that hides what is behind it."""
    big = 2  # drawn larger, then averaged, so that edges are smooth
    room = np.zeros((HEIGHT * big, WIDTH * big, 3), np.float32)
    wall = np.array([176, 168, 150], np.float32)
    rows = np.linspace(1.05, 0.8, room.shape[0], dtype=np.float32)[:, None, None]
    room[:] = wall * rows
    brick = cv2.resize(data.brick(), (300, 300), interpolation=cv2.INTER_AREA).astype(np.float32)
    tiled = np.tile(brick, (3, 5))[: room.shape[0], : room.shape[1]]
    room *= 0.82 + 0.36 * (tiled / 255)[..., None]
    door(room)
    shelves(room, 770, 60)
    notice(room, data.coffee(), 560, 90, 150, 100)
    light = light_of(room.shape[0], room.shape[1])
    room *= light

    top, foot = COUNTER * big, FLOOR * big
    counter = np.zeros((*room.shape[:2], 4), np.float32)
    front = np.tile(data.gravel()[:256, :512], (2, 3))[: foot - top, : room.shape[1]].astype(np.float32)
    counter[top:foot, :, :3] = np.array([104, 78, 56], np.float32) * (0.75 + 0.2 * front[..., None] / 255)
    counter[top : top + 34, :, :3] = (158, 142, 118)
    counter[top + 34 : top + 40, :, :3] = (60, 46, 36)
    for x in range(0, room.shape[1], 214):
        cv2.line(counter, (x, top + 40), (x, foot), (60, 44, 32, 1), 3)
    counter[foot:, :, :3] = floor_tiles(room.shape[1], room.shape[0] - foot)
    counter[foot - 8 : foot + 6, :, :3] = (38, 34, 30)
    till(counter, 330, top)
    counter[:, :, :3] *= light
    counter[top:, :, 3] = 1
    counter[:, :, 3] = np.maximum(counter[:, :, 3], (counter[:, :, :3].sum(2) > 0).astype(np.float32))
    halve = (WIDTH, HEIGHT)
    return (
        cv2.resize(room, halve, interpolation=cv2.INTER_AREA).astype(np.float32),
        cv2.resize(counter, halve, interpolation=cv2.INTER_AREA).astype(np.float32),
    )


def floor_tiles(width: int, height: int) -> Image:
    grain = cv2.resize(data.gravel(), (80, 80), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None]
    tile = np.full((80, 80, 3), (150, 146, 140), np.float32) * (0.85 + 0.3 * grain / 255)
    tile[:2] = tile[:, :2] = (96, 92, 88)
    plane = np.tile(tile, (3, 16, 1))
    h, w = plane.shape[:2]
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    seen = np.array([(-200, 0), (width + 200, 0), (width * 1.8, height), (-width * 0.8, height)], np.float32)
    return cv2.warpPerspective(plane, cv2.getPerspectiveTransform(corners, seen), (width, height)).astype(np.float32)


def door(room: Image) -> None:
    cv2.rectangle(room, (70, 70), (250, 400), (92, 74, 58), -1)
    cv2.rectangle(room, (84, 84), (236, 400), (128, 108, 86), -1)
    cv2.rectangle(room, (104, 104), (216, 230), (168, 186, 196), -1)
    cv2.circle(room, (222, 262), 7, (196, 188, 160), -1)


def shelves(room: Image, x: int, y: int) -> None:
    """Goods of many colours on three boards."""
    rng = np.random.default_rng(11)
    cv2.rectangle(room, (x - 14, y - 14), (x + 440, y + 300), (86, 82, 80), -1)
    for board in range(3):
        base = y + 90 + board * 98
        at = x
        while at < x + 410:
            w, h = int(rng.integers(16, 44)), int(rng.integers(40, 80))
            colour = [float(c) for c in rng.integers(40, 150) + rng.integers(0, 60, 3)]
            cv2.rectangle(room, (at, base - h), (at + w, base), colour, -1)
            cv2.rectangle(room, (at + 3, base - h // 2), (at + w - 3, base - h // 4), (205, 200, 190), -1)
            at += w + int(rng.integers(2, 10))
        cv2.rectangle(room, (x - 14, base), (x + 440, base + 8), (160, 156, 150), -1)


def notice(room: Image, image: NDArray[np.uint8], x: int, y: int, width: int, height: int) -> None:
    cv2.rectangle(room, (x - 8, y - 8), (x + width + 8, y + height + 8), (40, 38, 36), -1)
    room[y : y + height, x : x + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def till(counter: Image, x: int, top: int) -> None:
    cv2.rectangle(counter, (x, top - 44), (x + 92, top + 6), (52, 54, 58, 1), -1)
    cv2.rectangle(counter, (x + 8, top - 38), (x + 84, top - 6), (30, 34, 40, 1), -1)
    cv2.rectangle(counter, (x + 30, top), (x + 62, top + 14), (44, 44, 46, 1), -1)


def light_of(height: int, width: int) -> Image:
    """Two lamps near the ceiling and darker corners.  (height, width, 1)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = np.full((height, width), 0.5, np.float32)
    for lamp in (0.3, 0.78):
        light += 0.55 * np.exp(-(((x / width - lamp) / 0.28) ** 2 + ((y / height - 0.25) / 0.6) ** 2))
    return light[..., None]


# ---- the camera


def scene(room: tuple[Image, Image], cast: list[Person], seconds: float) -> Image:
    """What falls on the sensor while the shutter is open: (360, 640, 3)."""
    moments = []
    for part in (-0.5, -0.25, 0, 0.25, 0.5):
        t = max(0.0, seconds + part * SHUTTER / RATE)
        canvas = room[0].copy()
        for behind in (True, False):
            for person in cast:
                at = person.path(t)
                if person.behind == behind and at is not None:
                    place(canvas, person.figure, *at)
            if behind:
                canvas *= 1 - room[1][:, :, 3:]
                canvas += room[1][:, :, :3]
        moments.append(canvas)
    return np.asarray(np.mean(moments, axis=0, dtype=np.float32))


def camera(image: Image, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The sensor's image of it: soft lens, little light, noise, clock.  (360, 640, 3) uint8."""
    image = blurred(image, 0.85)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    image = image * (1 - 0.22 * (x * x + y * y) / 2)[..., None].astype(np.float32)
    image = image * np.array([0.74, 0.75, 0.68], np.float32) + 5
    grain = rng.normal(0, 1, (HEIGHT, WIDTH, 1)) * (2.2 + 0.012 * image.mean(2, keepdims=True))
    tint = cv2.resize(rng.normal(0, 2.2, (HEIGHT // 4, WIDTH // 4, 3)), (WIDTH, HEIGHT))
    seen: NDArray[np.uint8] = np.clip(np.rint(image + grain + tint), 0, 255).astype(np.uint8)
    clock = f"2026-11-23 14:02:{index // RATE + 7:02d}"
    for text, at in ((clock, (10, 20)), ("CAM 03  COUNTER", (10, HEIGHT - 12))):
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):  # a black rim, to be read on any ground
            cv2.putText(seen, text, (at[0] + dx, at[1] + dy), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
        cv2.putText(seen, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1)
    return seen


def sound(rng: np.random.Generator) -> NDArray[np.float32]:
    """Mono: the room's hum and hiss, a fridge, steps, a till's chime.  (samples,) within -1..1."""
    n = AUDIO_RATE * SECONDS
    t = np.arange(n, dtype=np.float32) / AUDIO_RATE
    hiss = np.convolve(rng.normal(0, 1, n), np.ones(24) / 24, "same")
    out = 0.02 * hiss + 0.012 * np.sin(2 * np.pi * 50 * t) + 0.006 * np.sin(2 * np.pi * 150 * t)
    decay = np.arange(round(0.12 * AUDIO_RATE)) / AUDIO_RATE
    for i, at in enumerate(np.arange(0.3, 9.7, 1 / 1.8)):
        step = np.sin(2 * np.pi * (85 + 12 * (i % 2)) * decay) + 0.4 * rng.normal(0, 1, len(decay))
        begin = round(at * AUDIO_RATE)
        out[begin : begin + len(decay)] += 0.16 * step * np.exp(-decay * 45)
    ring = np.arange(round(0.5 * AUDIO_RATE)) / AUDIO_RATE
    for at, pitch in ((5.2, 880), (5.35, 1320)):
        begin = round(at * AUDIO_RATE)
        out[begin : begin + len(ring)] += 0.07 * np.sin(2 * np.pi * pitch * ring) * np.exp(-ring * 7)
    return out.astype(np.float32)


# ---- the recorder


def encode(path: Path, frames: object, samples: NDArray[np.float32]) -> None:
    """H.264 (BT.709, limited range) at 330 kbit/s and mono AAC at 32 kbit/s."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        container.metadata["title"] = "stream-enhance demo"
        options = {"preset": "slow", "profile": "main", "maxrate": "420k", "bufsize": "420k", "bf": "0"}
        video = container.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.bit_rate, video.codec_context.gop_size = 330_000, 2 * RATE
        video.codec_context.thread_count = 1  # more threads, another rate control: other bytes
        video.codec_context.colorspace = video.codec_context.color_primaries = 1
        video.codec_context.color_trc, video.codec_context.color_range = 1, 1
        audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        audio.codec_context.bit_rate = 32_000
        start = 0
        for i, rgb in enumerate(frames):  # type: ignore[arg-type, var-annotated]
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
                format="yuv420p", dst_colorspace=1, dst_color_range=1
            )
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(video.encode(frame))
            end = min(len(samples), (i + 1) * AUDIO_RATE // RATE)
            sheet = av.AudioFrame.from_ndarray(samples[None, start:end], "fltp", "mono")
            sheet.sample_rate, sheet.pts, sheet.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
            container.mux(audio.encode(sheet))
            start = end
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


if __name__ == "__main__":
    main()
