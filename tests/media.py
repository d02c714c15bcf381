"""Tiny real files for the tests: videos and sound made by PyAV, networks made by onnx's own helpers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stream_enhance.backends.card import Card, weights_sha256, write_card
from stream_enhance.imaging import crop

SIZE = (160, 120)
FACE = (80.0, 60.0, 36.0, 48.0)  # centre x, y, width, height: where `detector` sees its one face in a SIZE frame
PATCH = 64
_RNG = np.random.default_rng(0)
_TEXTURE = cv2.GaussianBlur(_RNG.integers(0, 256, (700, 900, 3), np.uint8), (0, 0), 9)
_TEXTURE = cv2.normalize(_TEXTURE, _TEXTURE.copy(), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def image(index: int, width: int = SIZE[0], height: int = SIZE[1]) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB: a soft coloured texture that moves two pixels a frame."""
    tile = _TEXTURE if width <= 700 else cv2.resize(_TEXTURE, (width + 300, height + 100))
    shift = 2 * index % 150
    return np.ascontiguousarray(tile[shift // 2 : shift // 2 + height, shift : shift + width])


def make_video(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = SIZE,
    rate: int | Fraction = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    *,
    space: int = 2,  # AVColorSpace: 1 BT.709, 5 BT.601, 9 BT.2020, 2 unspecified
    full: bool = False,
    sound: bool = False,
    subtitles: bool = False,
    rotation: int = 0,
    pts: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    form: str | None = None,
) -> Path:
    """A video of ``image``s at ``path``."""
    with av.open(str(path), "w", format=form, options=container_options or {}) as container:
        codec_options = {"crf": "12", "preset": "ultrafast"} if codec in ("libx264", "libx265") else {}
        stream: Any = container.add_stream(codec, rate=rate, options={**codec_options, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = space, 2 if full else 1
        if pts is not None:
            stream.codec_context.time_base = stream.time_base = 1 / Fraction(rate)
        if rotation:
            stream.set_display_rotation(rotation)
        tones = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for i in range(frames):
            frame = coloured(image(i, *size), pixel_format, space, full)
            frame.pts, frame.time_base = (pts[i] if pts is not None else i), 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tones is not None:
            _add_tone(container, tones, frames / float(rate))
    return path


def coloured(rgb: NDArray[np.uint8], pixel_format: str, space: int = 2, full: bool = False) -> av.VideoFrame:
    """``rgb`` as a frame of ``pixel_format``, tagged with its matrix and range."""
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
    matrix = {} if space == 2 else {"dst_colorspace": space}
    frame = frame.reformat(format=pixel_format, dst_color_range=2 if full else 1, **matrix)
    frame.colorspace, frame.color_range = space, 2 if full else 1
    return frame


def _add_tone(container: Any, stream: Any, seconds: float) -> None:
    count = round(seconds * 16000)
    tone = (np.sin(np.arange(count) * 440 * 2 * np.pi / 16000) * 8000).astype(np.int16)
    sound = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
    sound.sample_rate, sound.pts = 16000, 0
    container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


def raw_h264(path: Path, sizes: Iterable[tuple[int, int]], frames: int = 6, pixel_format: str = "yuv420p") -> Path:
    """An H.264 byte stream whose image size changes as ``sizes`` says, each with its own headers."""
    data = b""
    for i, size in enumerate(sizes):
        part = make_video(path.with_name(f"{path.stem}{i}.h264"), frames, size, pixel_format=pixel_format, form="h264")
        data += part.read_bytes()
        part.unlink()
    path.write_bytes(data)
    return path


def make_long(path: Path, frames: int) -> Path:
    """A video of fifty images again and again: its packets are copied, so that it is there at once."""
    part = make_video(path.with_name(f"once{path.suffix}"), 50)
    with av.open(str(part)) as source, av.open(str(path), "w") as container:
        packets = [(bytes(p), p.pts or 0, p.is_keyframe) for p in source.demux(video=0) if p.size]
        stream = container.add_stream_from_template(source.streams.video[0])
        step = packets[1][1] - packets[0][1]
        for i in range(frames):
            data, _, key = packets[i % len(packets)]
            packet: Any = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, i * step, i * step, key
            packet.time_base = source.streams.video[0].time_base
            container.mux(packet)
    part.unlink()
    return path


def flv_with_times(path: Path, milliseconds: Sequence[int]) -> Path:
    """A Flash video whose images carry just these times, however wrong: muxers would refuse to write them."""
    make_video(path, len(milliseconds), options={"tune": "zerolatency", "flvflags": "no_duration_filesize"})
    data, at, times = bytearray(path.read_bytes()), 13, iter(milliseconds)
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] == 9 and data[at + 12] == 1:  # a tag of video that holds an image
            time = next(times)
            data[at + 4 : at + 8] = (time & 0xFFFFFF).to_bytes(3, "big") + bytes([time >> 24])
        at += 11 + size + 4
    assert next(times, None) is None
    path.write_bytes(data)
    return path


def images_of(path: Path | str, form: str = "rgb24") -> list[NDArray[Any]]:
    """Every image of a video as an array."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=form) for frame in container.decode(video=0)]


def luma_of(path: Path | str) -> list[NDArray[np.uint8]]:
    """Every image's Y plane, 8 bits."""
    return [planes[0] for planes in planes_of(path)]


def planes_of(path: Path | str) -> list[list[NDArray[np.uint8]]]:
    """Every image's planes as they are in the file, 8 bits: nothing is converted."""
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : p.width].copy()  # type: ignore[call-overload]
                for p in frame.planes
            ]
            for frame in container.decode(video=0)
        ]


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """The image file, (H, W, 3) RGB; (H, W) where ``flags`` ask for grey."""
    found = cv2.imread(str(path), flags)
    assert found is not None, f"{path} is not an image"
    return found.astype(np.uint8) if found.ndim == 2 else found[:, :, ::-1].astype(np.uint8)


