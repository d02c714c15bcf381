"""Made surveillance scenes with exact ground truth: people pasted on places without faces, seen by a bad camera.

`make` is a pure function of (backgrounds, people, rng). A scene is composed twice or three times with the people a
little further each time, so that the real video encoder in `train.degrade` has motion to spoil. Pictures are
(H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from train.boxes import Labels, Picture, flipped, inside, join, moved
from train.degrade import Ranges, draw_kinds, draw_lens, infrared, night, through_codec
from train.detector_people import FACE, Cutout, dressed, from_behind, mirrored, with_body

# Faces of many sizes stand in one picture, so lens defects are drawn for a small one: the face stays findable.
RANGES = Ranges(noise_sigma=(1.5, 22), defocus_of_face=(0.01, 0.06), motion_of_face=0.14, crf=(23, 38))


@dataclass(frozen=True)
class Scene:
    """What was shown and what the camera made of it; both pictures of one size, the faces in its pixels."""

    clean: Picture
    seen: Picture
    faces: Labels
    kinds: tuple[str, ...]  # of train.degrade.KINDS


@dataclass(frozen=True)
class Placed:
    """One person's place in the scene."""

    who: Cutout
    affine: NDArray[np.float32]  # (2, 3) cut-out -> scene
    step: NDArray[np.float64]  # (2,) pixels a frame
    gain: NDArray[np.float64]  # (3,) light on them


def make(
    backgrounds: Sequence[Picture],
    people: Sequence[Cutout],
    rng: np.random.Generator,
    side: int,
    face_px: tuple[float, float] = (7, 90),
    crowd: tuple[int, int] = (0, 12),
    behind: float = 0.16,
    ranges: Ranges = RANGES,
) -> Scene:
    """A made scene of side x side pixels with faces of `face_px` pixels (log-uniform) and `crowd` people, of whom the
    share `behind` turns its back."""
    place = background(backgrounds[rng.integers(len(backgrounds))], rng, side)
    if rng.random() < 0.45:
        place = clutter(place, rng)
    nearest = np.exp(rng.uniform(np.log(face_px[0] * 2), np.log(face_px[1])))
    farthest = max(face_px[0], nearest / rng.uniform(1.0, 5.0))
    placed = [
        put(
            people[rng.integers(len(people))],
            rng,
            side,
            float(np.exp(rng.uniform(*np.log([farthest, nearest])))),
            place,
            behind,
        )
        for _ in range(rng.integers(crowd[0], crowd[1] + 1))
    ]
    placed.sort(key=lambda one: one.affine[1, 1])  # the near ones hide the far ones
    count = int(rng.integers(2, 4))
    shots = [compose(place, placed, count - 1 - t) for t in range(count)]
    faces = shots[-1][1]
    return spoil([shot for shot, _ in shots], faces, rng, ranges)


