"""Frames in, encoded packets out: one encoder for any number of outputs.

Timestamps, time base, colour tags, pixel aspect and rotation are the source's own.  Key frames are forced by the
frames' time rather than by their number, so that a kill costs the same seconds at any rate.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import av.container
import numpy as np
from av.codec.hwaccel import HWAccel
from av.video.reformatter import ColorRange

from ..errors import OutputError
from ..imaging import planes
from ..imaging.frames import to_host
from ..imaging.planes import LAYOUTS, Layout, layout_of
from ..types import Frame, Rendered, StreamInfo
from .codecs import Encoding, choose_encoder, ordinary_thread, pixel_format, software_of, warn_of_software

log = logging.getLogger(__name__)

_SWSCALE = {6: 5}  # AVColorSpace to swscale's own number, where they differ: BT.601
_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")
_LONGEST = 600  # frames between key frames, whatever their times say
_FEWEST = 12  # frames between forced key frames of a recording: a time-lapse would be nothing but key frames


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """An encoded frame, apart from any container."""

    data: av.Packet[Any]  # its bytes alone are read: it is shared by all outputs
    pts: int
    dts: int
    duration: int  # 0 where unknown
    time_base: Fraction  # seconds a tick
    key: bool
    serial: int  # counts packets; a gap means that some were lost
    wall_time: float  # seconds since the epoch, when its frame was captured
    until_end: int = 0  # ticks from its dts to the end of the last frame shown; of the last packet only

    @property
    def seconds(self) -> Fraction:
        """Presentation time."""
        return self.pts * self.time_base

    def packet(self, stream: Any, offset: int = 0, adds_up: bool = False) -> av.Packet[Any]:
        """A packet of the output's ``stream``, ``offset`` ticks earlier.

        Args:
            adds_up: the container adds up decoding times, as MP4: it ends where the last packet in their order does.
        """
        packet: av.Packet[Any] = av.Packet(self.data)  # type: ignore[arg-type]  # any buffer
        packet.pts, packet.dts = self.pts - offset, self.dts - offset
        packet.duration = max(self.duration, self.until_end) if adds_up else self.duration
        packet.time_base, packet.is_keyframe, packet.stream = self.time_base, self.key, stream
        return packet


@dataclass(frozen=True, slots=True)
class EncodedStream:
    """What a muxer needs to know before the first packet."""

    template: Any  # av.VideoStream of the open encoder
    time_base: Fraction
    rate: Fraction  # nominal frames a second
    info: StreamInfo  # of the source
    metadata: Mapping[str, str]  # for a container's head

    def add_to(self, container: Any) -> Any:
        """This stream, added to a container that nothing was written to."""
        stream = container.add_stream_from_template(self.template)
        stream.time_base = self.time_base
        if self.info.streams:
            stream.disposition = self.info.streams[self.info.video_index].disposition
        return stream


class NullFile:
    """A file that keeps nothing: an encoder's stream needs a container to be in."""

    def write(self, data: bytes) -> int:
        """Discard ``data``."""
        return len(data)


