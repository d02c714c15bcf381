"""Outputs in many files: recordings cut into segments, and the deleting of the oldest.

A segment begins at a key frame and at time 0, and its metadata says when the footage in it began.  What is deleted is
what the ledger of its folder says was recorded there.
"""

from __future__ import annotations

import errno
import itertools
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from pydantic import Field

from ..options import Options
from ..safe_files import Originals, OutputFile, publish
from .encoder import EncodedPacket, EncodedStream
from .ledger import Ledger
from .muxer import Container, Finished, count_frames, creation_time, part_of

log = logging.getLogger(__name__)

KEY_SECONDS = 2.0  # between key frames: what a kill may cost, and what who joins waits for at most


class SegmentOptions(Options):
    """How an output whose name holds a time, as in %H%M%S, is cut, and how long its files are kept; 0: no limit."""

    seconds: float = Field(default=0.0, ge=0, description="Begin a new file after this many seconds.")
    megabytes: float = Field(default=0.0, ge=0, description="Begin a new file after this many megabytes.")
    keep_hours: float = Field(default=0.0, ge=0, description="Delete files of the same output that are older.")
    keep_megabytes: float = Field(
        default=0.0, ge=0, description="Delete the oldest files of the same output beyond this sum."
    )

    @property
    def key_seconds(self) -> float:
        """Between key frames, such that there is one where each segment is to end."""
        return self.seconds / math.ceil(self.seconds / KEY_SECONDS) if self.seconds else KEY_SECONDS


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished file."""

    path: Path
    inode: int
    seconds: Fraction


class Segmenter:
    """Writes one file after the other.

    Args:
        names: gives the names to try for a segment that begins with this packet, one after the other.
        form: FFmpeg's name of the format.
        limits: when to begin a new file.
        whole: of a recording: each file has a temporary name until its frames were counted.
        from_zero: whether each segment's own time begins at 0, or all have one clock.
        begun, finished: called with each file.
        sign: called with each written file before ``finished``; it may replace it.
    """

    takes_side_packets = True

    def __init__(
        self,
        name: str,
        names: Callable[[EncodedPacket], Iterable[Path]],
        form: str,
        limits: SegmentOptions,
        *,
        whole: bool,
        from_zero: bool,
        begun: Callable[[OutputFile], None],
        finished: Callable[[Segment], None],
        sign: Finished | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self._name, self._names, self._form, self._limits = name, names, form, limits
        self._whole, self._from_zero, self._options = whole, from_zero, options
        self._begun, self._finished, self._sign = begun, finished, sign
        self._container: Container | None = None
        self._side: deque[av.Packet[Any]] = deque()  # for the packet that they belong before
        self._origin: Fraction | None = None  # seconds, the first packet's time
        self._since = self._reached = Fraction(0)  # seconds, this segment's beginning and end so far
        self.held = 0  # frames in finished files

    def open(self, stream: EncodedStream, first: EncodedPacket) -> None:
        """Begin the first segment with ``first``."""
        self._stream = stream
        self._footage_start = None if stream.info.live else _creation_time(stream)
        self._begin(first)

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet of the video; a key frame begins a new segment where one is due."""
        if packet.key and self._container is not None and self._full(packet):
            self._flush_side(packet.seconds)
            self._end(packet.seconds)
            self._begin(packet)
        assert self._container is not None
        self._flush_side(packet.dts * packet.time_base)
        self._container.write(packet)
        self._bytes += packet.data.size
        duration = packet.duration * packet.time_base or 1 / self._stream.rate
        self._reached = max(self._reached, packet.seconds + duration)

    def write_side(self, packets: Iterable[av.Packet[Any]]) -> None:
        """Keep packets of the other streams until their segment is known."""
        self._side.extend(packets)

    def close(self) -> None:
        """End the last segment."""
        if self._container is not None:
            self._flush_side(None)
            self._end(self._reached)

    def _begin(self, first: EncodedPacket) -> None:
        file, path = self._created(first)
        self._file, self._path, self._bytes = file, path, 0
        self._since = self._reached = first.seconds
        if self._origin is None:
            self._origin = first.seconds
        wall = first.wall_time if self._stream.info.live else self._footage_start
        if wall is not None and not self._stream.info.live:
            wall += float(first.seconds - self._origin)
        self._container = Container(
            file,
            self._form,
            self._stream,
            self._name,
            start=first.seconds if self._from_zero else self._origin,
            metadata=creation_time(wall) if wall is not None else {},
            options=self._options,
        )
        self._begun(file)

    def _created(self, first: EncodedPacket) -> tuple[OutputFile, Path]:
        """A new file under the first name that is free, and what it will be called in the end."""
        for path in self._names(first):
            if self._whole and os.path.lexists(path):
                continue
            try:
                return OutputFile(part_of(path) if self._whole else path), path
            except FileExistsError:
                continue
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._name)

    def _full(self, packet: EncodedPacket) -> bool:
        half = 1 / (2 * self._stream.rate)  # of a frame: times are rounded
        long = self._limits.seconds and packet.seconds - self._since + half >= self._limits.seconds
        return bool(long or (self._limits.megabytes and self._bytes >= self._limits.megabytes * 1e6))

    def _flush_side(self, until: Fraction | None) -> None:
        """Write the side packets that come before ``until``, in seconds."""
        assert self._container is not None
        while self._side:
            packet = self._side[0]
            if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                return
            self._container.write_side([self._side.popleft()])

    def _end(self, end: Fraction) -> None:
        container, self._container = self._container, None
        assert container is not None
        container.close()
        part = part_of(self._path) if self._whole else self._path
        if self._whole and (found := count_frames(part, container.frames)) != container.frames:
            self.held += found
            raise OSError(errno.EIO, f"{part} holds {found} of its {container.frames} frames")
        inode = self._file.inode
        if self._sign:
            self._sign(part, self._path)
            inode = os.lstat(part).st_ino
        if self._whole:
            publish(part, self._path, Originals())  # exclusively: it replaces nothing
        self.held += container.frames
        self._finished(Segment(self._path, inode, end - self._since))


