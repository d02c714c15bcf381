"""What is known of a container before and after its first frame: which stream, how fast, how long, what is left out."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from typing import Any

import av
import av.container
from av.format import Flags
from av.stream import Disposition

from ..errors import SourceError
from ..imaging import planes
from ..imaging.colour import unusable_matrix
from ..imaging.planes import LAYOUTS
from ..types import StreamInfo
from .base import SourceOptions

_HIGHEST_RATE = 1000  # frames a second: a header that says more is damaged
_LEAST_BIT_RATE = 4000  # bits a second: no video has less
_ALPHA = {"rgba": 3, "bgra": 3, "argb": 0, "abgr": 0}  # where it lies
_HDR = {
    "MASTERING_DISPLAY_METADATA": "mastering display",
    "CONTENT_LIGHT_LEVEL": "light level",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
}


def describe(container: av.container.InputContainer, name: str, options: SourceOptions) -> StreamInfo:
    """What ``container`` says of itself.  The largest video stream with a decoder is taken.

    Raises:
        SourceError: there is none.
    """
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    decodable = [s for s in videos if s.codec_context is not None]
    if not videos:
        raise SourceError(f"{name}: holds no video stream")
    if not decodable:
        raise SourceError(f"{name}: no decoder for its video codec in this FFmpeg")
    stream = max(decodable, key=lambda s: (s.codec_context.width or 0) * (s.codec_context.height or 0))
    side_streams = tuple(s for s in container.streams if _is_side_stream(s))
    rate = _rate(container, stream, options)
    duration = length_of(container)
    length = max(0.0, min(duration, options.end or duration) - options.start)
    frame_count = stream.frames or 0
    if length and rate and (not frame_count or length != duration):
        frame_count = round(length * rate)
    metadata = dict(container.metadata)
    if timecode := stream.metadata.get("timecode"):
        metadata.setdefault("timecode", timecode)  # of which FFmpeg's muxers make a timecode track of their own
    return StreamInfo(
        name=name,
        rate=rate,
        pixel_aspect=stream.sample_aspect_ratio,
        metadata=metadata,
        chapters=tuple(container.chapters()),
        side_streams=side_streams,
        frame_count=frame_count,
        format=container.format.name,
        duration=duration,
        bit_rate=container.bit_rate or 0,
        streams=tuple(container.streams),
        video_index=stream.index,
        notes=tuple(_left_out(container, stream, side_streams)),
        stills=frame_count == 1,
    )


def length_of(container: av.container.InputContainer) -> float:
    """Seconds from its start to its end; 0 where it does not say.  Matroska counts from 0, wherever its start is."""
    duration, start = container.duration or 0, container.start_time or 0
    if Flags(container.format.flags) & Flags.ts_discont and 0 < container.bit_rate < _LEAST_BIT_RATE:
        return 0.0  # the difference of two timestamps between which the clock has leapt
    if container.format.name.startswith("matroska") and 0 < start < duration:
        duration -= start
    return duration / av.time_base


def _is_side_stream(stream: Any) -> bool:
    """Whether it can be copied: a track of data without a codec's name has no sample entry that a muxer could write."""
    if stream.type in ("audio", "subtitle"):
        return stream.codec_context is not None
    return stream.type == "attachment" or (stream.type == "data" and bool(stream.name))


def _rate(container: av.container.InputContainer, stream: Any, options: SourceOptions) -> Fraction | None:
    """Nominal frames a second; a raw stream's is what its headers say, not FFmpeg's 25."""
    if Flags(container.format.flags) & Flags.no_timestamps:
        if options.input_rate:
            return Fraction(options.input_rate).limit_denominator(1001)
        if 0 < (stream.codec_context.framerate or 0) <= _HIGHEST_RATE:
            return Fraction(stream.codec_context.framerate)
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return next((Fraction(rate) for rate in rates if rate and 0 < rate <= _HIGHEST_RATE), None)


def _left_out(container: av.container.InputContainer, video: Any, side_streams: tuple[Any, ...]) -> list[str]:
    """Streams that no output gets."""
    notes = []
    for stream in container.streams:
        if stream is video or stream in side_streams:
            continue
        if stream.type == "video":
            if stream.disposition & Disposition.attached_pic:
                continue
            notes.append(f"its video stream {stream.index}: only the largest one is enhanced")
        elif stream.type == "data" and stream.metadata.get("timecode"):
            notes.append(f"its timecode track (stream {stream.index}): only its first value is kept, as metadata")
        else:
            notes.append(f"its {stream.type} stream {stream.index}: of a kind that cannot be copied")
    return notes


def notes_on(image: av.VideoFrame) -> list[str]:
    """What of the first frame, as decoded, is in no output."""
    notes = []
    if found := [words for name, words in _HDR.items() if _has(image, name)]:
        notes.append(f"its HDR metadata ({', '.join(found)}): the pixels keep their transfer and primaries")
    if image.interlaced_frame:
        notes.append("interlacing: it is encoded as progressive frames")
    if _is_transparent(image):
        notes.append("its transparency")
    if unusable := unusable_matrix(image):
        notes.append(f"its colour matrix {unusable}: it is treated as untagged")
    return notes


def _has(image: av.VideoFrame, side_data: str) -> bool:
    try:
        return image.side_data.get(side_data) is not None
    except (ValueError, KeyError):  # a kind that this PyAV has no name for
        return False


def _is_transparent(image: av.VideoFrame) -> bool:
    name = image.format.name
    if name.startswith("yuva") and name in LAYOUTS:
        return bool(planes.samples(image, 3).min() < 255)
    return name in _ALPHA and bool(planes.samples(image, 0)[:, _ALPHA[name] :: 4].min() < 255)


def claimed_size(head: bytes) -> tuple[int, int] | None:
    """Width and height that an image file's ``head`` gives, for the common kinds; None for others."""
    match head[:2]:
        case b"\x89P" if len(head) >= 24:  # PNG
            return struct.unpack(">II", head[16:24])
        case b"GI" if len(head) >= 10:
            return struct.unpack("<HH", head[6:10])
        case b"BM" if len(head) >= 26:
            width, height = struct.unpack("<ii", head[18:26])
            return width, abs(height)  # negative: top to bottom
    if numbers := re.match(rb"P[1-6]\s+(?:#[^\n]*\s+)*(\d+)\s+(\d+)", head[:4096]):  # PBM, PGM, PPM
        return int(numbers[1]), int(numbers[2])
    return None


def refuse_size(name: str, width: int, height: int, options: SourceOptions) -> None:
    """Check that frames of ``width`` x ``height`` pixels are not above the limit.

    Raises:
        SourceError: they are.
    """
    if width * height > options.max_pixels:
        raise SourceError(
            f"{name}: its frames of {width}x{height} are {width * height / 1e6:.3g} megapixels, above the limit of "
            f"{options.max_megapixels:g}; raise it with source.max_megapixels"
        )


def limit_decoder(name: str, context: Any, options: SourceOptions) -> None:
    """Have ``context`` refuse frames above the limit before it allocates them.

    Raises:
        SourceError: the container says already that they are.
    """
    refuse_size(name, context.width, context.height, options)
    context.options = {**context.options, "max_pixels": str(options.max_pixels)}
