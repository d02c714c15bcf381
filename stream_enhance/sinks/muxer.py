"""Encoded packets into one container.

A file is written under a temporary name, in a form that is playable at every moment (MP4 whose index is only moved to
one place at the end, or Matroska), and has its own name once its frames were counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.container

from ..errors import EvidenceError, OutputError
from ..safe_files import Originals, OutputFile, create, publish, shortened
from .encoder import EncodedPacket, EncodedStream
from .passthrough import Passthrough

Finished = Callable[[Path, Path], None]  # a file as it is called now, and its name to be: it may replace it, to sign it


class Muxer(Protocol):
    """Where one output's packets go.

    ``open`` and ``write`` raise OSError or av.FFmpegError where that fails; an output of a camera is then closed and,
    later, opened again.  All but ``kill`` are called in the output's own thread, ``finish`` after that has ended.
    """

    takes_side_packets: bool

    def open(self, stream: EncodedStream, first: EncodedPacket) -> None:
        """Begin; ``first`` is the packet that will be written first, a key frame's."""
        ...

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet of the video."""
        ...

    def write_side(self, packets: Iterable[av.Packet[Any]]) -> None:
        """Write the other streams' packets that come before the next packet; they may be changed."""
        ...

    def close(self) -> None:
        """Close what ``open`` opened, complete up to the last packet."""
        ...

    def kill(self) -> None:
        """Have a call that waits for somebody end soon.  Called from another thread."""
        ...

    def finish(self, frames: int) -> int:
        """Make what was written the finished output if it holds all ``frames``; how many it holds.

        Raises:
            OutputError: it holds them and cannot be named.
        """
        ...

    def kept(self) -> str:
        """Where to find what was written of an output that failed; "" where nothing was."""
        ...


