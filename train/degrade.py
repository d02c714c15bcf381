"""What a surveillance camera does to a face, as pure functions of (image, rng).

Images are (H, W, 3) uint8 RGB. `degrade_clip` is the whole chain: the face moves through a small frame, lens, sensor
and camera degrade each image, a real video encoder compresses the clip, and one decoded frame comes back. `gfpgan`
is the recipe for web photographs from Wang et al., "Towards Real-World Blind Face Restoration with Generative Facial
Prior" (CVPR 2021), to compare with. Lengths are pixels of the frame.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stream_enhance.imaging.crop import cut
from train.common.images import Image

Codec = Literal["libx264", "libx265", "mjpeg"]
KINDS = ("motion", "defocus", "noise", "night", "infrared", "halo", "interlace", "jpeg", "h264", "h265", "mjpeg")


class Ranges(BaseModel):
    """The (low, high) range of each defect and, in `chance`, how often an image has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    face_px: tuple[float, float] = (16, 96)  # height of the face box, log-uniform: half of them under 40
    motion_px: tuple[float, float] = (1, 15)
    motion_of_face: float = 0.16  # a smear longer than this share of the face leaves nothing to learn
    defocus_of_face: tuple[float, float] = (0.01, 0.07)  # radius of the circle of confusion / face height
    noise_sigma: tuple[float, float] = (2, 30)  # of 255 at mid grey, log-uniform
    night_gamma: tuple[float, float] = (1.5, 3.5)
    halo: tuple[float, float] = (0.3, 1.5)
    jpeg_quality: tuple[int, int] = (25, 90)
    crf: tuple[int, int] = (24, 42)
    kbps: tuple[float, float] = (128, 2048)  # of a 1280x720 image at 25 frames a second
    gop: tuple[int, int] = (10, 100)
    frames: tuple[int, int] = (2, 7)  # how far into the clip the image is taken
    drift_of_face: float = 0.05  # largest step of the face between two frames / face height
    tilt_degrees: float = 12
    chance: dict[str, float] = {
        "motion": 0.4,
        "defocus": 0.5,
        "noise": 0.7,
        "night": 0.12,
        "infrared": 0.1,
        "halo": 0.25,
        "interlace": 0.06,
        "jpeg": 0.15,
        "codec": 0.85,
    }


DEFAULT = Ranges()


@dataclass(frozen=True)
class Seen:
    """What the camera delivers of one face."""

    frame: Image  # (S, S, 3) RGB, the neighbourhood of the face
    clean: Image  # (H, W, 3) RGB, the source in the scene's own light (night and infra-red are not defects)
    to_clean: NDArray[np.float32]  # (2, 3): a point of `frame` -> the same point of `clean`
    face_px: float
    kinds: tuple[str, ...]  # of KINDS
    gamma: float  # of the light: 1 by day, more by night


def degrade_clip(
    image: Image,
    center: tuple[float, float],
    face_height: float,
    rng: np.random.Generator,
    ranges: Ranges = DEFAULT,
    face_px: float | None = None,
    only: Sequence[str] | None = None,
) -> Seen:
    """Degrade the face of `image`, `face_height` pixels high around `center` (x, y), as a bad camera does.

    `face_px` fixes the size of the face in the frame, `only` the kinds of defect (of KINDS); else they are drawn.
    Light is the scene's: night and infra-red change `clean` too, so that a network does not learn to invent colour.
    """
    height = face_px or float(np.exp(rng.uniform(*np.log(ranges.face_px))))
    kinds = tuple(only) if only is not None else draw_kinds(rng, ranges)
    gamma = rng.uniform(*ranges.night_gamma) if "night" in kinds else 1.0
    clean = in_light(image, gamma, "infrared" in kinds)
    side = max(64, 8 * round((1.9 * height + 16) / 8))  # below 64, libx265 writes past its buffers
    to_clean = frame_to_image(center, face_height / height, rng.uniform(-1, 1) * ranges.tilt_degrees, side)
    heading = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(0, ranges.drift_of_face) * height * np.array([np.cos(heading), np.sin(heading)])
    last = int(rng.integers(ranges.frames[0], ranges.frames[1] + 1))
    lens = draw_lens(height, np.degrees(heading), kinds, rng, ranges)
    # the face stands at `to_clean` in the frame that is kept, and walks toward it before
    first = last if lens.codec is None else 0
    frames = [lens(cut(clean, shifted(to_clean, (last - t) * step), side), rng) for t in range(first, last + 1)]
    if "interlace" in kinds:
        later = lens(cut(clean, shifted(to_clean, -0.5 * step), side), rng)
        frames[-1] = interlace(frames[-1], later)
    if lens.codec is not None:
        frames = through_codec(frames, lens.codec, lens.options)
    return Seen(frames[-1], clean, to_clean, height, kinds, gamma)


def in_light(image: Image, gamma: float, mono: bool) -> Image:
    """`image` by night where `gamma` is over 1, by infra-red lamp where `mono`."""
    lit = night(image, gamma) if gamma > 1 else image
    return infrared(lit) if mono else lit


