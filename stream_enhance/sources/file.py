"""Recordings: frames in from a file, a pipe or a web server, decoded by PyAV.

Out come ``Frame``s in the decoder's own pixel format with strictly increasing timestamps.  Packets of the other
streams (sound, subtitles, data) travel on the frame that they belong before.  Damaged packets are counted, not fatal.
A source is opened before anything is written, so that bad input costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.container

from ..errors import SourceError
from ..imaging.frames import native
from ..types import Frame, StreamInfo
from .base import SourceStatus
from .clock import RecordingClock

log = logging.getLogger(__name__)

_SHORT = 0.5  # seconds missing at the end that are worth a warning


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
        clock = RecordingClock(self._time_base, self._info.rate)
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

    def _frame(self, image: av.VideoFrame, index: int, clock: RecordingClock) -> Frame:
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