class Container:
    """An open container with the video stream and, where wanted, the others.

    Args:
        file: where the bytes go: a file that was created here, or FFmpeg's name of a pipe.
        form: FFmpeg's name of the format.
        name: fit to be shown.
        side: copy the other streams too.
        start: seconds of the stream's time that are its beginning.
        metadata: in addition to the stream's own.
    """

    def __init__(
        self,
        file: OutputFile | str,
        form: str,
        stream: EncodedStream,
        name: str,
        *,
        side: bool = True,
        start: Fraction = Fraction(0),
        metadata: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self._file, self._start = file, start
        self._shift = round(start / stream.time_base)
        self._adds_up = form in ("mp4", "mov")
        self.frames = 0
        options = _options(form, stream) | (options or {})
        self._inner = av.open(file, "w", format=form, options=options)
        try:
            self._video = stream.add_to(self._inner)
            self._copies = Passthrough(self._inner, stream.info, name) if side else None
            label(self._inner, {**stream.metadata, **(metadata or {})})
        except BaseException:
            self._release()
            raise

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet of the video."""
        self._inner.mux(packet.packet(self._video, self._shift, self._adds_up))
        self.frames += 1

    def write_side(self, packets: Iterable[av.Packet[Any]]) -> None:
        """Write packets of the other streams, as far as the format takes them."""
        if self._copies is not None:
            self._copies.write(packets, self._start)

    def close(self) -> None:
        """Write the trailer and close."""
        try:
            if self._copies is not None:
                self._copies.end()
        finally:
            self._release()

    def _release(self) -> None:
        try:
            self._inner.close()
        finally:
            if isinstance(self._file, OutputFile):
                self._file.close()


def _options(form: str, stream: EncodedStream) -> dict[str, str]:
    options = {"flush_packets": "1"}  # what is muxed is in the file, not in this process
    match form:
        case "mp4" | "mov":
            base = stream.time_base
            options |= {"movflags": "+hybrid_fragmented+frag_keyframe", "min_frag_duration": "1000000"}
            options |= {"video_track_timescale": str(base.denominator if base.numerator == 1 else 90_000)}
            options |= {"avoid_negative_ts": "disabled"}
        case "mpegts":  # so that a player need not wait for the next frame to know that this one is whole
            options |= {"omit_video_pes_length": "0"}
        case "matroska":
            options |= {"cluster_time_limit": "1000", "avoid_negative_ts": "disabled"}
    return options


def label(container: av.container.OutputContainer, metadata: dict[str, str]) -> None:
    """Have ``metadata`` written at the container's head; MPEG-TS takes it as its service's provider."""
    container.metadata.update(metadata)
    if container.format.name == "mpegts":
        container.metadata["service_provider"] = metadata["comment"][:200]


def creation_time(seconds: float) -> dict[str, str]:
    """Metadata that says when the footage begins, in seconds since the epoch."""
    return {"creation_time": datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"}


def count_frames(path: Path, expected: int) -> int:
    """How many whole frames a player finds in the video file ``path``, none of them decoded.

    An index that lists just the ``expected`` ones is believed, and saves the reading of the file.
    """
    try:
        with av.open(f"file:{path}", "r") as container:
            (video, *_) = container.streams.video
            if container.format.name.startswith("mov") and video.frames == expected:
                return expected
            return sum(1 for packet in container.demux(video) if packet.size and not packet.is_corrupt)
    except (av.FFmpegError, ValueError):
        return 0


def part_of(path: Path) -> Path:
    """What the file ``path`` is called while it is written."""
    return path.with_name(shortened("", path.stem, f".part{path.suffix}"))


class FileMuxer:
    """One file that is to hold everything.

    Args:
        path: its name when it is finished.
        form: FFmpeg's name of the format.
        originals: what is being read.
        replace: a file that is there.
        finished: called with the file before it has its name.
    """

    takes_side_packets = True

    def __init__(
        self, path: Path, form: str, originals: Originals, replace: bool, finished: Finished | None = None
    ) -> None:
        self._finished = finished
        self._path, self._part, self._form = path, part_of(path), form
        self._originals, self._replace = originals, replace
        self._inode = 0  # of the file that was created
        self._container: Container | None = None

    def open(self, stream: EncodedStream, first: EncodedPacket) -> None:
        """Create the file under its temporary name."""
        file = create(self._part, self._originals, self._replace)
        self._inode = file.inode
        self._container = Container(file, self._form, stream, str(self._path))

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet of the video."""
        assert self._container is not None
        self._container.write(packet)

    def write_side(self, packets: Iterable[av.Packet[Any]]) -> None:
        """Write packets of the other streams."""
        assert self._container is not None
        self._container.write_side(packets)

    def close(self) -> None:
        """Complete the file, which keeps its temporary name."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def kill(self) -> None:
        """A disk answers, however late."""

    def finish(self, frames: int) -> int:
        """Give the file its name if it holds all ``frames``; how many it holds.

        Raises:
            OutputError: it holds them and cannot be renamed.
        """
        if not self._ours():
            return 0
        if (held := count_frames(self._part, frames)) == frames:
            try:
                if self._finished:
                    self._finished(self._part, self._path)
                    self._inode = os.lstat(self._part).st_ino
                publish(self._part, self._path, self._originals, self._replace)
            except FileExistsError:
                raise OutputError(f"{self._path}: is there by now; the finished output is {self._part}") from None
            except EvidenceError as error:
                raise OutputError(f"{self._part}: is finished and not signed: {error}") from None
            except OSError as error:
                what = "signed or renamed" if self._finished else "renamed"
                raise OutputError(f"{self._part}: is finished and cannot be {what} ({error.strerror})") from None
        return held

    def kept(self) -> str:
        """The temporary file; "" where none was made."""
        return str(self._part) if self._ours() else ""

    def _ours(self) -> bool:
        """Whether the file of the temporary name is still the one that was created here."""
        try:
            return bool(self._inode) and os.lstat(self._part).st_ino == self._inode
        except OSError:
            return False


class PipeMuxer:
    """MPEG-TS on standard output."""

    takes_side_packets = True

    def __init__(self) -> None:
        self._container: Container | None = None
        self._written = 0

    def open(self, stream: EncodedStream, first: EncodedPacket) -> None:
        """Begin MPEG-TS on standard output."""
        self._container = Container("pipe:1", "mpegts", stream, "standard output")

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet of the video."""
        assert self._container is not None
        self._container.write(packet)
        self._written += 1

    def write_side(self, packets: Iterable[av.Packet[Any]]) -> None:
        """Write packets of the other streams."""
        assert self._container is not None
        self._container.write_side(packets)

    def close(self) -> None:
        """Write what is left; standard output stays open."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def kill(self) -> None:
        """Who reads it decides."""

    def finish(self, frames: int) -> int:
        """How many frames were written."""
        return self._written

    def kept(self) -> str:
        """Nothing: a pipe keeps nothing."""
        return ""
