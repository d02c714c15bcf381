"""A wider way to degrade a face for training: a sensor in linear light, its image processor and a recorder.

`film` has the signature and the result of `train.degrade.degrade_clip`. The light is summed in linear light, falls on a
Bayer mosaic, is amplified with its noise, and is turned back into an image; the processor removes noise in time
(leaving ghosts) and in space, and sharpens; the encoder has long groups of pictures with B-frames; a recorder may
rescale and encode again. Lengths are pixels of the frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.imaging.crop import cut
from train.common.images import Image
from train.degrade import (
    DEFAULT,
    Codec,
    Ranges,
    Seen,
    disc_kernel,
    frame_to_image,
    in_light,
    jpeg,
    motion_kernel,
    shifted,
    through_codec,
)

TO_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)


@dataclass(frozen=True)
class Sensor:
    """What one camera does to the light of each frame."""

    blur: NDArray[np.float32]  # kernel over the light, at the sensor's resolution
    full_well: float  # photons at white, per pixel: shot noise is sqrt of the light
    read_noise: float  # of white
    exposure: float  # of white; amplified back afterwards
    bayer: bool


@dataclass(frozen=True)
class Processor:
    """What the camera's image processor does to the frames."""

    temporal: float  # share of the frame before; 0: none
    threshold: float  # difference from the frame before, of 255, over which a pixel counts as moving
    spatial: float  # sigma of the bilateral filter over values, of 255; 0: none
    chroma: int  # side of the median over chroma; 0: none
    sharpen: float
    radius: float


def film(
    image: Image,
    center: tuple[float, float],
    face_height: float,
    rng: np.random.Generator,
    ranges: Ranges = DEFAULT,
    face_px: float | None = None,
) -> Seen:
    """Show `image`'s face, `face_height` pixels high around `center` (x, y), to a drawn camera and recorder."""
    height = face_px or float(np.exp(rng.uniform(*np.log(ranges.face_px))))
    mono, dark = rng.random() < 0.08, rng.random() < 0.12
    gamma = float(rng.uniform(*ranges.night_gamma)) if dark else 1.0
    clean = in_light(image, gamma, mono)
    side = max(64, 8 * round((1.9 * height + 16) / 8))
    to_clean = frame_to_image(center, face_height / height, rng.uniform(-1, 1) * ranges.tilt_degrees, side)
    grow = float(rng.uniform(1.15, 2.2)) if rng.random() < 0.35 else 1.0  # the recorder shrinks what the sensor saw
    wide = max(64, 8 * round(side * grow / 8))
    onto = to_clean.copy()
    onto[:, :2] *= side / wide
    onto[:, 2] += to_clean[:, :2] @ np.full(2, 0.5 * side / wide - 0.5)
    heading = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(0, 1) ** 2 * 0.08 * height * wide / side
    step = speed * np.array([np.cos(heading), np.sin(heading)])
    sensor = draw_sensor(height * wide / side, speed, float(np.degrees(heading)), dark, rng)
    processor = draw_processor(rng)
    coded = rng.random() < 0.85
    last = int(rng.integers(3, 16)) if coded else int(rng.integers(0, 3))
    after = int(rng.integers(0, 4)) if coded else 0  # B-frames look ahead
    frames = [
        expose(cut(clean, shifted(onto, (last - t) * step), wide), sensor, rng, mono) for t in range(last + after + 1)
    ]
    frames = process(frames, processor)
    if wide != side:
        how = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
        if coded and rng.random() < 0.5:
            frames = encoded(frames, wide, rng, 18, 32)
        frames = [cv2.resize(f, (side, side), interpolation=how).astype(np.uint8) for f in frames]
    if coded:
        frames = encoded(frames, height, rng, 20, 40)
        if wide == side and rng.random() < 0.3:
            frames = encoded(frames, height, rng, 20, 34)
    frame = frames[last]
    if rng.random() < 0.12:
        frame = jpeg(frame, int(rng.integers(40, 95)))
    return Seen(frame, clean, to_clean, height, ("infrared",) if mono else (), gamma)


def draw_sensor(height: float, speed: float, heading: float, dark: bool, rng: np.random.Generator) -> Sensor:
    """A lens, a shutter and a sensor for faces `height` pixels high that move `speed` pixels a frame."""
    kernel = np.ones((1, 1), np.float32)
    shutter = rng.uniform(0.02, 1.0)
    smear = min(0.16 * height, shutter * speed * rng.uniform(1, 4))
    if smear > 0.3:
        kernel = motion_kernel(smear, heading)
    radius = max(0.0, rng.normal(0.02, 0.02)) * height if rng.random() < 0.6 else 0.0
    soft = disc_kernel(radius) if radius > 0.2 else np.ones((1, 1), np.float32)
    if rng.random() < 0.5:  # aberration and diffraction: a Gaussian
        sigma = rng.uniform(0.2, 1.0)
        line = cv2.getGaussianKernel(2 * int(3 * sigma + 1) + 1, sigma)
        gauss = (line @ line.T).astype(np.float32)
        pad = gauss.shape[0] // 2
        soft = cv2.filter2D(np.pad(soft, pad), -1, gauss, borderType=cv2.BORDER_CONSTANT).astype(np.float32)
    if soft.size > 1:
        pad = soft.shape[0] // 2
        kernel = cv2.filter2D(np.pad(kernel, pad), -1, soft, borderType=cv2.BORDER_CONSTANT).astype(np.float32)
    exposure = float(np.exp(rng.uniform(np.log(0.02 if dark else 0.06), 0)))
    return Sensor(
        kernel / kernel.sum(),
        full_well=float(np.exp(rng.uniform(np.log(1500), np.log(12000)))),
        read_noise=float(np.exp(rng.uniform(np.log(0.0005), np.log(0.003)))),
        exposure=exposure,
        bayer=bool(rng.random() < 0.7),
    )


