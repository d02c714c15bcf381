"""One connection to a camera, opened with as little analysis as it takes, read in a thread of its own to its end."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import av
import av.container
from av.codec.context import Flags
from pydantic import Field

from ..errors import SourceError
from ..imaging.frames import copy_of, native
from ..options import Options
from . import web
from .base import SourceOptions
from .describe import limit_decoder
from .formats import TEXT_OPTIONS, URL_DEMUXERS
from .hardware import decoding_on

Transport = Literal["auto", "tcp", "udp"]


class LiveOptions(Options):
    """How to hold on to a camera."""

    transport: Transport = Field(default="auto", description="Transport of RTSP; auto: TCP where the camera has it.")
    timeout: float = Field(default=5.0, gt=0, le=120, description="Seconds to open a connection.")
    stall: float = Field(
        default=4.0, gt=0, le=600, description="Seconds without a frame until a connection is given up."
    )
    first_frame: float = Field(
        default=20.0,
        gt=0,
        le=600,
        description="Seconds from connecting to the first frame until a connection is given up.",
    )
    retry: float = Field(default=1.0, gt=0, le=3600, description="Longest pause between attempts to connect, seconds.")
    idle_rate: float = Field(default=2.0, gt=0, le=30, description="NO SIGNAL frames a second.")
    detect_url: str = Field(
        default="",
        max_length=2000,
        description="URL of the same camera's smaller stream, to find faces in; they are taken from the main one, which"
        " is used alone while this one gives nothing.  {NAME}: environment variable.",
    )
    wait: bool = Field(default=False, description="Keep trying where the very first connection fails.")
    hwaccel: str = Field(
        default="", description='FFmpeg\'s name of a decoding device, such as cuda or vaapi; "": decode on the CPU.'
    )
    max_age: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="Seconds that a camera's frame may be old when it is written; older are dropped.",
    )


class Unauthorised(SourceError):
    """The camera wants another user name or password."""


class Connection:
    """One connection and the thread that opens, reads and closes it.

    Puts (itself, frame, monotonic time it was decoded) for each frame and (itself, None, time) at its end.
    """

    def __init__(
        self, name: str, opened: Callable[[], OpenStream], put: Callable[[Any], None], live: LiveOptions
    ) -> None:
        self._name, self._opened, self._put, self._live = name, opened, put, live
        self._abandoned = threading.Event()
        self.resolved = threading.Event()  # set once its first frame has come or it has failed
        self.opened_at = 0.0  # time.monotonic() when connected
        self.has_frame = False
        self.source: OpenStream | None = None
        self.error: BaseException | None = None
        self.finished = False  # a stream with an end has come to it
        self.stalled = False
        self.corrupt = 0
        self._epoch: int | None = None  # microseconds since 1970 at the stream's time 0
        self.thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self.thread.start()

    @property
    def patience(self) -> float:
        """Seconds without a frame until it is given up."""
        return self._live.stall if self.has_frame else max(self._live.stall, self._live.first_frame)

    def taken_at(self, seconds: float) -> float | None:
        """When the camera took the frame that it dates ``seconds``, in seconds since the epoch by its own clock.

        None before its first RTCP sender report, and from cameras that send none.
        """
        return None if self._epoch is None else self._epoch / 1e6 + seconds

    def abandon(self) -> None:
        """Nobody listens any more: end at the next chance."""
        self._abandoned.set()

    def _run(self) -> None:
        try:
            self.source = self._opened()
            self.opened_at = time.monotonic()
            try:
                self._read(self.source)
            finally:
                self.source.close()
            if not self.has_frame and not self._abandoned.is_set():
                self.error = SourceError(f"{self._name}: connected, but {self._why_none()}; is it the right stream?")
        except SourceError as error:
            self.error = error
        except av.error.ExitError:  # the read timed out
            self.stalled = True
            if not self.has_frame:
                self.error = SourceError(f"{self._name}: connected, but nothing came within {self._live.stall:g} s")
        except av.FFmpegError as error:
            self.error = SourceError(f"{self._name}: the connection ended ({error.strerror})")
        except BaseException as error:  # raised again where the line can see it
            self.error = error
        finally:
            self.resolved.set()
            self._put((self, None, time.monotonic()))

    def _why_none(self) -> str:
        if self.stalled:
            return f"no frame came within {self.patience:g} s"
        return "the stream ended before its first frame"

    def _read(self, source: OpenStream) -> None:
        seen = time.monotonic()
        for packet in source.container.demux(source.videos):
            if self._abandoned.is_set():
                return
            if time.monotonic() - seen > self.patience:  # nothing came, or nothing to be seen in it
                self.stalled = True  # even if a frame comes now: a read that timed out gives what it had first
                return
            self._epoch = source.container.start_time_realtime
            images = source.decoded(packet)
            self.corrupt = source.corrupt
            del packet  # a webcam's lies in memory that goes with the container
            for image in images:
                seen = time.monotonic()
                self.has_frame = True
                self._put((self, image, seen))
                self.resolved.set()
        self.finished = bool(source.container.duration)


class OpenStream:
    """An open connection: its container, its video stream, and how many packets could not be decoded.

    A camera may name metadata or a stream that it never sends first: the first stream that gives a frame is taken.
    """

    def __init__(self, container: av.container.InputContainer, name: str, options: SourceOptions) -> None:
        self.container, self.corrupt = container, 0
        self.videos: list[Any] = [s for s in container.streams.video if s.codec_context is not None]
        if not self.videos:
            container.close()
            raise SourceError(f"{name}: sends no video that can be decoded; check the URL")
        try:
            for stream in self.videos:
                limit_decoder(name, stream.codec_context, options)
                stream.thread_type = "SLICE"  # frame threads hold frames back
                stream.codec_context.flags |= Flags.low_delay
        except SourceError:
            container.close()
            raise
        self.stream = self.videos[0]
        self._chosen = len(self.videos) == 1

    @property
    def rate(self) -> Fraction | None:
        """Nominal frames a second."""
        return self.stream.average_rate or self.stream.guessed_rate or self.stream.base_rate or None

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Known for certain once a frame is decoded."""
        return self.stream.sample_aspect_ratio or self.stream.codec_context.sample_aspect_ratio or None

    @property
    def metadata(self) -> dict[str, str]:
        """The container's metadata."""
        return dict(self.container.metadata)

    def close(self) -> None:
        """Close the container."""
        self.container.close()

    def decoded(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        """Frames that outlive the connection, in a format of ours."""
        stream: Any = packet.stream
        if self._chosen and stream is not self.stream:
            return []
        try:
            images = stream.decode(packet if packet.size else None)
        except av.error.EOFError:  # flushed twice
            return []
        except av.FFmpegError:
            self.corrupt += stream is self.stream
            return []
        if images and not self._chosen:
            self.stream, self._chosen = stream, True
        return [_own(image) for image in images] if stream.codec_context.name == "rawvideo" else images


def _own(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` in memory of its own: raw frames lie in their packet's, and a webcam's packets in the driver's, which
    it takes back when it is closed."""
    there = native(image)
    if there is image:
        there = copy_of(image)
        there.pts, there.time_base = image.pts, image.time_base
    return there


def open_camera(
    url: str, name: str, live: LiveOptions, options: SourceOptions | None = None, form: str | None = None
) -> OpenStream:
    """``url`` opened with as little analysis as it takes.

    Raises:
        SourceError: it cannot be opened; without the URL's secrets.
    """
    options = options or SourceOptions()
    given = _ffmpeg_options(url, live) | {"max_pixels": str(options.max_pixels)}
    if form is None:
        given["format_whitelist"] = URL_DEMUXERS
    kept: dict[str, Any] = {}
    began = time.monotonic()
    try:
        if url.lower().startswith(("http://", "https://")) and not options.other_hosts:
            answer = _followed(url, name, live)
            url = answer.url
            more, kept = web.on_its_host(answer, name, live.timeout)
            given |= more
        with decoding_on(live.hwaccel, name, options) as hwaccel:
            container = av.open(
                url, "r", form, given, timeout=(live.timeout, live.stall), hwaccel=hwaccel, **TEXT_OPTIONS, **kept
            )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _refused(error, url, name, live.timeout, time.monotonic() - began >= live.timeout) from None
    return OpenStream(container, name, options)


def _followed(url: str, name: str, live: LiveOptions) -> web.Answer:
    """Where ``url`` redirects to on its own host."""
    try:
        return web.ask(url, name, live.timeout, other_hosts=False)
    except http.client.HTTPException:  # no HTTP, or not quite: FFmpeg may still make something of it
        return web.Answer(url, "unknown", False)


def _refused(error: Exception, url: str, name: str, timeout: float, late: bool) -> SourceError:
    """What ``error`` means to the user; cut off ``late``, FFmpeg may call it anything."""
    reason = getattr(error, "strerror", None) or type(error).__name__
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return Unauthorised(f"{name}: the camera refuses this user name or password; check both")
        case av.error.HTTPNotFoundError():
            return SourceError(f"{name}: the camera has no such stream; check the URL's path")
        case ConnectionRefusedError() | ConnectionResetError():  # FFmpeg's are these, too
            return SourceError(
                f"{name}: nothing answers there ({reason.lower()}); is the camera on and the port right?"
            )
        case _ if late or isinstance(error, (av.error.ExitError, TimeoutError)):
            return SourceError(
                f"{name}: no answer within {timeout:g} s; is the camera on and can it be reached from here?"
            )
        case av.error.ProtocolNotFoundError():
            scheme = url.split("://", 1)[0]
            return SourceError(f"{name}: this PyAV's FFmpeg has no {scheme}; build PyAV with one that has")
        case av.error.InvalidDataError() | av.error.ArgumentError():
            return SourceError(f"{name}: what answers there sends no video that can be read; check the URL")
    return SourceError(f"{name}: cannot be opened ({reason}); check the host's name and the URL")


def _ffmpeg_options(url: str, options: LiveOptions) -> dict[str, str]:
    """A first frame soon, and none held back.

    Not FFmpeg's ``nobuffer``: it throws away what was read for the analysis, the first key frame among it.
    """
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    given = {"analyzeduration": "500000", "probesize": "500000"}
    match scheme:
        case "rtsp" | "rtsps":
            given |= {"analyzeduration": "0", "probesize": "4096", "fpsprobesize": "0"}
            given |= {"max_delay": "100000"}  # µs to wait for a packet that comes out of turn
            if options.transport == "auto":
                given["rtsp_flags"] = "prefer_tcp"
            else:
                given["rtsp_transport"] = options.transport
        case "udp":
            given |= {"overrun_nonfatal": "1", "fifo_size": "50000"}
        case "http" | "https":
            given |= {"live_start_index": "-1"}  # HLS: from the newest segment
    return given
