"""HLS (RFC 8216): a playlist and its segments."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from ..errors import OutputError
from ..safe_files import Originals, publish, write_whole
from .encoder import EncodedPacket, EncodedStream
from .ledger import Entry, Ledger
from .muxer import part_of
from .segments import KEY_SECONDS, Segment, Segmenter, SegmentOptions

_LISTED, _LINGERING = 6, 3  # segments in the playlist of a camera; and after that until they are deleted
MARKER = "# written by stream-enhance; replaced by it too"  # a comment in a playlist


class HlsMuxer:
    """A playlist and its segments, MPEG-TS of ``KEY_SECONDS`` each.

    Of a camera the playlist names the newest segments and those before are deleted; of a recording it names all, and
    has a temporary name until they were counted.

    Args:
        path: the playlist.
        originals: what is being read.
        whole: of a recording.
        replace: a playlist that is there.
    """

    takes_side_packets = True

    def __init__(self, path: Path, originals: Originals, *, whole: bool, replace: bool) -> None:
        self._path, self._originals, self._whole, self._replace = path, originals, whole, replace
        self._written = part_of(path) if whole else path
        self._ledger = Ledger(path.parent, path.name)
        self._segments: deque[tuple[int, Segment]] = deque()  # in the playlist
        self._lingering: deque[Entry] = deque()  # and those that can be deleted once nobody reads them any more
        self._number = self._first = -1
        self._longest = math.ceil(KEY_SECONDS)
        self._segmenter = Segmenter(
            str(path),
            self._names,
            "mpegts",
            SegmentOptions(seconds=KEY_SECONDS),
            whole=whole,
            from_zero=False,
            begun=lambda file: self._ledger.begun(file.path.name, file.inode),
            finished=self._done,
            # each file counts its packets from 0, and all have one clock
            options={"mpegts_flags": "initial_discontinuity", "avoid_negative_ts": "disabled"},
        )
        self.write, self.write_side = self._segmenter.write, self._segmenter.write_side

    def open(self, stream: EncodedStream, first: EncodedPacket) -> None:
        """Begin the first segment; of a camera, delete the segments of runs before."""
        if self._number < 0 and not self._whole:
            for entry in self._ledger.entries():  # of a run before this one, named by no playlist any more
                self._ledger.delete(entry, self._originals)
        self._segmenter.open(stream, first)

    def close(self) -> None:
        """End the last segment and the playlist."""
        self._segmenter.close()
        if self._segments:
            self._write_playlist(ended=True)

    def kill(self) -> None:
        """A disk answers, however late."""

    def finish(self, frames: int) -> int:
        """Give a recording's playlist its name if it holds all ``frames``; how many it holds.

        Raises:
            OutputError: it holds them and cannot be renamed.
        """
        if self._whole and self._segmenter.held == frames:
            try:
                publish(self._written, self._path, self._originals, self._replace)
            except OSError as error:
                raise OutputError(f"{self._written}: is finished and cannot be renamed ({error.strerror})") from None
        return self._segmenter.held

    def kept(self) -> str:
        """The playlist; "" where there is no segment."""
        return str(self._written) if self._segments else ""

    def _names(self, first: EncodedPacket) -> Iterable[Path]:
        while True:
            self._number += 1
            yield self._path.with_name(f"{self._path.stem}-{self._number:05d}.ts")

    def _done(self, segment: Segment) -> None:
        entry = self._ledger.finished(segment.path.name, segment.inode, segment.path.stat().st_size)
        self._lingering.append(entry)
        self._segments.append((self._number, segment))
        if not self._whole and len(self._segments) > _LISTED:
            self._segments.popleft()
        self._longest = max(self._longest, math.ceil(segment.seconds))
        self._write_playlist()
        if not self._whole and len(self._lingering) > _LISTED + _LINGERING:
            self._ledger.delete(self._lingering.popleft(), self._originals)

    def _write_playlist(self, ended: bool = False) -> None:
        lines = ["#EXTM3U", MARKER, "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{self._longest}"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{self._segments[0][0]}", "#EXT-X-INDEPENDENT-SEGMENTS"]
        lines += ["#EXT-X-PLAYLIST-TYPE:VOD"] if self._whole and ended else []
        for _, segment in self._segments:
            lines += [f"#EXTINF:{float(segment.seconds):.6f},", segment.path.name]
        lines += ["#EXT-X-ENDLIST"] if ended else []
        write_whole(self._written, "\n".join([*lines, ""]).encode(), self._originals, replace=True)
