"""Takes note of every frame of a run: hashes in a thread of its own, decisions, and what was dropped or damaged.

``decoded`` queues the hash of a frame as it came in, ``drawing`` waits for that before the frame is drawn over, and
``drawn`` queues the finished one's; so lines are written in order, by one thread, beside the line's own.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from ..report import Report
from ..sources.base import Source
from ..types import Decision, Enhanced, Frame, Rendered
from .frame_hash import frame_hash
from .manifest import Decision as DecisionKind
from .manifest import Event, FaceEntry, FileEntry, Footer, FrameEntry, Line, OutputEntry

log = logging.getLogger(__name__)

_BEHIND = 8  # finished frames that may wait to be hashed


class Lines(Protocol):
    """Where lines go, such as a ``ManifestWriter``."""

    @property
    def chain(self) -> str:
        """Chain value of the last line."""
        ...

    def add(self, line: Line) -> None:
        """Take the next line."""
        ...

    def close(self) -> None:
        """There is no more."""
        ...


@dataclass(frozen=True, slots=True)
class _Decoded:
    index: int
    pts: int
    wall: float | None
    no_signal: bool
    hash: Future[str] | None
    events: tuple[Event, ...]  # before it


class FrameRecorder:
    """Writes the lines of a manifest.

    Args:
        writer: where they go.
        header: makes the first line, of the first frame that was decoded.
    """

    def __init__(self, writer: Lines, header: Callable[[Frame], Line]) -> None:
        self.writer, self._header = writer, header
        self._source: Source | None = None
        self._pool = ThreadPoolExecutor(1, "evidence")
        self._decoded: deque[_Decoded] = deque()
        self._inputs: dict[int, Future[str]] = {}
        self._writing: deque[Future[None]] = deque()
        self._first: Frame | None = None
        self._begun = False
        self._lock = threading.Lock()  # of the writer: segments are noted by other threads
        self._corrupt = self._states = 0
        self.frames_in = self.frames_out = 0
        self.faces: Counter[DecisionKind] = Counter()

    def begin(self, source: Source) -> None:
        """Frames of ``source`` follow."""
        self._source = source

    def decoded(self, frame: Frame) -> None:
        """Queue the hash of ``frame`` as it came in."""
        if self._first is None:
            self._first = frame
        hashed = None
        if not frame.no_signal:
            hashed = self._inputs[frame.index] = self._pool.submit(frame_hash, frame.image)
        wall = frame.wall_time if frame.stream.live else None
        self._decoded.append(
            _Decoded(frame.index, frame.pts, wall, frame.no_signal, hashed, self._happened(frame.index))
        )

    def drawing(self, item: Enhanced) -> None:
        """Wait until the frame was hashed."""
        hashed = self._inputs.pop(item.scene.frame.index, None)
        if hashed is not None:
            hashed.result()

    def drawn(self, item: Rendered) -> None:
        """Queue the line of a finished frame.

        Raises:
            OSError: an earlier one could not be written.
        """
        self._writing.append(self._pool.submit(self._write, item))
        while len(self._writing) > _BEHIND:
            self._writing.popleft().result()

    def drain(self) -> None:
        """Wait until the lines of all frames so far are written, of those that were dropped, too.

        Raises:
            OSError: one could not be.
        """
        self._pool.submit(self._write_dropped, None).result()
        while self._writing:
            self._writing.popleft().result()

    def segment(self, file: FileEntry) -> None:
        """Note a finished file of a camera."""
        self._add(Event(event="segment", frame=self.frames_in, file=file))

    def end(self, report: Report, complete: bool, outputs: tuple[OutputEntry, ...], tail: tuple[Event, ...]) -> None:
        """Write the footer and close.

        Raises:
            OSError: it cannot be written.
        """
        try:
            self.drain()
        finally:
            self._pool.shutdown()
        for event in (*self._happened(self.frames_in), *tail):
            self._add(event)
        self._add(
            Footer(
                complete=complete,
                error=report.error,
                ended=datetime.now(UTC).isoformat(timespec="milliseconds"),
                frames_in=self.frames_in,
                frames_out=self.frames_out,
                frames_dropped=self.frames_in - self.frames_out,
                packets_damaged=report.packets_corrupt,
                faces=dict(self.faces),
                tracks=report.tracks,
                outputs=outputs,
            )
        )
        self.writer.close()

    def _happened(self, index: int) -> tuple[Event, ...]:
        """What the source says has happened since it was last asked."""
        if self._source is None:
            return ()
        status, events = self._source.status(), []
        if status.corrupt > self._corrupt:
            events.append(Event(event="damaged", frame=index, count=status.corrupt - self._corrupt))
            self._corrupt = status.corrupt
        if self._source.info.live:
            for at, state in status.states[self._states :]:
                events.append(Event(event="connection", frame=index, what=f"{state} {at:.3f} s after the start"))
            self._states = len(status.states)
        return tuple(events)

    def _write(self, item: Rendered) -> None:
        """In the pool's thread: the line of ``item``, after those of frames that were dropped before it."""
        scene = item.enhanced.scene
        self._write_dropped(scene.frame.index)
        noted = self._decoded.popleft()
        faces = scene.faces
        decisions = item.enhanced.decisions or (Decision("left", "off"),) * len(faces)
        entries = tuple(face_entry(item.enhanced, row, decision) for row, decision in enumerate(decisions))
        self.faces.update(entry.decision for entry in entries)
        self.frames_out += 1
        entry = self._entry(noted, output=frame_hash(item.image), cut=scene.cut, faces=entries)
        self._put(noted, entry)

    def _write_dropped(self, until: int | None) -> None:
        while self._decoded and (until is None or self._decoded[0].index < until):
            noted = self._decoded.popleft()
            self._inputs.pop(noted.index, None)
            self._put(noted, self._entry(noted, output=None, dropped=True))

    def _entry(
        self,
        noted: _Decoded,
        output: str | None,
        cut: bool = False,
        dropped: bool = False,
        faces: tuple[FaceEntry, ...] = (),
    ) -> FrameEntry:
        return FrameEntry(
            index=noted.index,
            pts=noted.pts,
            wall=noted.wall,
            input=noted.hash.result() if noted.hash else None,
            output=output,
            dropped=dropped,
            no_signal=noted.no_signal,
            cut=cut,
            faces=faces,
        )

    def _put(self, noted: _Decoded, entry: FrameEntry) -> None:
        self.frames_in += 1
        for event in noted.events:
            self._add(event)
        self._add(entry)

    def _add(self, line: Line) -> None:
        with self._lock:
            if not self._begun and self._first is not None:
                self.writer.add(self._header(self._first))
                self._begun = True
            if self._begun:  # a run without a frame has nothing to be checked
                self.writer.add(line)


def face_entry(enhanced: Enhanced, row: int, decision: Decision) -> FaceEntry:
    """Row ``row`` of the scene's faces as the manifest holds it, rounded to what makes a difference."""
    faces = enhanced.scene.faces
    points = (
        None if faces.points is None else tuple((round(float(x), 2), round(float(y), 2)) for x, y in faces.points[row])
    )
    affine = None
    if decision.to_frame is not None:
        affine = tuple(tuple(round(float(v), 6) for v in line) for line in decision.to_frame)
    x1, y1, x2, y2 = (round(float(v), 2) for v in faces.xyxy[row])
    return FaceEntry(
        track=int(faces.track[row]),
        box=(x1, y1, x2, y2),
        points=points,
        score=round(float(faces.score[row]), 4),
        evidence=None if faces.evidence is None else round(float(faces.evidence[row]), 4),
        coasting=faces.coasting is not None and bool(faces.coasting[row]),
        decision=decision.kind,
        why=decision.why or None,
        affine=affine,
        strength=None if decision.strength is None else round(float(decision.strength), 4),
        consistency=None if decision.consistency is None else round(float(decision.consistency), 4),
    )