class Encoder:
    """Encodes the frames of one stream.

    Args:
        encoding: how.
        comment: container metadata that says what was changed.

    Raises:
        SinkError: the named hardware's encoder does not start here.
    """

    def __init__(self, encoding: Encoding, comment: str) -> None:
        self._encoding, self._comment = encoding, comment
        self._name = choose_encoder(encoding.codec, encoding.hardware)
        self._info = StreamInfo()  # the first frame's
        self.frames = 0  # sent to the encoder
        self._serial = 0
        self._begin: tuple[int, int] | None = None  # pts and dts of the first packet
        self._end = 0  # ticks, of the last frame shown
        self._inside: dict[int, tuple[float, int]] = {}  # wall time and duration of frames in the encoder, by pts
        self._origin = Fraction(0)  # seconds, the first frame's time
        self._key = 0, 0  # the latest forced key frame's place in the grid of times, and its frame's number

    def open(self, first: Rendered) -> EncodedStream:
        """Open the encoder for frames like ``first``.

        Raises:
            OutputError: it does not take them.
        """
        frame = first.enhanced.scene.frame
        self._info, self._origin = frame.stream, frame.pts * frame.time_base
        try:
            self._start(first)
        except av.FFmpegError as error:
            software = software_of(self._name)
            if not software:
                raise OutputError(f"{self._name}: does not take these frames ({error.strerror})") from None
            warn_of_software(self._name, software)
            self._name = software
            return self.open(first)
        kept = {k: v for k, v in self._info.metadata.items() if k.lower() not in _OF_ITS_FILE}
        rate = self._info.rate or Fraction(25)
        return EncodedStream(self._stream, frame.time_base, rate, self._info, {**kept, "comment": self._comment})

    def _start(self, first: Rendered) -> None:
        # Matroska's kind has the encoder keep headers apart, which every container takes
        self._container = av.open(NullFile(), "w", format="matroska")
        self._stream = self._opened(first)
        with ordinary_thread():
            self._stream.codec_context.open(strict=False)
        self._container.start_encoding()

    def encode(self, image: av.VideoFrame | None, frame: Frame | None = None) -> list[EncodedPacket]:
        """The packets that are ready once ``image``, made of ``frame``, went in; with None, all that are left.

        Raises:
            OutputError: the encoder failed.
        """
        if image is not None and frame is not None:
            image = self._fitted(image)
            self._inside[image.pts or 0] = frame.wall_time, frame.image.duration or 0
            self._force_key_frame(image, frame)
            self.frames += 1
        try:
            packets: list[Any] = self._stream.encode(image)
        except av.FFmpegError as error:
            raise OutputError(f"{self._name}: failed at frame {self.frames} ({error.strerror})") from None
        if image is None and self.frames < 3 and self._name == "libx265":
            for packet in packets:  # of so few it gives as dts whatever lay in memory, which crashes the MP4 muxer
                packet.dts = packet.pts
        made = [self._apart(packet) for packet in packets]
        if image is None and made and self._begin:
            rest = (self._end - self._begin[0]) - (made[-1].dts - self._begin[1])
            made[-1] = replace(made[-1], until_end=rest)
        return made

    def _apart(self, packet: av.Packet[Any]) -> EncodedPacket:
        assert packet.pts is not None
        assert packet.dts is not None
        wall, duration = self._inside.pop(packet.pts, (0.0, 0))
        self._serial += 1
        key = bool(packet.is_keyframe)
        duration = duration or packet.duration or 0  # the source says best how long it is shown
        self._begin = self._begin or (packet.pts, packet.dts)
        self._end = max(self._end, packet.pts + duration)
        return EncodedPacket(packet, packet.pts, packet.dts, duration, packet.time_base, key, self._serial - 1, wall)

    def _force_key_frame(self, image: av.VideoFrame, frame: Frame) -> None:
        """Have a key frame made of the first frame in each interval of the stream's time."""
        image.pict_type = 0  # the source's own choice of key frames is not the encoder's
        if not self._encoding.key_seconds:
            return
        half = 1 / (2 * (self._info.rate or Fraction(25)))  # of a frame: times are rounded
        place = math.floor((frame.pts * frame.time_base - self._origin + half) / Fraction(self._encoding.key_seconds))
        apart = 1 if self._encoding.live or self._encoding.exact_keys else _FEWEST
        if place != self._key[0] and self.frames - self._key[1] >= apart:
            image.pict_type = 1  # AV_PICTURE_TYPE_I
            self._key = place, self.frames

    def _opened(self, first: Rendered) -> Any:
        image, frame, encoding = first.image, first.enhanced.scene.frame, self._encoding
        rate = self._info.rate or Fraction(25)
        self._on_device = image.sw_format is not None and self._name.endswith("_nvenc")
        given: dict[str, Any] = {"hwaccel": HWAccel("cuda", is_hw_owned=True)} if self._on_device else {}
        if image.sw_format and not self._on_device:
            log.info("%s: each frame is copied from the GPU to the host for %s", self._info.name, self._name)
        stream: Any = self._container.add_stream(self._name, rate=rate, options=self._options(), **given)
        context = stream.codec_context
        form = (image.sw_format or image.format).name
        if self._info.stills and LAYOUTS[form].kind == "gray":
            form = "yuv420p"  # the next may have colour
        context.pix_fmt = pixel_format(context.codec, form, encoding.pixel_format)
        self._shown = image.width, image.height
        self._coded = stream.width, stream.height = _whole(self._shown, LAYOUTS[context.pix_fmt])
        if self._coded != self._shown:
            log.info("%s: padded to %dx%d, as its pixel format has no odd sides", self._info.name, *self._coded)
        context.time_base = stream.time_base = frame.time_base
        context.framerate = rate
        context.thread_count = encoding.threads
        if aspect := self._info.pixel_aspect:
            context.sample_aspect_ratio = 1 / aspect if frame.turned else aspect
        _tag(context, image)
        if encoding.key_seconds:
            context.gop_size = min(max(_FEWEST, round(encoding.key_seconds * rate)), _LONGEST)
        if encoding.live:
            context.max_b_frames = 0
        if frame.rotation:
            stream.set_display_rotation(frame.rotation)
        return stream

    def _options(self) -> dict[str, str]:
        encoding, crf = self._encoding, str(self._encoding.crf)
        options = {"profile": encoding.profile} if encoding.profile else {}
        match self._name:
            case "h264_nvenc" | "hevc_nvenc" | "av1_nvenc":
                options |= {"cq": crf, "preset": "p4", "tune": "ull" if encoding.live else "hq", "forced-idr": "1"}
            case "h264_qsv" | "hevc_qsv" | "av1_qsv":
                options |= {"global_quality": crf} | ({} if "av1" in self._name else {"forced_idr": "1"})
            case "libsvtav1":
                options |= {"crf": str(round(encoding.crf * 63 / 51)), "preset": "10"}
            case _:
                options |= {"crf": crf, "preset": encoding.preset, "forced-idr": "1"}
                options |= {"tune": "zerolatency"} if encoding.live else {}
        if self._name == "libx265":  # frames before an open group's key frame, in time, need what another segment holds
            options["x265-params"] = "log-level=error:open-gop=0"
        return options

    def _fitted(self, image: av.VideoFrame) -> av.VideoFrame:
        """``image`` in the size and format that the encoder was opened with."""
        if self._on_device:
            return image
        image = to_host(image)
        context = self._stream.codec_context
        pts, time_base, duration, form = image.pts, image.time_base, image.duration, context.pix_fmt
        if (image.width, image.height) != self._shown or image.format.name != form:
            matrix, extent = int(context.colorspace), int(context.color_range)
            if _is_rgb(image):  # the encoder may have been opened with frames that had no tags
                matrix, extent = _usual_matrix(image) if matrix == 2 else matrix, extent or ColorRange.MPEG
            matrix = _SWSCALE.get(matrix, matrix)
            image = image.reformat(*self._shown, form, dst_colorspace=matrix, dst_color_range=extent)
        if self._shown != self._coded:
            image = _padded(image, *self._coded)
        image.pts, image.time_base, image.duration = pts, time_base, duration
        return image


