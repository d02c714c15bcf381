"""A camera's live view on the page: original and enhanced side by side, encoded only while somebody watches.

The page shows the left half, the right half or both, so one small encoding serves every viewer and every choice.
Viewers each have a short queue; one that does not read loses frames up to the next key frame, and disturbs nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.container
import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging import planes
from ..runtime import Cancelled, Channel
from ..sinks.encoder import NullFile
from ..types import Enhanced
from . import fmp4

log = logging.getLogger(__name__)

WIDTH = 640  # pixels of each half at most
_BASE = 90_000
_MAX_GAP = 5.0  # seconds without frames that the page's clock follows


@dataclass(frozen=True, slots=True)
class Piece:
    """One message to a viewer."""

    data: bytes
    key: bool
    kind: str  # "header" with the codec's name in ``codec``, "fragment", or "jpeg"
    codec: str = ""
    encoder: int = 0  # which encoder it is of: fragments go with its header


class LiveView:
    """The live view of one camera, encoded in a thread of its own until ``close``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._viewers: dict[int, _Viewer] = {}
        self._lock = threading.Lock()
        self._frames: Channel[tuple[av.VideoFrame, av.VideoFrame, float]] = Channel(2, "drop_oldest")
        self._before: deque[tuple[int, av.VideoFrame]] = deque(maxlen=16)
        self._encoder: _Encoder | None = None
        self._dismissed = False
        self._fresh = False  # a viewer has joined who needs a header and a key frame
        self._thread = threading.Thread(target=self._run, name=f"view of {name}", daemon=True)
        self._thread.start()

    @property
    def viewers(self) -> int:
        """How many clients watch."""
        return len(self._viewers)

    def join(self, kind: str, take: Callable[[Piece | None], None], loop: asyncio.AbstractEventLoop) -> int:
        """Call ``take`` on ``loop`` with each piece of ``kind`` ("video" or "jpeg"), and with None at the end.

        Returns:
            The viewer's number, for ``leave``.
        """
        with self._lock:
            number = max(self._viewers, default=0) + 1
            self._viewers[number] = _Viewer(kind, take, loop)
            self._fresh = True
            if self._dismissed:
                loop.call_soon_threadsafe(take, None)
        return number

    def dismiss(self) -> None:
        """End the view of every viewer, and of those that join later."""
        with self._lock:
            self._dismissed = True
            for viewer in self._viewers.values():
                if not viewer.loop.is_closed():
                    viewer.loop.call_soon_threadsafe(viewer.take, None)

    def refresh(self) -> None:
        """Send a header and a key frame soon: a viewer has lost frames and is to go on."""
        with self._lock:
            self._fresh = True

    def leave(self, number: int) -> None:
        """Stop calling the viewer's ``take``."""
        with self._lock:
            self._viewers.pop(number, None)

    def before(self, item: Enhanced) -> None:
        """Keep a small copy of the frame, before faces are pasted into it."""
        if self._viewers:
            frame = item.scene.frame
            self._before.append((frame.index, _small(frame.image)))

    def after(self, index: int, image: av.VideoFrame, seconds: float) -> None:
        """Show the finished ``image`` of the frame ``index``, taken ``seconds`` from the stream's start."""
        if not self._viewers:
            self._before.clear()
            return
        while self._before and self._before[0][0] < index:
            self._before.popleft()
        if self._before and self._before[0][0] == index:
            left = self._before.popleft()[1]
            self._frames.put((left, image.reformat(left.width, left.height, "yuv420p"), seconds))

    def close(self) -> None:
        """End the encoder's thread; waits 2 s at most."""
        self._frames.cancel()
        self._thread.join(2)

    def _run(self) -> None:
        try:
            for left, right, seconds in self._frames:
                try:
                    self._show(_side_by_side(left, right), seconds)
                except av.FFmpegError as error:  # a view must not end its camera's line
                    log.error("%s: the live view is restarted (%s)", self._name, error.strerror)
                    self._encoder = None
        except Cancelled:
            pass

    def _show(self, frame: av.VideoFrame, seconds: float) -> None:
        with self._lock:
            wanted = {viewer.kind for viewer in self._viewers.values()}
            fresh, self._fresh = self._fresh, False
        if "jpeg" in wanted:
            self._send("jpeg", Piece(_jpeg(frame), True, "jpeg"))
        if "video" in wanted:
            self._encode(frame, seconds, fresh)
        else:
            self._encoder = None

    def _encode(self, frame: av.VideoFrame, seconds: float, fresh: bool) -> None:
        size = (frame.width, frame.height)
        if self._encoder is None or self._encoder.size != size:
            self._encoder, fresh = _Encoder(size), True
        encoder = self._encoder
        data = encoder.encode(frame, seconds, fresh)
        if fresh:
            self._send("video", Piece(encoder.header, True, "header", encoder.codec, encoder.number))
        self._send("video", data)

    def _send(self, kind: str, piece: Piece) -> None:
        """Pass ``piece`` on with one call into the event loop, however many viewers there are."""
        takers: dict[asyncio.AbstractEventLoop, list[Callable[[Piece | None], None]]] = {}
        with self._lock:
            for viewer in self._viewers.values():
                if viewer.kind == kind:
                    takers.setdefault(viewer.loop, []).append(viewer.take)
        for loop, takes in takers.items():
            loop.call_soon_threadsafe(_hand, takes, piece)