def put(who: Cutout, rng: np.random.Generator, side: int, face_px: float, place: Picture, behind: float) -> Placed:
    """Somebody somewhere in the scene, turned, foreshortened as from a high camera and lit like the place."""
    who = mirrored(who) if rng.random() < 0.5 else who
    who = from_behind(who, rng) if rng.random() < behind else dressed(who, rng)
    who = with_body(who, rng) if rng.random() < 0.75 else who
    scale = face_px / FACE
    angle = np.radians(rng.normal(0, 7))
    squeeze = np.diag([rng.uniform(0.85, 1.08), 1.0]) if rng.random() < 0.5 else np.diag([1.0, rng.uniform(0.82, 1.0)])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ squeeze
    x, y = rng.uniform(0.03, 0.97) * side, rng.uniform(0.04, 0.92) * side
    middle = np.array([who.alpha.shape[1] / 2, 0.8 * FACE])
    affine = np.concatenate([turn, (np.array([x, y]) - turn @ middle)[:, None]], 1).astype(np.float32)
    local = place[int(min(y, side - 1)) // 32 * 32 :, int(min(x, side - 1)) // 32 * 32 :][:32, :32].mean((0, 1)) + 20
    gain = (local / local.mean()) ** rng.uniform(0, 0.8) * (local.mean() / 120) ** rng.uniform(0, 0.7)
    step = rng.normal(0, 0.05, 2) * face_px * [1, 0.4]
    return Placed(who, affine, step, np.clip(gain, 0.15, 1.6))


def compose(place: Picture, placed: Sequence[Placed], back: int) -> tuple[Picture, Labels]:
    """The scene `back` frames before the last, and its faces; one half hidden is to be ignored, one more hidden is not
    there."""
    canvas = place.copy()
    owner = np.full(place.shape[:2], -1, np.int16)  # who is in front
    found: list[tuple[int, Labels]] = []
    side = place.shape[0]
    for number, one in enumerate(placed):
        affine = one.affine.copy()
        affine[:, 2] -= back * one.step
        rows, columns = one.who.alpha.shape
        corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]]) @ affine[:, :2].T + affine[:, 2]
        x0, y0 = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(corners.max(0)), side).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        rgb, alpha = one.who.rgb, one.who.alpha
        scale = float(np.hypot(affine[0, 0], affine[1, 0]))
        there = affine.copy()
        if scale < 0.6:  # shrink by area first: a linear warp alone would alias
            rgb, alpha = (cv2.resize(a, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for a in (rgb, alpha))
            there[:, :2] = there[:, :2] / np.array([rgb.shape[1] / columns, rgb.shape[0] / rows])
        there[:, 2] -= [x0, y0]
        size = (int(x1 - x0), int(y1 - y0))
        rgb = cv2.warpAffine(rgb, there, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(alpha, there, size, flags=cv2.INTER_LINEAR)
        share = alpha.astype(np.float32)[..., None] / 255
        region = canvas[y0:y1, x0:x1]
        canvas[y0:y1, x0:x1] = region + share * (np.clip(rgb * one.gain, 0, 255) - region)
        owner[y0:y1, x0:x1][alpha > 128] = number
        if len(one.who.face):
            found.append((number, inside(moved(one.who.face, affine), side, side)))
    return canvas, join([visible(face, owner, number) for number, face in found])


def visible(face: Labels, owner: NDArray[np.int16], number: int) -> Labels:
    """The face as far as nobody stands before it."""
    if not len(face):
        return face
    x0, y0, x1, y1 = face.xyxy[0]
    w, h = x1 - x0, y1 - y0
    core = owner[int(y0 + 0.1 * h) : int(y1 - 0.1 * h) + 1, int(x0 + 0.1 * w) : int(x1 - 0.1 * w) + 1]
    seen = float((core == number).mean()) if core.size else 0.0
    if seen < 0.25:
        return face.take(np.zeros(1, bool))
    points = face.points.copy()
    for point in points[0]:
        row, column = min(int(point[1]), owner.shape[0] - 1), min(int(point[0]), owner.shape[1] - 1)
        if point[2] and owner[row, column] != number:
            point[2] = 0
    return replace(face, points=points, ignore=np.array([seen < 0.6 or h < 4.5]))


def spoil(shots: Sequence[Picture], faces: Labels, rng: np.random.Generator, ranges: Ranges = RANGES) -> Scene:
    """The last of `shots` as a bad camera delivers it; even sides, the faces stand in the last."""
    kinds = tuple(kind for kind in draw_kinds(rng, ranges) if kind not in ("interlace", "mjpeg"))
    if rng.random() < 0.12:
        kinds = ()  # some cameras are good
    heights = faces.xyxy[:, 3] - faces.xyxy[:, 1]
    reference = float(np.clip(np.quantile(heights, 0.25), 10, 60)) if len(heights) else 16.0
    lens = draw_lens(reference, float(rng.uniform(0, 360)), kinds, rng, ranges)
    lit = list(shots)
    if "night" in kinds:
        gamma = rng.uniform(1.3, 2.6)
        lit = [night(shot, gamma) for shot in lit]
    if "infrared" in kinds:
        lit = [infrared(shot) for shot in lit]
    if lens.codec is None:
        return Scene(shots[-1], lens(lit[-1], rng), faces, kinds)
    options = {k: v for k, v in lens.options.items() if k != "b"}
    options.setdefault("crf", str(int(rng.integers(ranges.crf[0], ranges.crf[1] + 1))))
    options["preset"] = "ultrafast" if lens.codec == "libx265" else "superfast"
    if lens.codec == "libx265":  # as cameras do; and x265 now and then gives B-frames of so short a clip no time stamp
        options["x265-params"] += ":bframes=0"
    else:
        options["bf"] = "0"
    return Scene(shots[-1], through_codec([lens(shot, rng) for shot in lit], lens.codec, options)[-1], faces, kinds)


def background(source: Picture, rng: np.random.Generator, side: int) -> Picture:
    """A side x side view of `source`: of a panorama (twice as wide as high) as a camera on the wall sees it, of
    anything else a crop."""
    height, width = source.shape[:2]
    view = look(source, rng, side) if width == 2 * height else crop(source, rng, side)
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    tint = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.5, 1.15)
    return np.clip(view * tint, 0, 255).astype(np.uint8)


def look(panorama: Picture, rng: np.random.Generator, side: int) -> Picture:
    """A view into an equirectangular panorama, 55 to 100 degrees wide, looking level to 40 degrees down."""
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
    return cv2.remap(panorama, u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


def crop(source: Picture, rng: np.random.Generator, side: int) -> Picture:
    """A square of `source`, at least half of its shorter side."""
    height, width = source.shape[:2]
    size = int(min(height, width) * rng.uniform(0.5, 1.0))
    x, y = rng.integers(0, width - size + 1), rng.integers(0, height - size + 1)
    how = cv2.INTER_AREA if size > side else cv2.INTER_LINEAR
    return cv2.resize(source[y : y + size, x : x + size], (side, side), interpolation=how)


def clutter(place: Picture, rng: np.random.Generator) -> Picture:
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
    return cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.4, 1.2)))