def _creation_time(stream: EncodedStream) -> float | None:
    """When a recording says that it began, in seconds since the epoch."""
    try:
        return datetime.fromisoformat(stream.info.metadata["creation_time"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def numbered(path: Path) -> Iterable[Path]:
    """``path``, then the same with numbers from 2 on."""
    return itertools.chain([path], (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2)))


class SegmentsMuxer:
    """Files named by the time at which they begin, the oldest deleted by the limits of ``options``.

    Args:
        path: its name holds strftime's codes; without ``timed`` they are taken as they are.
        form: FFmpeg's name of the format.
        originals: what is being read.
        finished: called with each file once it is written.
        whole: of a recording: nothing may be missing.
    """

    takes_side_packets = True

    def __init__(
        self,
        path: Path,
        form: str,
        options: SegmentOptions,
        originals: Originals,
        finished: Finished | None = None,
        *,
        whole: bool,
        timed: bool = True,
    ) -> None:
        self._path, self._options, self._originals, self._timed = path, options, originals, timed
        self._ledger = Ledger(path.parent, path.name)
        self._segmenter = Segmenter(
            str(path),
            self._names,
            form,
            options,
            whole=whole,
            from_zero=True,
            begun=self._begun,
            finished=self._done,
            sign=finished,
        )
        self.open, self.write, self.write_side = self._segmenter.open, self._segmenter.write, self._segmenter.write_side
        self.close = self._segmenter.close

    def kill(self) -> None:
        """A disk answers, however late."""

    def finish(self, frames: int) -> int:
        """How many frames all segments hold; each got its name when it ended."""
        return self._segmenter.held

    def kept(self) -> str:
        """The folder of the segments."""
        return str(self._path.parent)

    def _names(self, first: EncodedPacket) -> Iterable[Path]:
        name = time.strftime(self._path.name, time.localtime(first.wall_time)) if self._timed else self._path.name
        return numbered(self._path.with_name(name))

    def _begun(self, file: OutputFile) -> None:
        self._ledger.begun(file.path.name, file.inode)

    def _done(self, segment: Segment) -> None:
        self._ledger.finished(segment.path.name, segment.inode, segment.path.stat().st_size)
        retain(self._ledger, self._options, self._originals)


def retain(ledger: Ledger, limits: SegmentOptions, originals: Originals) -> None:
    """Delete the oldest recordings in ``ledger``, but never the newest, until ``limits`` hold."""
    if not (limits.keep_hours or limits.keep_megabytes):
        return
    entries = ledger.entries()
    sizes = [ledger.size(entry) for entry in entries]
    total = sum(sizes)
    for entry, size in zip(entries[:-1], sizes, strict=False):
        old = limits.keep_hours and ledger.age(entry) > limits.keep_hours * 3600
        much = limits.keep_megabytes and total > limits.keep_megabytes * 1e6
        if not (old or much):
            return  # nor is any that is younger
        if ledger.delete(entry, originals):
            log.info("%s: deleted, its time is over", entry.name)
            total -= size