def draw_processor(rng: np.random.Generator) -> Processor:
    """An image processor."""
    return Processor(
        temporal=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else 0.0,
        threshold=float(rng.uniform(4, 40)),
        spatial=float(rng.uniform(4, 25)) if rng.random() < 0.4 else 0.0,
        chroma=int(rng.choice([3, 5])) if rng.random() < 0.3 else 0,
        sharpen=float(rng.uniform(0.2, 1.8)) if rng.random() < 0.5 else 0.0,
        radius=float(rng.uniform(0.6, 1.6)),
    )


def expose(image: Image, sensor: Sensor, rng: np.random.Generator, mono: bool) -> Image:
    """One frame of `image`'s light on the sensor, as an image again."""
    light: NDArray[np.float32] = TO_LINEAR[image]
    if sensor.blur.size > 1:
        light = cv2.filter2D(light, -1, sensor.blur, borderType=cv2.BORDER_REPLICATE).astype(np.float32)
    if sensor.bayer and not mono:
        light = np.ascontiguousarray(light)
        raw = light[..., 1].copy()
        raw[0::2, 0::2] = light[0::2, 0::2, 0]
        raw[1::2, 1::2] = light[1::2, 1::2, 2]
        raw = amplified(raw, sensor, rng)
        whole = (np.clip(raw, 0, 1) * 65535 + 0.5).astype(np.uint16)
        light = cv2.demosaicing(whole, cv2.COLOR_BayerRGGB2RGB) / np.float32(65535)
    elif mono:
        grey = amplified(np.ascontiguousarray(light[..., 1]), sensor, rng)
        light = np.repeat(grey[..., None], 3, 2)
    else:
        light = amplified(light, sensor, rng)
    return (255 * np.clip(light, 0, 1) ** (1 / 2.2) + 0.5).astype(np.uint8)


def amplified(light: NDArray[np.float32], sensor: Sensor, rng: np.random.Generator) -> NDArray[np.float32]:
    """`light` (0..1) with shot and read noise at the sensor's exposure, amplified back."""
    seen = light * sensor.exposure
    sigma = np.sqrt(np.maximum(seen, 0) / sensor.full_well + sensor.read_noise**2)
    return ((seen + sigma * rng.standard_normal(light.shape, np.float32)) / sensor.exposure).astype(np.float32)


def process(frames: Sequence[Image], p: Processor) -> list[Image]:
    """Noise removed in time and in space, colour softened, and edges sharpened."""
    out: list[Image] = []
    before: NDArray[np.float32] | None = None
    for index, frame in enumerate(frames):
        if p.temporal:
            now = frame.astype(np.float32)
            if before is not None:
                moved = cv2.GaussianBlur(np.abs(now - before).mean(2), (0, 0), 1.5)[..., None]
                share = p.temporal * np.clip(2 - moved / p.threshold, 0, 1)
                now = share * before + (1 - share) * now
            before = now
            frame = (now + 0.5).astype(np.uint8)
        if index + 1 < len(frames) - 16:
            continue
        if p.spatial:
            frame = cv2.bilateralFilter(frame, 5, p.spatial, 1.5).astype(np.uint8)
        if p.chroma:
            ycc = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)
            ycc[..., 1:] = cv2.medianBlur(np.ascontiguousarray(ycc[..., 1:]), p.chroma)
            frame = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB).astype(np.uint8)
        if p.sharpen:
            soft = cv2.GaussianBlur(frame, (0, 0), p.radius)
            frame = cv2.addWeighted(frame, 1 + p.sharpen, soft, -p.sharpen, 0).astype(np.uint8)
        out.append(frame)
    return out


def encoded(frames: Sequence[Image], height: float, rng: np.random.Generator, low: int, high: int) -> list[Image]:
    """Through a drawn encoder at a drawn quality; as many frames back."""
    kind = rng.random()
    if kind < 0.1:
        return through_codec(frames, "mjpeg", {"qscale": str(int(rng.integers(3, 18)))})
    codec: Codec = "libx264" if kind < 0.75 else "libx265"
    options = {"threads": "1", "g": str(int(rng.integers(10, 250))), "crf": str(int(rng.integers(low, high + 1)))}
    if codec == "libx264":
        options["preset"] = str(rng.choice(["ultrafast", "veryfast", "fast"]))
        options["x264-params"] = f"mbtree=0:bframes={int(rng.integers(0, 4))}"
    else:
        options["preset"] = "ultrafast"
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1:bframes=0"
    return through_codec(frames, codec, options)
