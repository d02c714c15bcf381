"""Frames in: a file, a folder of images, a pipe, a webcam or a camera's URL, decoded by PyAV.

Out come ``Frame``s in the decoder's own pixel format with strictly increasing timestamps.  Packets of the other
streams (sound, subtitles, data) are put aside in ``packets`` for the sink to copy.  Damaged packets are counted, not
fatal.  A source is opened before anything is written, so that bad input costs nothing.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import av
import av.container
import av.filter
from av.codec.codec import find_best_pix_fmt_of_list
from pydantic import Field

from ..errors import SourceError, redact
from ..imaging.planes import LAYOUTS
from ..options import Options
from ..types import Frame, StreamInfo
from .base import Source, SourceStatus

if TYPE_CHECKING:
    from ..config import Config
    from .camera import LiveOptions

log = logging.getLogger(__name__)

SCHEMES = {"rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt"}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv"}
VIDEOS |= {".asf", ".flv", ".ogv", ".3gp", ".mxf", ".dav", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"}
VIDEOS |= {".gif", ".y4m", ".nut", ".rm", ".f4v", ".dv"}
_NATIVE = sorted(LAYOUTS)
_JUMP = 1.0  # seconds: a timestamp that falls back by less is a stutter, by more a new clock
_SILENT = 30.0  # seconds without a byte from a web server until it is given up
_SHORT = 0.5  # seconds missing at the end that are worth a warning


class SourceOptions(Options):
    """How recordings are read."""

    rate: float = Field(default=25.0, gt=0, le=1000, description="Frames a second of a folder of images.")


def open_source(spec: str, rate: float = 25.0, live: LiveOptions | None = None) -> Source:
    """The source that ``spec`` names.

    Args:
        spec: a file, a folder of images, ``-`` (a pipe, MPEG-TS for one), ``webcam:N`` or /dev/videoN, or a URL; in
            a URL ``{NAME}`` stands for the environment variable NAME.
        rate: frames a second for a folder of images.
        live: how to hold on to a camera.

    Raises:
        SourceError: nothing there, nothing in it, or nothing that can be decoded.  A camera is connected to in the
            background: its ``ready`` raises.
    """
    from .camera import CameraSource
    from .image_folder import ImageFolder

    if spec == "-":
        return VideoSource("pipe:0", name="standard input")
    if "://" in spec:
        url = with_environment(spec)
        scheme = url.split("://", 1)[0].lower()
        if scheme not in SCHEMES:
            raise SourceError(f"{redact(spec)}: unknown scheme {scheme!r}; use one of {', '.join(sorted(SCHEMES))}")
        if scheme in ("http", "https") and Path(urlsplit(url).path).suffix.lower() in VIDEOS - {".mjpg", ".mjpeg"}:
            return _recording(url, redact(spec))
        return CameraSource(url, redact(spec), live)
    if match := re.fullmatch(r"webcam:(\d+)|/dev/video(\d+)", spec):
        return _webcam(int(match[1] or match[2]), live)
    path = Path(spec)
    if path.is_dir():
        return ImageFolder(path, rate)
    if not path.exists():
        raise SourceError(f"{spec}: no such file")
    return VideoSource(f"file:{path}", name=spec)


def open_with(config: Config, spec: str) -> Source:
    """The source of that name, as ``config`` would have it; see ``open_source``."""
    return open_source(spec, config.source.rate, config.live)


def with_environment(url: str) -> str:
    """``url`` with every ``{NAME}`` replaced by that environment variable.

    A user name or password is given as it is, not percent-encoded: what a URL cannot hold is encoded here.

    Raises:
        SourceError: a variable is not set, or there is a space in the URL.
    """
    if re.search(r"\s", url):  # not shown: it may be in a password
        raise SourceError(f"{url.split('://')[0]}://***: has a space in it; write %20")
    begin = url.find("://") + 3
    end = begin + url[begin:].partition("/")[0].rfind("@")

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SourceError(f"{redact(url)}: the environment variable {match[1]} is not set")
        given = os.environ[match[1]]
        return quote(given, safe="@:!$&'()*+,;=") if begin <= match.start() < end else given

    return re.sub(r"\{(\w+)\}", value, url)


def _recording(url: str, name: str) -> VideoSource:
    """Opened in another thread: FFmpeg in the main thread would keep signals from being heard."""
    opened: Future[VideoSource] = Future()

    def open_it() -> None:
        try:
            opened.set_result(VideoSource(url, name, _SILENT))
        except BaseException as error:
            opened.set_exception(error)

    threading.Thread(target=open_it, name="opening", daemon=True).start()
    return opened.result()


def _webcam(number: int, live: LiveOptions | None) -> Source:
    from .camera import CameraSource

    name, form = {
        "linux": (f"/dev/video{number}", "v4l2"),
        "darwin": (str(number), "avfoundation"),
        "win32": (f"video={number}", "dshow"),
    }.get(sys.platform, (f"/dev/video{number}", "v4l2"))
    if form == "v4l2" and not Path(name).exists():
        raise SourceError(f"{name}: no such webcam")
    return CameraSource(name, f"webcam {number}", live, form)


class VideoSource:
    """A recording with a video stream, from a file, a pipe or a web server.

    Args:
        url: FFmpeg's.
        name: fit to be shown.
        patience: seconds without a byte from a server until it is given up; 0 for ever.

    Raises:
        SourceError: it cannot be opened, or holds no video stream.
    """

    def __init__(self, url: str, name: str, patience: float = 0) -> None:
        self.name = name
        self.started = time.monotonic()
        self._corrupt = 0
        self._reached = 0.0  # seconds, the end of the latest packet
        self._stopping = threading.Event()
        try:
            self._container = av.open(url, "r", options={"rw_timeout": f"{patience * 1e6:.0f}"} if patience else {})
        except av.error.TimeoutError:
            raise SourceError(
                f"{name}: no answer within {patience:g} s; can the server be reached from here?"
            ) from None
        except (av.FFmpegError, ValueError) as error:  # str(error) would show the URL, password and all
            reason = error.strerror if isinstance(error, av.FFmpegError) else type(error).__name__
            cure = "is it a video?" if isinstance(error, av.error.InvalidDataError) else "is it there and readable?"
            raise SourceError(f"{name}: cannot be opened ({reason}); {cure}") from None
        frames = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not frames:
            self.close()
            raise SourceError(f"{name}: holds no video stream")
        self._stream = max(frames, key=lambda s: (s.width or 0) * (s.height or 0))
        if self._stream.codec_context is None:
            self.close()
            raise SourceError(f"{name}: no decoder for its video codec in this FFmpeg")
        side_streams = tuple(
            s
            for s in self._container.streams
            if (s.type in ("audio", "subtitle") and s.codec_context is not None) or s.type in ("data", "attachment")
        )
        rate = self._stream.average_rate or self._stream.guessed_rate or self._stream.base_rate
        frame_count = self._stream.frames or 0
        if not frame_count and self._container.duration and rate:
            frame_count = round(self._container.duration / av.time_base * rate)
        self._info = StreamInfo(
            name=name,
            rate=rate,
            pixel_aspect=self._stream.sample_aspect_ratio,
            metadata=dict(self._container.metadata),
            chapters=tuple(self._container.chapters()),
            side_streams=side_streams,
            frame_count=frame_count,
            stills=frame_count == 1,
        )
        self._stream.thread_type = "AUTO"
        self._time_base = self._stream.time_base or Fraction(1, 90_000)

    @property
    def container(self) -> av.container.InputContainer:
        return self._container

    @property
    def stream(self) -> av.VideoStream:
        return self._stream

    @property
    def info(self) -> StreamInfo:
        return self._info

    def status(self) -> SourceStatus:
        return SourceStatus(corrupt=self._corrupt)

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """It was opened by the constructor."""

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        self._container.close()

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """Every frame that can be decoded, in order.

        A frame is held back until the next one is there, so that the last one carries every packet that is left.

        Raises:
            SourceError: there was not one.
        """
        clock = _Clock(self._time_base, self._info.rate)
        held: Frame | None = None
        index, before, packets = 0, [], []  # type: int, list[Any], list[Any]
        for packet in self._demuxed(self._info.side_streams if side_packets else ()):
            if packet.stream is not self._stream:
                if packet.dts is not None:
                    clock.move(packet)
                    packets.append(packet)
                continue
            for image in self._decoded(packet):
                if held is not None:
                    yield replace(held, side_packets=tuple(before))
                held, before, packets = self._frame(image, index, clock), packets, []
                index += 1
            if self._stopping.is_set():
                break
        if held is None:
            raise SourceError(f"{self.name}: not one frame could be decoded; is the file complete?")
        yield replace(held, side_packets=(*before, *packets))
        if self._corrupt:
            log.warning("%s: %d damaged packets were passed over", self.name, self._corrupt)
        if (missing := self._missing()) > _SHORT:
            log.warning("%s: ends %.1f s before the length that its header gives; was it cut off?", self.name, missing)

    def _missing(self) -> float:
        """Seconds by which the last packet ends before the container says it would."""
        if not self._container.duration:
            return 0.0
        end = ((self._container.start_time or 0) + self._container.duration) / av.time_base
        return end - self._reached

    def _frame(self, image: av.VideoFrame, index: int, clock: _Clock) -> Frame:
        rotation = round(image.rotation) % 360
        image = native(image)
        pts = clock.next(image.pts)
        image.pts, image.time_base = pts, self._time_base
        now = time.monotonic(), time.time()
        return Frame(image, index, pts, self._time_base, *now, rotation, stream=self._info)

    def _demuxed(self, side_streams: tuple[Any, ...]) -> Iterator[av.Packet[Any]]:
        """Packets to the end of the file; a read error is counted and reading goes on where it can."""
        wanted = [self._stream, *side_streams]
        failures = 0
        while True:
            try:
                for packet in self._container.demux(wanted):
                    failures = 0
                    if packet.is_corrupt:
                        self._corrupt += 1
                    if packet.pts is not None:
                        self._reached = max(
                            self._reached, float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        )
                    yield packet
                return
            except av.error.EOFError:
                return
            except IndexError:  # at the end, PyAV's own flushing stumbles over a stream that a damaged file grew midway
                yield from self._flushing()
                return
            except av.FFmpegError as error:
                self._corrupt += 1
                failures += 1
                if failures > 50:
                    log.warning("%s: reading ended early (%s)", self.name, error.strerror)
                    yield from self._flushing()
                    return

    def _flushing(self) -> Iterator[av.Packet[Any]]:
        packet: av.Packet[Any] = av.Packet()
        packet.stream = self._stream
        yield packet

    def _decoded(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            return self._stream.decode(packet if packet.size else None)
        except av.error.EOFError:  # flushed twice
            return []
        except av.FFmpegError:
            self._corrupt += 1
            return []


def native(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` in its own format, or in the nearest whose planes can be read and changed."""
    if image.format.name in LAYOUTS:
        return image
    nearest = find_best_pix_fmt_of_list(_NATIVE, image.format.name)[0]
    assert nearest is not None
    return image.reformat(format=nearest.name)