def draw_kinds(rng: np.random.Generator, ranges: Ranges) -> tuple[str, ...]:
    """The defects of one image; a codec, and one only, is one of them."""
    chosen = [kind for kind, chance in ranges.chance.items() if rng.random() < chance]
    if "codec" in chosen:
        chosen[chosen.index("codec")] = str(rng.choice(["h264", "h265", "mjpeg"], p=[0.65, 0.15, 0.2]))
    return tuple(chosen)


@dataclass(frozen=True)
class Lens:
    """One camera's settings; calling it degrades one image (S, S, 3) RGB as that camera does."""

    blur: NDArray[np.float32] | None  # kernel
    sigma: float
    chroma_sigma: float
    halo: float
    quality: int | None
    codec: Codec | None
    options: dict[str, str]

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """`image` (H, W, 3) uint8 as this lens and sensor give it; noise drawn from `rng`."""
        if self.blur is not None:
            image = cv2.filter2D(image, -1, self.blur, borderType=cv2.BORDER_REPLICATE).astype(np.uint8)
        if self.sigma:
            image = noise(image, rng, self.sigma, self.chroma_sigma)
        if self.halo:
            image = sharpen(image, self.halo)
        return image if self.quality is None else jpeg(image, self.quality)


def draw_lens(
    height: float, heading: float, kinds: Sequence[str], rng: np.random.Generator, ranges: Ranges = DEFAULT
) -> Lens:
    """A camera with the defects `kinds` for faces `height` pixels high; motion along `heading` degrees."""
    kernel = np.ones((1, 1), np.float32)
    if "motion" in kinds:
        longest = min(ranges.motion_px[1], ranges.motion_of_face * height)
        kernel = motion_kernel(rng.uniform(min(ranges.motion_px[0], longest), longest), heading)
    if "defocus" in kinds:
        disc = disc_kernel(rng.uniform(*ranges.defocus_of_face) * height)
        pad = disc.shape[0] // 2
        kernel = cv2.filter2D(np.pad(kernel, pad), -1, disc, borderType=cv2.BORDER_CONSTANT).astype(np.float32)
    sigma = float(np.exp(rng.uniform(*np.log(ranges.noise_sigma)))) if "noise" in kinds else 0.0
    codec, options = draw_codec(height, kinds, rng, ranges)
    return Lens(
        blur=kernel if kernel.size > 1 else None,
        sigma=sigma,
        chroma_sigma=sigma * rng.uniform(0.2, 1.0),
        halo=rng.uniform(*ranges.halo) if "halo" in kinds else 0.0,
        quality=int(rng.integers(ranges.jpeg_quality[0], ranges.jpeg_quality[1] + 1)) if "jpeg" in kinds else None,
        codec=codec,
        options=options,
    )


def draw_codec(
    height: float, kinds: Sequence[str], rng: np.random.Generator, ranges: Ranges = DEFAULT
) -> tuple[Codec | None, dict[str, str]]:
    """The encoder that `kinds` names and its options; (None, {}) where it names none."""
    if "mjpeg" in kinds:
        return "mjpeg", {"qscale": str(int(rng.integers(3, 22)))}
    if "h264" not in kinds and "h265" not in kinds:
        return None, {}
    options = {"preset": "veryfast" if "h264" in kinds else "ultrafast", "threads": "1"}
    options["g"] = str(int(rng.integers(ranges.gop[0], ranges.gop[1] + 1)))
    if rng.random() < 0.75:
        options["crf"] = str(int(rng.integers(ranges.crf[0], ranges.crf[1] + 1)))
    else:  # this frame's share of what the whole image gets; what moves gets most of it
        share = 6 * (1.9 * height) ** 2 / (1280 * 720)
        rate = float(np.exp(rng.uniform(*np.log(ranges.kbps))))
        options["b"] = str(int(max(1000 * rate * share, 12000)))
    if (
        "h264" in kinds
    ):  # x264's macroblock tree gives other bits from run to run with AVX-512; cameras have none anyway
        options["x264-params"] = "mbtree=0"
    if "h265" in kinds:  # with B-frames libx265 crashes on about one in 300 of such short clips
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1:bframes=0"
    return ("libx264" if "h264" in kinds else "libx265"), options


def through_codec(frames: Sequence[Image], codec: Codec, options: dict[str, str]) -> list[Image]:
    """Encode `frames` (even sides, 25 a second, 4:2:0) as a clip in memory and decode it: as many images back.

    Raises av.FFmpegError where this build of FFmpeg has no such encoder.
    """
    height, width = frames[0].shape[:2]
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as out:
        passed = {k: v for k, v in options.items() if k != "qscale"}
        stream = out.add_stream(codec, rate=25, options=passed)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.thread_count = 1
        if "b" in options:
            stream.codec_context.bit_rate = int(options["b"])
        if "qscale" in options:
            stream.codec_context.qmin = stream.codec_context.qmax = int(options["qscale"])
        for index, frame in enumerate(frames):
            shot = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            shot.pts = index
            out.mux(stream.encode(shot))
        out.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory, "r") as clip:
        clip.streams.video[0].codec_context.thread_count = 1
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in clip.decode(video=0)]


