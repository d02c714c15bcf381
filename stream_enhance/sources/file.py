"""Recordings: frames in from a file, a pipe or a web server, decoded by PyAV.

Out come ``Frame``s in the decoder's own pixel format with strictly increasing timestamps that begin at the container's
start.  Packets of the other streams (sound, subtitles, data) travel on the frame that they belong before.  Damaged
packets are counted, not fatal.  A source is opened before anything is written, so that bad input costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.container
from av.format import Flags

from ..errors import SourceError
from ..imaging.colour import untag_unusable_matrix
from ..imaging.frames import native
from ..imaging.orientation import flipped, orientation
from ..types import Frame, StreamInfo
from .base import SourceOptions, SourceStatus
from .clock import RecordingClock
from .describe import claimed_size, describe, length_of, limit_decoder, notes_on, refuse_size
from .formats import NO_PRESENTATION_TIMES

log = logging.getLogger(__name__)

_SHORT = 0.5  # seconds missing at the end that are worth a warning
_HEAD = 1 << 20  # bytes
_SAY_NOTHING = {"rawvideo", "pbm", "pgm", "ppm", "pam"}  # decoders that do not tell a large frame from a damaged one
_FAILURES = 50  # read errors in a row until reading ends


class VideoSource:
    """A recording with a video stream.

    Args:
        container: open, and closed by this.
        name: fit to be shown.
        options: how to read it.
        if_none: what may be the cause where not one frame can be decoded.

    Raises:
        SourceError: it holds no video stream that can be decoded, or its frames are above the limit.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        name: str,
        options: SourceOptions,
        if_none: str = "is the file complete?",
    ) -> None:
        self.name, self._options, self._container, self._if_none = name, options, container, if_none
        self.started = time.monotonic()
        self._corrupt = 0
        self._reached = 0.0  # seconds, the end of the latest packet
        self._too_large = False  # a frame was refused by the decoder
        self._first_packet = b""  # its head: an image file's holds EXIF
        self._stopping = threading.Event()
        try:
            self._info = describe(container, name, options)
            self._stream: Any = container.streams[self._info.video_index]
            limit_decoder(name, self._stream.codec_context, options)
        except BaseException:
            container.close()
            raise
        video: Any = self._stream
        video.thread_type = "AUTO"
        self._time_base = self._stream.time_base or Fraction(1, 90_000)

    @property
    def info(self) -> StreamInfo:
        """What is known of the stream."""
        return self._info

    def status(self) -> SourceStatus:
        """How it is at this moment."""
        return SourceStatus(corrupt=self._corrupt)

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """It was opened before."""

    def stop(self) -> None:
        """End ``frames`` after the frame that is being decoded."""
        self._stopping.set()

    def close(self) -> None:
        """Close the container."""
        self._container.close()

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """Every frame that can be decoded, in order, from ``options.start`` to ``options.end``.

        A frame is held back until the next one is there, so that the last one carries every packet that is left.

        Raises:
            SourceError: there was not one.
        """
        clock = self._clock()
        self._seek()
        held: Frame | None = None
        index, at_end, before, packets = 0, False, [], []  # type: int, bool, list[Any], list[Any]
        for packet in self._demuxed(clock, self._info.side_streams if side_packets else ()):
            if packet.stream is not self._stream:
                packets += [packet] if self._cut(packet) else []
                continue
            for image in self._decoded(packet, clock):
                pts = clock.frame(image.pts)
                if held is not None:
                    yield self._finished(held, clock.previous, before)
                    held = None
                seconds = float(pts * self._time_base)  # as the options: 1/5 is less than the float 0.2
                at_end = self._options.end is not None and seconds >= self._options.end
                if at_end:
                    break
                if seconds >= self._options.start:
                    held, before, packets = self._frame(image, index, clock), packets, []
                    index += 1
            if at_end or self._stopping.is_set():
                break
        if held is not None:
            yield self._finished(held, clock.last, [*before, *packets])
        if index == 0:
            raise SourceError(f"{self.name}: {self._why_none(clock)}")
        if not at_end:
            self._warn()

    def _clock(self) -> RecordingClock:
        flags = Flags(self._container.format.flags)
        return RecordingClock(
            self._time_base,
            1 / (self._info.rate or Fraction(25)),
            Fraction(self._container.start_time or 0, av.time_base),
            leaps=bool(flags & Flags.ts_discont),
            undated=bool(flags & Flags.no_timestamps),
            decode_order=self._container.format.name in NO_PRESENTATION_TIMES,
        )

    def _seek(self) -> None:
        """To the key frame before ``options.start``, where the container's clock leads there."""
        if self._options.start <= 0 or Flags(self._container.format.flags) & (Flags.ts_discont | Flags.no_timestamps):
            return
        with suppress(av.FFmpegError):  # not seekable: read from the beginning
            self._container.seek(round(self._options.start * av.time_base) + (self._container.start_time or 0))

    def _cut(self, packet: av.Packet[Any]) -> bool:
        """Count ``packet``'s time from ``options.start``; whether it lies between that and the end."""
        start, end = self._options.start, self._options.end
        if packet.dts is None:
            return False
        when = float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
        shift = round(Fraction(start) / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts -= shift
        return (not start or when >= start) and (end is None or when < end)

    def _finished(self, held: Frame, pts: int | None, packets: list[Any]) -> Frame:
        assert pts is not None
        pts -= round(Fraction(self._options.start) / self._time_base)
        held.image.pts = pts
        return replace(held, pts=pts, side_packets=tuple(packets))

    def _frame(self, image: av.VideoFrame, index: int, clock: RecordingClock) -> Frame:
        """``image`` in a format and matrix that the line can work in, and as its display matrix mirrors it."""
        if index == 0:
            aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
            self._info = replace(self._info, pixel_aspect=aspect, notes=(*self._info.notes, *notes_on(image)))
        rotation, mirrored = orientation(image, self._first_packet)
        duration = clock.step_ticks if clock.undated else image.duration or 0
        untag_unusable_matrix(image)
        image = native(image)
        if mirrored:
            image = flipped(image)
        image.time_base, image.duration = self._time_base, duration
        now = time.monotonic(), time.time()
        return Frame(
            image, index, clock.last or 0, self._time_base, *now, rotation, stream=self._info, duration=duration
        )

    def _demuxed(self, clock: RecordingClock, side_streams: tuple[Any, ...]) -> Iterator[av.Packet[Any]]:
        """Packets to the end of the file, in its own time; a read error is counted and reading goes on if it can."""
        wanted = [self._stream, *side_streams]
        failures = 0
        while True:
            try:
                for packet in self._container.demux(wanted):
                    failures = 0
                    if packet.is_corrupt:
                        self._corrupt += 1
                    if packet.pts is not None:
                        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        self._reached = max(self._reached, end)
                    clock.mend(packet)
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
                if failures > _FAILURES:
                    log.warning("%s: reading ended early (%s)", self.name, error.strerror)
                    yield from self._flushing()
                    return

    def _flushing(self) -> Iterator[av.Packet[Any]]:
        packet: av.Packet[Any] = av.Packet()
        packet.stream = self._stream
        yield packet

    def _decoded(self, packet: av.Packet[Any], clock: RecordingClock) -> list[av.VideoFrame]:
        if not packet.size and packet.dts is not None:  # a frame that repeats the one before it, not the end
            return []
        self._first_packet = self._first_packet or bytes(packet)[:_HEAD]
        try:
            images: list[av.VideoFrame] = self._stream.decode(packet if packet.size else None)
            return images
        except av.error.EOFError:  # flushed twice
            return []
        except av.FFmpegError as error:
            self._too_large |= isinstance(error, av.error.ArgumentError)  # what the decoder says of ``max_pixels``
            self._corrupt += 1
            clock.lost()
            return []

    def _why_none(self, clock: RecordingClock) -> str:
        if clock.last is not None:
            return f"no frame between {self._options.start:g} s and its end; give an earlier start"
        refuse_size(self.name, *(claimed_size(self._first_packet) or (0, 0)), self._options)
        if self._too_large or self._stream.codec_context.name in _SAY_NOTHING:
            limit = self._options.max_megapixels
            return f"not one frame could be decoded: damaged, or above {limit:g} megapixels (source.max_megapixels)"
        return f"not one frame could be decoded; {self._if_none}"

    def _warn(self) -> None:
        """Say what was damaged or missing."""
        if self._corrupt:
            log.warning("%s: %d damaged packets were passed over", self.name, self._corrupt)
        length = length_of(self._container)
        if not length or self._stopping.is_set():
            return
        missing = (self._container.start_time or 0) / av.time_base + length - self._reached
        if missing > _SHORT:
            log.warning("%s: ends %.1f s before the length that its header gives; was it cut off?", self.name, missing)