_OF_ITS_FILE = ("encoder", "major_brand", "minor_version", "compatible_brands")  # metadata


def _tag(context: Any, image: av.VideoFrame) -> None:
    """Give the encoder the colour tags of ``image``, or those of what RGB and grey are coded as."""
    for tag in _TAGS:
        setattr(context, tag, getattr(image, tag))
    if (rgb := _is_rgb(image)) or int(image.colorspace) == 0:  # what is coded has a matrix, RGB and grey have none
        context.colorspace = _usual_matrix(image)
    if rgb:  # sRGB where nothing is said: Chromium takes AV1's matrix for BT.601 where the rest is left open
        context.color_range = ColorRange.MPEG
        context.color_primaries = 1 if int(image.color_primaries) == 2 else image.color_primaries
        context.color_trc = 13 if int(image.color_trc) == 2 else image.color_trc


def _is_rgb(image: av.VideoFrame) -> bool:
    return layout_of(image).kind in ("rgb", "gbr")


def _usual_matrix(image: av.VideoFrame) -> int:
    """AVColorSpace number of the matrix that players expect at this size."""
    return 1 if image.height >= 720 else 6


def _whole(size: tuple[int, int], layout: Layout) -> tuple[int, int]:
    """``size`` grown to whole chroma samples: encoders take no others."""
    return tuple(-(-side >> shift) << shift for side, shift in zip(size, (layout.sx, layout.sy), strict=True))  # type: ignore[return-value]


def _padded(image: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """``image`` grown to ``width`` x ``height``, its last column and row repeated."""
    large = av.VideoFrame(width, height, image.format.name)
    for tag in _TAGS:
        setattr(large, tag, getattr(image, tag))
    for i in range(len(image.planes)):
        small, plane = planes.samples(image, i), planes.samples(large, i)
        plane[:] = np.pad(small, [(0, plane.shape[axis] - small.shape[axis]) for axis in (0, 1)], mode="edge")
    return large