def pts_of(path: Path | str) -> list[Fraction]:
    """Every image's time in seconds."""
    with av.open(str(path)) as container:
        return [Fraction(frame.pts or 0) * (frame.time_base or 0) for frame in container.decode(video=0)]


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal to noise in dB of two uint8 images."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def make_detector(path: Path, boxes: Sequence[Sequence[float]] = (FACE,), score: float = 0.9) -> Path:
    """A detector that sees the same ``boxes`` (centre x, y, width, height; input pixels) in every image."""
    rows = np.zeros((1, 20, max(1, len(boxes))), np.float32)
    for i, (x, y, width, height) in enumerate(boxes):
        points = (crop.TEMPLATE - crop.TEMPLATE.mean(0)) * height / crop.BOX_HEIGHT + [x, y + 0.02 * height]
        rows[0, :5, i] = x, y, width, height, score
        rows[0, 5:, i] = np.concatenate([points, np.ones((5, 1))], 1).reshape(-1)
    nodes = [
        helper.make_node("Shape", ["input"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "tail"], ["shape"], axis=0),
        helper.make_node("Expand", ["rows", "shape"], ["output0"]),
    ]
    tail = numpy_helper.from_array(np.array(rows.shape[1:], np.int64), "tail")
    return _saved(
        path,
        nodes,
        [numpy_helper.from_array(rows, "rows"), tail],
        ["n", 3, "H", "W"],
        ("output0", ["n", *rows.shape[1:]]),
        Card(name="boxes", task="face-detection", size=SIZE[0], dynamic=True, points=5, **_WHENCE),
    )


def make_enhancer(path: Path, side: int = PATCH, channels: int = 3, **card: Any) -> Path:
    """An enhancer that makes every patch a good deal brighter."""
    nodes = [
        helper.make_node("Add", ["input", "more"], ["brighter"]),
        helper.make_node("Clip", ["brighter", "zero", "one"], ["output"]),
    ]
    values = [("more", 0.25), ("zero", 0.0), ("one", 1.0)]
    return _saved(
        path,
        nodes,
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values],
        ["n", channels, side, side],
        ("output", ["n", channels, side, side]),
        Card(
            **{"name": "brighten", "task": "face-enhancement", "size": PATCH, "alignment": "five-points"}
            | _WHENCE
            | card
        ),
    )


_WHENCE = {"license": "AGPL-3.0-or-later", "data": "none", "recipe": "tests", "commit": "none", "weights_sha256": "0"}


def _saved(
    path: Path, nodes: list[Any], weights: list[Any], taken: list[Any], given: tuple[str, list[Any]], card: Card
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info(given[0], TensorProto.FLOAT, given[1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    write_card(model, card.model_copy(update={"weights_sha256": weights_sha256(model)}))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
