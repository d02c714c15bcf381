"""A camera and its recorder for evaluation only: it shares no code, and no ranges, with what training degrades by.

The scene is sampled at three times the sensor's grid. Light is summed there in linear light over the shutter time,
blurred by the lens, averaged onto a Bayer mosaic, counted as photons, demosaiced along edges, and encoded by the sRGB
curve. Block-wise recursive noise reduction leaves ghosts. The camera encodes a long group of pictures with B-frames;
a recorder decodes, rescales and encodes again. `record` returns one frame from the middle of the clip, `record_clip`
all of them.
Images are (H, W, 3) uint8 RGB; lengths are pixels of the delivered frame.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Light = NDArray[np.float32]  # (H, W, 3) linear light, 0..1
OVERSAMPLING = 3  # samples of the scene a sensor pixel and axis
EXPOSURES = 5  # positions of the face that one shutter time sums


@dataclass(frozen=True)
class Recording:
    """One decoded frame of one face."""

    frame: Image  # (S, S, 3) RGB
    to_clean: NDArray[np.float32]  # (2, 3): a point of `frame` -> the same point of the clean image
    face_px: float


@dataclass(frozen=True)
class Camera:
    """One camera, one recorder, and one person walking; drawn by `draw_camera`."""

    roll: float  # degrees
    velocity: tuple[float, float]  # pixels a frame
    shutter: float  # share of the frame's time
    defocus: float  # sigma in pixels
    electrons: float  # at white: shot noise
    read_noise: float  # electrons
    ghosting: float  # share of the frame before in still blocks; 0: none
    still_below: float  # mean difference of a block, of 255, below which it counts as still
    sharpening: float
    sensor_scale: float  # sensor pixels per delivered pixel
    frames: int
    camera_codec: tuple[str, int, int, int]  # encoder, crf, GOP, B-frames
    recorder_codec: tuple[str, int, int, int] | None


def draw_camera(height: float, rng: np.random.Generator) -> Camera:
    """A camera for faces `height` pixels high: from a good day to a poor evening."""
    speed = rng.gamma(1.5, 0.008) * height
    heading = rng.uniform(0, 2 * np.pi)
    codecs = ("libx264", "libx264", "libx265")
    first = (
        str(rng.choice(codecs)),
        int(rng.integers(21, 34)),
        int(rng.choice([50, 100, 250])),
        int(rng.integers(0, 4)),
    )
    again = (str(rng.choice(codecs)), int(rng.integers(22, 33)), 250, int(rng.integers(0, 4)))
    return Camera(
        roll=float(rng.normal(0, 4)),
        velocity=(float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        shutter=float(rng.choice([0.1, 0.25, 0.5, 0.9])),
        defocus=float(rng.gamma(2, 0.008) * height),
        electrons=float(np.exp(rng.uniform(np.log(60), np.log(6000)))),
        read_noise=float(rng.uniform(1, 4)),
        ghosting=float(rng.choice([0, 0.5, 0.7, 0.85])),
        still_below=float(rng.uniform(3, 14)),
        sharpening=float(rng.choice([0, 0.4, 0.9, 1.4])),
        sensor_scale=float(rng.choice([1, 1, 1.5, 2])),
        frames=int(rng.integers(14, 25)),
        camera_codec=first,
        recorder_codec=again if rng.random() < 0.5 else None,
    )


def record(
    image: Image, center: tuple[float, float], face_height: float, face_px: float, rng: np.random.Generator
) -> Recording:
    """Film the face of `image`, `face_height` pixels high around `center` (x, y), so that it is `face_px` high."""
    frames, kept, to_clean, _ = filmed(image, center, face_height, face_px, rng)
    return Recording(frames[kept], to_clean, face_px)


def record_clip(
    image: Image, center: tuple[float, float], face_height: float, face_px: float, rng: np.random.Generator
) -> list[Recording]:
    """As `record`, every frame of the clip, each with where its points lie in `image`."""
    frames, kept, to_clean, velocity = filmed(image, center, face_height, face_px, rng)
    recordings = []
    for index, frame in enumerate(frames):
        place = to_clean.copy()
        place[:, 2] -= place[:, :2] @ ((index - kept) * np.array(velocity))
        recordings.append(Recording(frame, place, face_px))
    return recordings


def filmed(
    image: Image, center: tuple[float, float], face_height: float, face_px: float, rng: np.random.Generator
) -> tuple[list[Image], int, NDArray[np.float32], tuple[float, float]]:
    """The clip's frames, which of them is kept, where that one's points lie in `image`, and pixels moved a frame."""
    camera = draw_camera(face_px, rng)
    side = max(64, 16 * int(np.ceil((2.0 * face_px + 12) / 16)))
    scale = face_height / face_px
    turn = np.radians(camera.roll)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    offset = np.asarray(center) - linear @ np.full(2, (side - 1) / 2)
    to_clean = np.concatenate([linear, offset[:, None]], 1).astype(np.float32)
    sensor_side = 2 * round(side * camera.sensor_scale / 2)
    kept = camera.frames // 2 + int(rng.integers(0, 3))
    light = to_light(image)
    blurred = shrunk_to(light, scale * side / (sensor_side * OVERSAMPLING))
    frames = [
        develop(exposed(blurred, light.shape, to_clean, index - kept, side, sensor_side, camera), camera, rng)
        for index in range(camera.frames)
    ]
    frames = reduce_noise(frames, camera)
    if sensor_side != side:
        frames = [cv2.resize(f, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8) for f in frames]
    frames = transcode(frames, *camera.camera_codec)
    if camera.recorder_codec is not None:
        frames = transcode(frames, *camera.recorder_codec)
    return frames, kept, to_clean, camera.velocity


def to_light(image: Image) -> Light:
    """Linear light 0..1 of `image`, by sRGB's transfer function."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return np.asarray(table[image], np.float32)