def frame_to_image(center: tuple[float, float], scale: float, degrees: float, side: int) -> NDArray[np.float32]:
    """(2, 3) affine from a `side` x `side` frame, whose middle shows `center` (x, y), to the image's pixels."""
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.asarray(center) - turn @ np.array([side / 2, side / 2])
    return np.concatenate([turn, shift[:, None]], axis=1).astype(np.float32)


def shifted(affine: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """`affine` (2, 3) after its input has moved `by` (x, y) pixels."""
    moved = affine.copy()
    moved[:, 2] += affine[:, :2] @ by
    return moved


def motion_kernel(length: float, degrees: float) -> NDArray[np.float32]:
    """A straight smear of `length` pixels, sub-pixel exact; sums to 1."""
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    along = np.linspace(-length / 2, length / 2, max(int(8 * length), 2))
    x, y = half + along * np.cos(np.radians(degrees)), half + along * np.sin(np.radians(degrees))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - top))
            np.add.at(kernel, (top + dy, left + dx), weight.astype(np.float32))
    return kernel / kernel.sum()


def disc_kernel(radius: float) -> NDArray[np.float32]:
    """The circle of confusion of a defocused lens with a soft rim one pixel wide; sums to 1."""
    half = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / kernel.sum()


def noise(image: Image, rng: np.random.Generator, sigma: float, chroma_sigma: float) -> Image:
    """Shot and read noise: `sigma` of 255 at mid grey, half its variance growing with the light."""
    light = image.astype(np.float32)
    share = np.sqrt(0.5 + light.mean(axis=2, keepdims=True) / 255)  # (H, W, 1): 1 at mid grey
    grey = rng.standard_normal((*image.shape[:2], 1), np.float32) * sigma
    tint = rng.standard_normal(image.shape, np.float32) * chroma_sigma
    return np.clip(light + share * (grey + tint - tint.mean(axis=2, keepdims=True)) + 0.5, 0, 255).astype(np.uint8)


def night(image: Image, gamma: float) -> Image:
    """Too little light: (x / 255) ** gamma, and half of the colour gone."""
    table = (255 * (np.arange(256) / 255) ** gamma + 0.5).astype(np.uint8)
    dark = table[image].astype(np.float32)
    return np.clip(0.5 * dark + 0.5 * dark.mean(axis=2, keepdims=True), 0, 255).astype(np.uint8)


def infrared(image: Image) -> Image:
    """Near infra-red by lamp: one channel, in which skin and lips are bright (mostly red)."""
    mono = image.astype(np.float32) @ np.array([0.65, 0.25, 0.1], np.float32)
    return np.repeat((mono + 0.5).astype(np.uint8)[:, :, None], 3, axis=2)


def sharpen(image: Image, amount: float) -> Image:
    """The camera's own unsharp mask, with its halos."""
    soft = cv2.GaussianBlur(image, (0, 0), 1.0)
    return cv2.addWeighted(image, 1 + amount, soft, -amount, 0).astype(np.uint8)


def interlace(first: Image, second: Image) -> Image:
    """Even lines of one moment, odd lines of the next."""
    woven = first.copy()
    woven[1::2] = second[1::2]
    return woven


def jpeg(image: Image, quality: int) -> Image:
    """A JPEG round trip at `quality` (1 to 100), 4:2:0."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[:, :, ::-1]).astype(np.uint8)


def chroma_420(image: Image) -> Image:
    """Colour at half the sides, as 4:2:0 keeps it; sides must be even."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def gfpgan(image: Image, rng: np.random.Generator) -> Image:
    """GFPGAN's published recipe for a 512-pixel face: blur, shrink 0.8-8x, noise, JPEG 60-100, enlarge again."""
    side, sigma = 41, rng.uniform(0.1, 10)
    other = sigma if rng.random() < 0.5 else rng.uniform(0.1, 10)
    kernel = gaussian_kernel(side, sigma, other, rng.uniform(-np.pi, np.pi))
    soft = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    height, width = image.shape[:2]
    scale = rng.uniform(0.8, 8)
    small = cv2.resize(soft, (max(int(width / scale), 2), max(int(height / scale), 2)), interpolation=cv2.INTER_LINEAR)
    noisy = small + rng.standard_normal(small.shape) * rng.uniform(0, 20)
    poor = jpeg(np.clip(np.round(noisy), 0, 255).astype(np.uint8), int(rng.uniform(60, 100)))
    return cv2.resize(poor, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def gaussian_kernel(side: int, along: float, across: float, angle: float) -> NDArray[np.float32]:
    """(side, side) Gaussian with two sigmas, turned by `angle` radians; sums to 1."""
    y, x = np.mgrid[:side, :side] - side // 2
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2)).astype(np.float32)
    return kernel / kernel.sum()
