"""Made surveillance scenes with exact ground truth: people pasted on places without faces, seen by a bad camera.

`make` is a pure function of (backgrounds, people, rng). A scene is composed twice or three times with the people a
little further each time, so that the real video encoder in `train.degrade` has motion to compress. Images are
(H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from train.common.images import Image
from train.degrade import Ranges, draw_kinds, draw_lens, infrared, night, through_codec
from train.detector.boxes import Labels, flipped, inside, join, labels, moved
from train.detector.data.backdrops import background, clutter, shelves
from train.detector.data.heads import turned_head
from train.detector.data.people import FACE, Cutout, dressed, from_behind, mirrored, with_body

# Faces of many sizes stand in one image, so lens defects are drawn for a small one: the face stays findable.
RANGES = Ranges(noise_sigma=(1.5, 22), defocus_of_face=(0.01, 0.06), motion_of_face=0.14, crf=(23, 38))


@dataclass(frozen=True)
class Scene:
    """What was shown and what the camera made of it; both images of one size, the faces in its pixels."""

    clean: Image
    seen: Image
    faces: Labels
    kinds: tuple[str, ...]  # of train.degrade.KINDS
    weight: NDArray[np.float32]  # (n,) how much a face is to be found: 1 wholly, 0 neither right nor wrong
    large: Image | None = None  # `clean` with twice its sides, where there is more to see


@dataclass(frozen=True)
class Manner:
    """How far people and cameras are from a portrait's. The defaults are those of the evaluation's scenes."""

    turned: float = 0.0  # share of people, and of real images, turned and squeezed as seen from above or aside
    covered: float = 0.0  # share of backs of heads that are hooded, capped or bald
    clear: float = 0.12  # share of images from a good camera
    goods: float = 0.0  # share of made scenes with shelves of goods
    heads: float = 0.0  # share of people whose heads are turned in depth, to a side or down
    hard: float = 0.0  # share of real images cut around what an earlier network took for a face


@dataclass(frozen=True)
class Real:
    """A real image, its faces, and the places that an earlier network took for faces."""

    image: Image
    faces: Labels
    hard: NDArray[np.float32]  # (n, 4) xyxy pixels


@dataclass(frozen=True)
class Placed:
    """One person's place in the scene."""

    who: Cutout
    affine: NDArray[np.float32]  # (2, 3) cut-out -> scene
    step: NDArray[np.float64]  # (2,) pixels a frame
    gain: NDArray[np.float64]  # (3,) light on them
    turned: bool = False


def make(
    backgrounds: Sequence[Image],
    people: Sequence[Cutout],
    rng: np.random.Generator,
    side: int,
    face_px: tuple[float, float] = (7, 90),
    crowd: tuple[int, int] = (0, 12),
    behind: float = 0.16,
    ranges: Ranges = RANGES,
    manner: Manner = Manner(),
) -> Scene:
    """A made scene of side x side pixels with faces of `face_px` pixels (log-uniform) and `crowd` people, of whom the
    share `behind` turns its back."""
    place = background(backgrounds[int(rng.integers(len(backgrounds)))], rng, side)
    if rng.random() < 0.45:
        place = clutter(place, rng)
    if manner.goods and rng.random() < manner.goods:
        place = shelves(place, backgrounds, rng)
    nearest = np.exp(rng.uniform(np.log(face_px[0] * 2), np.log(face_px[1])))
    farthest = max(face_px[0], nearest / rng.uniform(1.0, 5.0))
    placed = [
        put(
            people[int(rng.integers(len(people)))],
            rng,
            side,
            float(np.exp(rng.uniform(*np.log([farthest, nearest])))),
            place,
            behind,
            manner,
        )
        for _ in range(rng.integers(crowd[0], crowd[1] + 1))
    ]
    placed.sort(key=lambda one: one.affine[1, 1])  # the near ones hide the far ones
    count = int(rng.integers(2, 4))
    shots = [compose(place, placed, count - 1 - t) for t in range(count)]
    faces = shots[-1][1]
    return degrade([shot for shot, _ in shots], faces, rng, ranges, manner.clear)