def from_light(light: Light) -> Image:
    """8-bit sRGB of linear light 0..1."""
    clipped = np.clip(light, 0, 1)
    value = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return (255 * value + 0.5).astype(np.uint8)


def shrunk_to(light: Light, step: float) -> Light:
    """`light` area-averaged until one sample is about `step` of its pixels; as it is where `step` is under 1."""
    if step <= 1:
        return light
    height, width = light.shape[:2]
    size = (max(1, round(width / step)), max(1, round(height / step)))
    return np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), np.float32)


def exposed(
    blurred: Light,
    full: tuple[int, ...],
    to_clean: NDArray[np.float32],
    index: int,
    side: int,
    sensor_side: int,
    camera: Camera,
) -> Light:
    """(sensor_side, sensor_side, 3): the light of frame `index` (0 is the frame kept) behind lens and shutter."""
    wide = sensor_side * OVERSAMPLING
    shrink = np.array([blurred.shape[1] / full[1], blurred.shape[0] / full[0]])
    total: Light | None = None
    positions = (
        np.linspace(-0.5, 0.5, EXPOSURES) * camera.shutter
        if camera.shutter * np.hypot(*camera.velocity) > 0.1
        else [0.0]
    )
    for moment in positions:
        affine = to_clean.astype(np.float64)
        affine[:, 2] -= affine[:, :2] @ ((index + moment) * np.array(camera.velocity))
        ratio = side / wide
        affine[:, 2] += affine[:, :2] @ np.full(2, 0.5 * ratio - 0.5)
        affine[:, :2] *= ratio
        affine[:, 2] = (affine[:, 2] + 0.5) * shrink - 0.5
        affine[:, :2] *= shrink[:, None]
        seen = cv2.warpAffine(
            blurred,
            affine,
            (wide, wide),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        total = seen.astype(np.float32) if total is None else (total + seen).astype(np.float32)
    assert total is not None
    sigma = OVERSAMPLING * np.hypot(camera.defocus * sensor_side / side, 0.45)
    lens = cv2.GaussianBlur(total / len(positions), (0, 0), float(sigma))
    return np.asarray(cv2.resize(lens, (sensor_side, sensor_side), interpolation=cv2.INTER_AREA), np.float32)


def develop(light: Light, camera: Camera, rng: np.random.Generator) -> Image:
    """Photons on a GRBG mosaic, demosaiced along edges, sharpened, as an sRGB image."""
    mosaic = light[..., 1].copy()
    mosaic[0::2, 1::2] = light[0::2, 1::2, 0]
    mosaic[1::2, 0::2] = light[1::2, 0::2, 2]
    counted = rng.poisson(np.maximum(mosaic, 0) * camera.electrons) + rng.normal(0, camera.read_noise, mosaic.shape)
    raw = (np.clip(counted / camera.electrons, 0, 1) * 1023 + 0.5).astype(np.uint16)  # ten bits
    colour = cv2.demosaicing(raw, cv2.COLOR_BayerGRBG2RGB_EA).astype(np.float32) / np.float32(1023)
    image = from_light(colour.astype(np.float32, copy=False))
    if camera.sharpening:
        detail = image.astype(np.float32) - cv2.boxFilter(image.astype(np.float32), -1, (3, 3))
        image = np.clip(image + camera.sharpening * detail + 0.5, 0, 255).astype(np.uint8)
    return image


def reduce_noise(frames: Sequence[Image], camera: Camera) -> list[Image]:
    """Recursive noise reduction over time, decided for blocks of 8 x 8: a still block keeps what was there before."""
    if not camera.ghosting:
        return list(frames)
    out: list[Image] = []
    held: NDArray[np.float32] | None = None
    for frame in frames:
        now = frame.astype(np.float32)
        if held is not None:
            height, width = now.shape[:2]
            apart = np.abs(now - held).mean(2)
            blocks = cv2.resize(apart, (-(-width // 8), -(-height // 8)), interpolation=cv2.INTER_AREA)
            still = (blocks < camera.still_below).astype(np.float32)
            share = camera.ghosting * cv2.resize(still, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
            now = share * held + (1 - share) * now
        held = now
        out.append((now + 0.5).astype(np.uint8))
    return out


def transcode(frames: Sequence[Image], encoder: str, crf: int, gop: int, b_frames: int) -> list[Image]:
    """Encode (4:2:0, 25 frames a second) and decode; as many frames back."""
    height, width = frames[0].shape[:2]
    memory = io.BytesIO()
    options = {"crf": str(crf), "g": str(gop), "preset": "veryfast", "threads": "1"}
    if encoder == "libx264":
        options["x264-params"] = f"bframes={b_frames}:mbtree=0"
    else:  # libx265 crashes on some very short clips with B-frames
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1:bframes=0"
    with av.open(memory, "w", format="matroska") as out:
        stream = out.add_stream(encoder, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.thread_count = 1
        for index, image in enumerate(frames):
            video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            video_frame.pts = index
            out.mux(stream.encode(video_frame))
        out.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory, "r") as clip:
        clip.streams.video[0].codec_context.thread_count = 1
        return [f.to_ndarray(format="rgb24").astype(np.uint8) for f in clip.decode(video=0)]