def mosaic(
    pictures: Sequence[tuple[Picture, Labels]], rng: np.random.Generator, side: int, face_px: tuple[float, float]
) -> tuple[Picture, Labels]:
    """One or more real pictures on a side x side canvas, each shrunk until its median face has `face_px` pixels."""
    canvas = np.full((side, side, 3), int(rng.choice([0, 114])), np.uint8)
    across = int(np.ceil(np.sqrt(len(pictures))))
    cell = side // across
    found = []
    for number, (picture, faces) in enumerate(pictures[: across * across]):
        if rng.random() < 0.5:
            faces, picture = flipped(faces, picture.shape[1]), np.ascontiguousarray(picture[:, ::-1])
        height, width = picture.shape[:2]
        heights = (faces.xyxy[:, 3] - faces.xyxy[:, 1])[~faces.ignore]
        wanted = float(np.exp(rng.uniform(*np.log(face_px))))
        fits = cell / max(width, height)
        scale = min(1.6, max(0.6 * fits, wanted / float(np.median(heights)) if len(heights) else fits))
        columns, rows = max(round(width * scale), 8), max(round(height * scale), 8)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(picture, (columns, rows), interpolation=how)
        # what is too large is cropped around somewhere, what is too small is put somewhere
        left, top = (int(rng.integers(min(cell - n, 0), max(cell - n, 0) + 1)) for n in (columns, rows))
        x, y = number % across * cell, number // across * cell
        view = small[max(-top, 0) : max(-top, 0) + cell, max(-left, 0) : max(-left, 0) + cell]
        at_x, at_y = x + max(left, 0), y + max(top, 0)
        canvas[at_y : at_y + view.shape[0], at_x : at_x + view.shape[1]] = view
        shifted = moved(faces, np.array([[columns / width, 0, left], [0, rows / height, top]], np.float32))
        kept = inside(shifted, cell, cell, 0.35)
        found.append(moved(kept, np.array([[1, 0, x], [0, 1, y]], np.float32)))
    return canvas, join(found)