@dataclass(frozen=True, slots=True)
class _Viewer:
    kind: str  # of pieces wanted
    take: Callable[[Piece | None], None]
    loop: asyncio.AbstractEventLoop  # where ``take`` is called


def _hand(takes: list[Callable[[Piece | None], None]], piece: Piece) -> None:
    for take in takes:
        take(piece)


class _Encoder:
    """Frames to fragments."""

    _numbers = itertools.count(1)

    def __init__(self, size: tuple[int, int]) -> None:
        self.size, self.number = size, next(self._numbers)
        # this format makes the encoder give headers separately
        self._container = av.open(NullFile(), "w", format="matroska")
        options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26"}
        stream: Any = self._container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.time_base = stream.time_base = Fraction(1, _BASE)
        context.max_b_frames, context.gop_size, context.thread_count = 0, 250, 1
        self._container.start_encoding()
        self._stream = stream
        self.header = fmp4.header(stream, _BASE)
        self.codec = fmp4.codec_string(context.extradata)
        self._serial, self._end, self._last = 0, 0, 0.0

    def encode(self, frame: av.VideoFrame, seconds: float, key: bool) -> Piece:
        """The next fragment.  Each lasts as long as the frame before did, so there is neither a gap nor a delay."""
        length = seconds - self._last if self._serial else 0.04
        ticks = round(min(_MAX_GAP, max(0.001, length)) * _BASE)
        frame.pts, frame.time_base = self._end, Fraction(1, _BASE)
        frame.pict_type = 1 if key else 0
        packets = self._stream.encode(frame)
        self._serial += 1
        whole = b"".join(bytes(packet) for packet in packets)
        is_key = any(packet.is_keyframe for packet in packets)
        data = fmp4.fragment(self._serial, self._end, ticks, whole, is_key)
        self._end, self._last = self._end + ticks, seconds
        return Piece(data, is_key, "fragment", encoder=self.number)


def _small(image: av.VideoFrame) -> av.VideoFrame:
    """``image`` as yuv420p, at most ``WIDTH`` wide, with even sides."""
    ratio = min(1.0, WIDTH / image.width)
    width, height = max(2, round(image.width * ratio / 2) * 2), max(2, round(image.height * ratio / 2) * 2)
    small = image.reformat(width, height, "yuv420p")
    if small is image:  # the overlay is about to change it
        from ..imaging.frames import copy_of

        return copy_of(image)
    return small


def _side_by_side(left: av.VideoFrame, right: av.VideoFrame) -> av.VideoFrame:
    both = av.VideoFrame(2 * left.width, left.height, "yuv420p")
    for i in range(3):
        planes.samples(both, i)[:] = np.hstack([planes.samples(left, i), planes.samples(right, i)])
    return both


def _jpeg(frame: av.VideoFrame) -> bytes:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="bgr24")  # type: ignore[assignment]
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