def put(
    who: Cutout,
    rng: np.random.Generator,
    side: int,
    face_px: float,
    place: Image,
    behind: float,
    manner: Manner,
) -> Placed:
    """Somebody somewhere in the scene, turned, foreshortened as from a high camera and lit like the place."""
    who = mirrored(who) if rng.random() < 0.5 else who
    who = from_behind(who, rng, manner.covered) if rng.random() < behind else dressed(who, rng)
    if manner.heads and rng.random() < manner.heads:
        who = turned_head(who, rng.uniform(-1.15, 1.15), rng.uniform(-0.15, 0.8), rng)
    who = with_body(who, rng) if rng.random() < 0.75 else who
    scale = face_px / FACE
    angle = np.radians(rng.normal(0, 7))
    squeeze = np.diag([rng.uniform(0.85, 1.08), 1.0]) if rng.random() < 0.5 else np.diag([1.0, rng.uniform(0.82, 1.0)])
    turned = manner.turned > 0 and rng.random() < manner.turned
    turn = scale * (turning(rng) if turned else rotation(angle) @ squeeze)
    x, y = rng.uniform(0.03, 0.97) * side, rng.uniform(0.04, 0.92) * side
    middle = np.array([who.alpha.shape[1] / 2, 0.8 * FACE])
    affine = np.concatenate([turn, (np.array([x, y]) - turn @ middle)[:, None]], 1).astype(np.float32)
    local = place[int(min(y, side - 1)) // 32 * 32 :, int(min(x, side - 1)) // 32 * 32 :][:32, :32].mean((0, 1)) + 20
    gain = (local / local.mean()) ** rng.uniform(0, 0.8) * (local.mean() / 120) ** rng.uniform(0, 0.7)
    step = rng.normal(0, 0.05, 2) * face_px * [1, 0.4]
    return Placed(who, affine, step, np.clip(gain, 0.15, 1.6), turned)


def rotation(angle: float) -> NDArray[np.float64]:
    """(2, 2), `angle` in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turning(rng: np.random.Generator) -> NDArray[np.float64]:
    """(2, 2): a head aslant, narrowed as from aside and flattened as from above; its area is kept within a half."""
    squeeze = np.diag([rng.uniform(0.65, 1.05), rng.uniform(0.65, 1.05)])
    return rotation(np.radians(rng.normal(0, 20))) @ squeeze @ rotation(np.radians(rng.normal(0, 10)))


def compose(place: Image, placed: Sequence[Placed], back: int) -> tuple[Image, Labels]:
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
            rgb, alpha = (shrunk(a, scale) for a in (rgb, alpha))
            there[:, :2] = there[:, :2] / np.array([rgb.shape[1] / columns, rgb.shape[0] / rows])
        there[:, 2] -= [x0, y0]
        size = (int(x1 - x0), int(y1 - y0))
        colour = cv2.warpAffine(rgb, there, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        opaque = cv2.warpAffine(alpha, there, size, flags=cv2.INTER_LINEAR)
        share = opaque.astype(np.float32)[..., None] / 255
        region = canvas[y0:y1, x0:x1]
        canvas[y0:y1, x0:x1] = region + share * (np.clip(colour * one.gain, 0, 255) - region)
        owner[y0:y1, x0:x1][opaque > 128] = number
        if len(one.who.face):
            found.append((number, inside(moved(one.who.face, affine, one.turned), side, side)))
    return canvas, join([visible(face, owner, number) for number, face in found])


def shrunk(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """`image` at `scale` of its sides, averaged over areas."""
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


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


def degrade(
    shots: Sequence[Image],
    faces: Labels,
    rng: np.random.Generator,
    ranges: Ranges = RANGES,
    clear: float = Manner.clear,
) -> Scene:
    """The last of `shots` as a bad camera delivers it; even sides, the faces stand in the last."""
    kinds = tuple(kind for kind in draw_kinds(rng, ranges) if kind not in ("interlace", "mjpeg"))
    if rng.random() < clear:
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
        seen = lens(lit[-1], rng)
        return Scene(shots[-1], seen, faces, kinds, legible(shots[-1], seen, faces))
    options = {k: v for k, v in lens.options.items() if k != "b"}
    options.setdefault("crf", str(int(rng.integers(ranges.crf[0], ranges.crf[1] + 1))))
    options["preset"] = "ultrafast" if lens.codec == "libx265" else "superfast"
    if lens.codec == "libx265":  # as cameras do; and x265 now and then gives B-frames of so short a clip no time stamp
        options["x265-params"] += ":bframes=0"
    else:
        options["bf"] = "0"
    seen = through_codec([lens(shot, rng) for shot in lit], lens.codec, options)[-1]
    return Scene(shots[-1], seen, faces, kinds, legible(shots[-1], seen, faces))


def legible(clean: Image, seen: Image, faces: Labels) -> NDArray[np.float32]:
    """(n,) 0 to 1: how much of each face the camera left, from the correlation of its brightness before and after.

    Less than a quarter counts as nothing: whoever must find such faces takes any blob for one.
    """
    weight = np.zeros(len(faces), np.float32)
    before, after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (clean, seen))
    for number in np.flatnonzero(~faces.ignore):
        x0, y0, x1, y1 = faces.xyxy[number]
        where = np.s_[max(int(y0 - 1), 0) : int(np.ceil(y1 + 1)), max(int(x0 - 1), 0) : int(np.ceil(x1 + 1))]
        a, b = (image[where] - image[where].mean() for image in (before, after))
        alike = float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-6))
        weight[number] = np.interp(alike, [0.4, 0.75], [0, 1])
    return np.where(weight < 0.25, 0, weight).astype(np.float32)


def mosaic(
    reals: Sequence[Real],
    rng: np.random.Generator,
    side: int,
    face_px: tuple[float, float],
    enlarge: float = 1.6,
    manner: Manner = Manner(),
) -> tuple[Image, Labels]:
    """One or more real images on a side x side canvas, each scaled until one of its faces, or of its hard negatives,
    has `face_px` pixels, but enlarged no more than `enlarge` times."""
    fill = int(rng.choice([0, 114]))
    canvas = np.full((side, side, 3), fill, np.uint8)
    across = int(np.ceil(np.sqrt(len(reals))))
    cell = side // across
    found = []
    for number, real in enumerate(reals[: across * across]):
        image, faces = real.image, real.faces
        height, width = image.shape[:2]
        focus = choose(real, rng, manner.hard)
        fits = cell / max(width, height)
        wanted = float(np.exp(rng.uniform(*np.log(face_px))))
        scale = fits if focus is None else wanted / float(max(focus[3] - focus[1], 1))
        turn = min(enlarge, max(0.9 * fits, scale)) * np.eye(2)
        if rng.random() < manner.turned:
            turn = turn @ turning(rng)
        if rng.random() < 0.5:
            turn = turn @ np.diag([-1, 1])
        middle = np.array([width, height]) / 2 if focus is None else (focus[:2] + focus[2:]) / 2
        affine = framed(turn, middle, (width, height), cell, rng)
        x, y = number % across * cell, number // across * cell
        canvas[y : y + cell, x : x + cell] = warped(image, affine, cell, fill)
        shown = moved(faces, affine, oval=True)
        if np.linalg.det(turn) < 0:
            shown = replace(shown, points=flipped(shown, 0).points * np.array([-1, 1, 1], np.float32))
        kept = inside(shown, cell, cell, 0.35)
        found.append(moved(kept, np.array([[1, 0, x], [0, 1, y]], np.float32)))
    return canvas, join(found) if found else labels()


def choose(real: Real, rng: np.random.Generator, hard: float) -> NDArray[np.float32] | None:
    """What a real image is cut around, xyxy: a hard negative, one of its counted faces, or nothing."""
    if len(real.hard) and rng.random() < hard:
        return real.hard[rng.integers(len(real.hard))]
    counted = real.faces.xyxy[~real.faces.ignore]
    return counted[rng.integers(len(counted))] if len(counted) else None


def framed(
    turn: NDArray[np.floating],
    middle: NDArray[np.floating],
    size: tuple[int, int],
    cell: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(2, 3): `turn`, and `middle` of the (width, height) image anywhere in the cell that the image then fills, or
    lies in where it is smaller."""
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size]) @ turn.T
    low, high = corners.min(0), corners.max(0)
    shift = rng.uniform(0.05, 0.95, 2) * cell - turn @ middle
    ends = np.sort(np.stack([-low, cell - high]), 0)
    return np.concatenate([turn, np.clip(shift, ends[0], ends[1])[:, None]], 1).astype(np.float32)


def warped(image: Image, affine: NDArray[np.float32], cell: int, fill: int) -> Image:
    """The cell x cell view of `image`; shrunk by area first, which a warp alone would alias."""
    scale = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
    there = affine.astype(np.float64)
    if scale < 0.8:
        height, width = image.shape[:2]
        columns, rows = max(round(width * scale), 2), max(round(height * scale), 2)
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        there[:, :2] = there[:, :2] @ np.diag([width / columns, height / rows])
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    view = cv2.warpAffine(image, there, (cell, cell), flags=how, borderValue=(fill, fill, fill))
    return view.astype(np.uint8, copy=False)