def upright(frames: Iterable[Frame]) -> Generator[Frame, None, None]:
    """Frames turned as a player would show them, without rotation; for outputs that draw beside the frame."""
    turns = {90: ("transpose", "cclock"), 180: ("rotate", "PI"), 270: ("transpose", "clock")}
    graph, key = None, None
    for frame in frames:
        image = frame.image
        if not frame.rotation:
            yield frame
            continue
        if key != (frame.rotation, image.width, image.height, image.format.name):
            key = (frame.rotation, image.width, image.height, image.format.name)
            graph = av.filter.Graph()
            start = graph.add_buffer(
                width=image.width, height=image.height, format=image.format, time_base=frame.time_base
            )
            graph.link_nodes(start, graph.add(*turns[frame.rotation]), graph.add("buffersink")).configure()
        assert graph is not None
        graph.vpush(image)
        turned = graph.vpull()
        turned.pts, turned.time_base = frame.pts, frame.time_base
        yield replace(frame, image=turned, rotation=0, turned=frame.rotation % 180 == 90)


class _Clock:
    """Makes timestamps strictly increasing, whatever the file says, and moves other streams' packets along."""

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        self._time_base = time_base
        self._step = max(1, round(1 / (rate or Fraction(25)) / time_base))
        self._jump = round(_JUMP / time_base)
        self._last: int | None = None
        self._offset = 0

    def next(self, pts: int | None) -> int:
        if self._last is None:
            self._last = pts if pts is not None else 0
            return self._last
        if pts is None:
            pts = self._last + self._step
        else:
            pts += self._offset
        if pts <= self._last:
            if self._last - pts > self._jump:  # a clock set back: all that follows moves with it
                self._offset += self._last + self._step - pts
                pts = self._last + self._step
            else:
                pts = self._last + 1
        self._last = pts
        return pts

    def move(self, packet: av.Packet[Any]) -> None:
        if self._offset:
            shift = round(self._offset * self._time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
