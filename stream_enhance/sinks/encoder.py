"""Frames out: encoded once by PyAV and muxed, with the other streams' packets copied beside them.

A file is written under a temporary name in a form that is playable at every moment (MP4 whose index is only moved to
one place at the end, or Matroska), and renamed when it is finished.  Timestamps, time base, colour tags, pixel aspect
and rotation are the source's own.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Generator, Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.container
import numpy as np
from av.video.reformatter import ColorRange

from ..errors import SinkError
from ..imaging import planes
from ..imaging.planes import LAYOUTS, Layout
from ..sources.image_folder import ImageFolderSink
from ..stages.overlay import Rendered
from ..types import StreamInfo
from .codecs import Encoding, choose_encoder, ordinary_thread, pixel_format
from .passthrough import Passthrough
from .target import FORMATS, file_to_write, part_to_write, push_target

log = logging.getLogger(__name__)

_MP4 = {".mp4", ".m4v", ".mov"}
_SWSCALE = {6: 5}  # AVColorSpace to swscale's own number, where they differ: BT.601
_AT_RISK = 2  # seconds of video that a kill may cost


def open_sink(spec: str, encoding: Encoding, comment: str, overwrite: bool = False) -> Sink:
    """The sink that ``spec`` names.

    Args:
        spec: a video file, a folder for images (ends in / or is there already), ``-`` for MPEG-TS on standard output,
            or a URL to push to.
        encoding: how to encode.
        comment: container metadata that says what was changed.
        overwrite: replace a file that is there.

    Raises:
        SinkError: unknown kind of file, it is there already, or its folder cannot be written.
    """
    if spec == "-":
        return VideoSink("pipe:1", encoding, comment, form="mpegts")
    if "://" in spec:
        return _push(spec, encoding, comment)
    path = Path(spec)
    if spec.endswith(("/", os.sep)) or path.is_dir():
        return ImageFolderSink(path, overwrite, comment)
    path = file_to_write(spec, overwrite)
    form = FORMATS[path.suffix.lower()]
    return VideoSink(str(part_to_write(path, overwrite)), encoding, comment, form=form, final=path)


def _push(spec: str, encoding: Encoding, comment: str) -> VideoSink:
    form, url, name = push_target(spec)
    return VideoSink(url, encoding, comment, form=form, name=name)


def label(container: av.container.OutputContainer, metadata: dict[str, str]) -> None:
    """Have ``metadata`` written at the container's head; MPEG-TS takes it as its service's provider."""
    container.metadata.update(metadata)
    if container.format.name == "mpegts":
        container.metadata["service_provider"] = metadata["comment"][:200]


class Sink(Protocol):
    """A stage that writes frames and yields them on; ``finish`` after the line has ended."""

    name: str
    takes_side_packets: bool  # whether the source's other streams are of use to it
    upright: bool  # whether it wants frames turned as a player would show them

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]: ...

    def finish(self) -> None:
        """Make what was written the finished output."""

    def outputs(self) -> list[dict[str, Any]] | None:
        """What each output got, for the report; None where there is one and nothing is counted."""
        ...


class VideoSink:
    """One encode, one container."""

    takes_side_packets = True
    upright = False

    def __init__(
        self,
        url: str,
        encoding: Encoding,
        comment: str,
        form: str,
        final: Path | None = None,
        name: str = "",
    ) -> None:
        self.name = name or (str(final) if final else url)
        self._url, self._form, self._final = url, form, final
        self._encoding, self._comment = encoding, comment
        self._info = StreamInfo()  # the first frame's
        self._encoder = choose_encoder(encoding.codec, encoding.hardware)
        self._written = False
        self._sent = 0  # frames, to the encoder

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        container: av.container.OutputContainer | None = None
        try:
            for item in items:
                if container is None:
                    container = self._open(item)
                self._mux(container, self._encoded(self._fitted(item.image)))
                self._copies.write(item.enhanced.scene.frame.side_packets)
                yield item
            if container is not None:
                self._mux(container, self._encoded(None))
                self._copies.end()
        except av.FFmpegError as error:
            if container is not None:
                with suppress(av.FFmpegError):  # the first error is the one to tell
                    container.close()
                container = None
            raise self._told(error) from None
        finally:
            if container is not None:
                try:
                    container.close()
                except av.FFmpegError as error:
                    raise self._told(error) from None

    def finish(self) -> None:
        """Rename the finished file to its name."""
        if self._final is not None and self._written:
            os.replace(self._url, self._final)

    def outputs(self) -> list[dict[str, Any]] | None:
        """It is the report's own frames."""
        return None

    def _told(self, error: av.FFmpegError) -> SinkError:
        kept = f"; what was written is in {self._url}" if self._final and self._written else ""
        cure = ", free some space and run again" if error.errno == errno.ENOSPC else ""
        return SinkError(f"{self.name}: cannot be written ({error.strerror}){cure}{kept}")

    def _open(self, first: Rendered) -> av.container.OutputContainer:
        self._info = first.enhanced.scene.frame.stream
        options = {"flush_packets": "1"}  # what is muxed is in the file, not in this process
        if self._form in ("mp4", "mov"):
            options |= {"movflags": "+hybrid_fragmented+frag_keyframe", "video_track_timescale": self._timescale(first)}
            options |= {"min_frag_duration": "1000000", "avoid_negative_ts": "disabled"}
        if self._form == "mpegts":  # so that a player need not wait for the next frame to know that this one is whole
            options |= {"omit_video_pes_length": "0"}
        if self._form == "matroska":
            options |= {"cluster_time_limit": "1000", "avoid_negative_ts": "disabled"}
        url = self._url if self._final is None else f"file:{self._url}"  # as a colon in its name is no protocol's
        container = av.open(url, "w", format=self._form, options=options)
        self._written = True
        try:
            self._add_video(container, first)
            with ordinary_thread():
                self._stream.codec_context.open(strict=False)
            self._copies = Passthrough(container, self._info, self.name)
        except BaseException:
            container.close()
            raise
        label(container, self._metadata())
        return container

    def _metadata(self) -> dict[str, str]:
        """The source's own, and what was changed."""
        of_its_file = ("encoder", "major_brand", "minor_version", "compatible_brands")
        kept = {key: value for key, value in self._info.metadata.items() if key.lower() not in of_its_file}
        return {**kept, "comment": self._comment}

    @staticmethod
    def _timescale(first: Rendered) -> str:
        base = first.enhanced.scene.frame.time_base
        return str(base.denominator if base.numerator == 1 else 90_000)

    def _add_video(self, container: av.container.OutputContainer, first: Rendered) -> None:
        image, frame, encoding = first.image, first.enhanced.scene.frame, self._encoding
        rate = self._info.rate or Fraction(25)
        stream: Any = container.add_stream(self._encoder, rate=rate, options=self._options())
        context = stream.codec_context
        form = image.format.name
        if self._info.stills and LAYOUTS[form].kind == "gray":
            form = "yuv420p"  # the next may have colour
        context.pix_fmt = pixel_format(context.codec, form, encoding.pixel_format)
        self._shown = image.width, image.height
        self._coded = stream.width, stream.height = _whole(self._shown, LAYOUTS[context.pix_fmt])
        if self._coded != self._shown:
            log.info("%s: padded to %dx%d, as its pixel format has no odd sides", self.name, *self._coded)
        context.time_base = stream.time_base = frame.time_base
        context.framerate = rate
        context.thread_count = encoding.threads
        if aspect := self._info.pixel_aspect:
            context.sample_aspect_ratio = 1 / aspect if frame.turned else aspect
        for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(context, tag, getattr(image, tag))
        if (rgb := _is_rgb(image)) or int(image.colorspace) == 0:  # what is coded has a matrix, RGB and grey have none
            context.colorspace = _usual_matrix(image)
        if rgb:  # sRGB where nothing is said: Chromium takes AV1's matrix for BT.601 where the rest is left open
            context.color_range = ColorRange.MPEG
            context.color_primaries = 1 if int(image.color_primaries) == 2 else image.color_primaries
            context.color_trc = 13 if int(image.color_trc) == 2 else image.color_trc
        if encoding.gop:
            context.gop_size = encoding.gop
        elif self._form in ("mp4", "mov"):  # cut elsewhere than at key frames, FFmpeg's edit list may lose the last one
            context.gop_size = min(max(12, round(_AT_RISK * rate)), 600)
        elif encoding.live:
            context.gop_size = max(1, round(2 * rate))  # who joins has a frame within two seconds
        if encoding.live:
            context.max_b_frames = 0
        if frame.rotation:
            stream.set_display_rotation(frame.rotation)
        self._stream = stream

    def _options(self) -> dict[str, str]:
        profile = {"profile": self._encoding.profile} if self._encoding.profile else {}
        return {**self._quality(), **profile}

    def _quality(self) -> dict[str, str]:
        encoding, crf = self._encoding, str(self._encoding.crf)
        if self._encoder.endswith("nvenc"):
            return {"cq": crf, "preset": "p4", "tune": "ull" if encoding.live else "hq"}
        if self._encoder.endswith("qsv"):
            return {"global_quality": crf}
        if self._encoder == "libsvtav1":
            return {"crf": str(round(encoding.crf * 63 / 51)), "preset": "10"}
        options = {"crf": crf, "preset": encoding.preset}
        if encoding.live:
            options["tune"] = "zerolatency"
        if self._encoder == "libx265":
            options["x265-params"] = "log-level=error"
        return options

    def _fitted(self, image: av.VideoFrame) -> av.VideoFrame:
        """``image`` in the size and format that the encoder was opened with."""
        context = self._stream.codec_context
        pts, time_base, form = image.pts, image.time_base, context.pix_fmt
        if (image.width, image.height) != self._shown or image.format.name != form:
            matrix, extent = int(context.colorspace), int(context.color_range)
            if _is_rgb(image):  # the encoder may have been opened with frames that had no tags
                matrix, extent = _usual_matrix(image) if matrix == 2 else matrix, extent or ColorRange.MPEG
            matrix = _SWSCALE.get(matrix, matrix)
            image = image.reformat(*self._shown, form, dst_colorspace=matrix, dst_color_range=extent)
        if self._shown != self._coded:
            image = _padded(image, *self._coded)
        image.pts, image.time_base = pts, time_base
        image.pict_type = 0  # the source's own choice of key frames is not the encoder's
        return image

    def _encoded(self, image: av.VideoFrame | None) -> list[Any]:
        packets: list[Any] = self._stream.encode(image)
        self._sent += image is not None
        if image is None and self._sent < 3 and self._encoder == "libx265":
            for packet in packets:  # of so few it gives as dts whatever lay in memory, which crashes the MP4 muxer
                packet.dts = packet.pts
        return packets

    def _mux(self, container: av.container.OutputContainer, packets: list[Any]) -> None:
        for packet in packets:
            container.mux(packet)


def _is_rgb(image: av.VideoFrame) -> bool:
    return LAYOUTS[image.format.name].kind in ("rgb", "gbr")


def _usual_matrix(image: av.VideoFrame) -> int:
    """AVColorSpace number of the matrix that players expect at this size."""
    return 1 if image.height >= 720 else 6


def _whole(size: tuple[int, int], layout: Layout) -> tuple[int, int]:
    """``size`` grown to whole chroma samples: encoders take no others."""
    return tuple(-(-side >> shift) << shift for side, shift in zip(size, (layout.sx, layout.sy), strict=True))  # type: ignore[return-value]


def _padded(image: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """``image`` grown to ``width`` x ``height``, its last column and row repeated."""
    large = av.VideoFrame(width, height, image.format.name)
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(large, tag, getattr(image, tag))
    for i in range(len(image.planes)):
        small, plane = planes.samples(image, i), planes.samples(large, i)
        plane[:] = np.pad(small, [(0, plane.shape[axis] - small.shape[axis]) for axis in (0, 1)], mode="edge")
    return large
