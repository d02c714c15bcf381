"""One connection to a camera, opened with as little analysis as it takes, read in a thread of its own to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import av
import av.container
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel
from pydantic import Field

from ..errors import SourceError
from ..imaging.frames import copy_of, native
from ..options import Options

Transport = Literal["auto", "tcp", "udp"]


class LiveOptions(Options):
    """How to hold on to a camera."""

    transport: Transport = Field(default="auto", description="Transport of RTSP; auto: TCP where the camera has it.")
    timeout: float = Field(default=5.0, gt=0, le=120, description="Seconds to open a connection.")
    stall: float = Field(
        default=4.0, gt=0, le=600, description="Seconds without a frame until a connection is given up."
    )
    retry: float = Field(default=1.0, gt=0, le=3600, description="Longest pause between attempts to connect, seconds.")
    idle_rate: float = Field(default=2.0, gt=0, le=30, description="NO SIGNAL frames a second.")
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

    def __init__(self, opened: Callable[[], OpenStream], put: Callable[[Any], None], stall: float) -> None:
        self._opened, self._put, self._stall = opened, put, stall
        self._abandoned = threading.Event()
        self.settled = threading.Event()  # connected, or failed to
        self.opened_at = 0.0  # time.monotonic() when connected
        self.source: OpenStream | None = None
        self.error: BaseException | None = None
        self.finished = False  # a stream with an end has come to it
        self.stalled = False
        self.corrupt = 0
        self.thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self.thread.start()

    def abandon(self) -> None:
        """Nobody listens any more: end at the next chance."""
        self._abandoned.set()

    def _run(self) -> None:
        try:
            self.source = self._opened()
            self.opened_at = time.monotonic()
            self.settled.set()
            try:
                self._read(self.source)
            finally:
                self.source.close()
        except SourceError as error:
            self.error = error
        except av.error.ExitError:  # the read timed out
            self.stalled = True
        except av.FFmpegError as error:
            self.error = SourceError(f"the connection ended ({error.strerror})")
        except BaseException as error:  # raised again where the line can see it
            self.error = error
        finally:
            self.settled.set()
            self._put((self, None, time.monotonic()))

    def _read(self, source: OpenStream) -> None:
        seen = time.monotonic()
        for packet in source.container.demux(source.stream):
            if self._abandoned.is_set():
                return
            if time.monotonic() - seen > self._stall:  # nothing came, or nothing to be seen in it
                self.stalled = True  # even if a frame comes now: a read that timed out gives what it had first
                return
            images = source.decoded(packet)
            self.corrupt = source.corrupt
            del packet  # a webcam's lies in memory that goes with the container
            for image in images:
                seen = time.monotonic()
                self._put((self, image, seen))
        self.finished = bool(source.container.duration)


class OpenStream:
    """An open connection: its container, its video stream, and how many packets could not be decoded."""

    def __init__(self, container: av.container.InputContainer, name: str) -> None:
        self.container, self.corrupt = container, 0
        if not container.streams.video or container.streams.video[0].codec_context is None:
            container.close()
            raise SourceError(f"{name}: sends no video that can be decoded; check the URL")
        self.stream = container.streams.video[0]
        self.stream.thread_type = "SLICE"  # frame threads hold frames back
        self.stream.codec_context.flags |= Flags.low_delay
        self.rate = self.stream.average_rate or self.stream.guessed_rate or self.stream.base_rate
        self.pixel_aspect = self.stream.sample_aspect_ratio
        self.metadata = dict(container.metadata)

    def close(self) -> None:
        self.container.close()

    def decoded(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        """Frames that outlive the connection, in a format of ours."""
        try:
            images = self.stream.decode(packet if packet.size else None)
            return [_own(image) for image in images] if self.stream.codec_context.name == "rawvideo" else images
        except av.error.EOFError:  # flushed twice
            return []
        except av.FFmpegError:
            self.corrupt += 1
            return []


def _own(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` in memory of its own: raw frames lie in their packet's, and a webcam's packets in the driver's, which
    it takes back when it is closed."""
    there = native(image)
    if there is image:
        there = copy_of(image)
        there.pts, there.time_base = image.pts, image.time_base
    return there


def open_camera(url: str, name: str, options: LiveOptions, form: str | None) -> OpenStream:
    """``url`` opened with as little analysis as it takes.

    Raises:
        SourceError: it cannot be opened; without the URL's secrets.
    """
    hardware = HWAccel(options.hwaccel, allow_software_fallback=False) if options.hwaccel else None
    began = time.monotonic()
    try:
        container = av.open(
            url, "r", form, _ffmpeg_options(url, options), timeout=(options.timeout, options.stall), hwaccel=hardware
        )
    except (av.FFmpegError, ValueError) as error:
        raise _refused(error, url, name, options.timeout, time.monotonic() - began >= options.timeout) from None
    return OpenStream(container, name)


def _refused(error: Exception, url: str, name: str, timeout: float, late: bool) -> SourceError:
    """What ``error`` means to the user; cut off ``late``, FFmpeg may call it anything."""
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return Unauthorised(f"{name}: the camera refuses this user name or password; check both")
        case av.error.HTTPNotFoundError():
            return SourceError(f"{name}: the camera has no such stream; check the URL's path")
        case av.error.ConnectionRefusedError() | av.error.ConnectionResetError():
            told = (error.strerror or "refused").lower()
            return SourceError(f"{name}: nothing answers there ({told}); is the camera on and the port right?")
        case _ if late or isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
            return SourceError(
                f"{name}: no answer within {timeout:g} s; is the camera on and can it be reached from here?"
            )
        case av.error.ProtocolNotFoundError():
            scheme = url.split("://", 1)[0]
            return SourceError(f"{name}: this PyAV's FFmpeg has no {scheme}; build PyAV with one that has")
        case av.error.InvalidDataError():
            return SourceError(f"{name}: what answers there sends no video that can be read; check the URL")
    reason = error.strerror if isinstance(error, av.FFmpegError) else type(error).__name__
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
