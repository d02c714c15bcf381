"""One source on its way through the stages of a line: its threads, its counts and its report."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from . import memory
from .imaging.frames import byte_count
from .imaging.orientation import upright
from .report import Report
from .runtime import Channel, Line, Stage
from .sinks.base import Sink
from .sources.base import Source
from .stages.detect import Detector
from .stages.enhance import Enhancer
from .stages.load_control import AdmissionControl, QualityController
from .stages.overlay import Overlay
from .types import Enhanced, Frame, Rendered, Scene

_WAITING = 4  # frames queued in front of each stage
_WAITING_LIVE = 16  # between a camera's decoder and the first stage, where age, not number, is what bounds them
_BUDGET = 256 << 20  # bytes of frames in front of each stage
log = logging.getLogger(__name__)


def _channel(size: int, when_full: Literal["wait", "drop_oldest"] = "wait") -> Channel[Any]:
    return Channel(size, when_full, _byte_count, _BUDGET)


def _byte_count(item: Frame | Scene | Enhanced | Rendered) -> int:
    match item:
        case Frame(image=image) | Scene(Frame(image=image)) | Enhanced(Scene(Frame(image=image))):
            return byte_count(image)
        case Rendered(image=image):
            return byte_count(image)


class Observer(Protocol):
    """Sees every enhanced scene before it is drawn, such as a gallery of best shots."""

    def observe(self, item: Enhanced) -> None:
        """See one scene; called in the overlay's thread, in the frames' order."""
        ...

    def close(self) -> None:
        """Write what is left; called once, after the line has ended."""
        ...


class Recorder(Protocol):
    """Takes note of every frame and of what was decided about it, such as an evidence manifest."""

    note: str  # for the outputs' metadata

    def begin(self, source: Source) -> None:
        """``source`` is ready; called once, before any frame."""
        ...

    def decoded(self, frame: Frame) -> None:
        """A frame has come in; called in the source's thread, in order."""
        ...

    def drawing(self, item: Enhanced) -> None:
        """``item`` is about to be drawn into its frame, which may change; called in the overlay's thread, in order."""
        ...

    def drawn(self, item: Rendered) -> None:
        """``item`` is finished and about to be encoded; called in the sink's thread, in order."""
        ...

    def finished(self, part: Path, final: Path) -> None:
        """The file ``part`` is written and will be called ``final``; it may be replaced.  Called in any thread.

        Raises:
            OSError, EvidenceError: it cannot be signed.
        """
        ...

    def end(self, report: Report) -> None:
        """The run has ended, however it did; called once."""
        ...


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages between source and sink, new for each run: they remember tracks and results."""

    detect: Detector
    enhance: Enhancer
    overlay: Overlay


class Run:
    """One source on its way through a line.

    Args:
        source: ready, and closed by the caller once ``alive`` is false.
        stages: what is done to each frame.
        sink: where finished frames go; None leaves them in the line's last channel.
        observers: see each enhanced scene; closed at the end.
        recorder: takes note of each frame; the caller ends it.
        max_age: seconds that a camera's frame may be old when it is written.
        turn_upright: turn rotated frames before the first stage; a sink may ask for it too.
        models: of each network's file its sha256 and provider, for the report.
        brought: brings a decoded frame to where the stages work on it; None: it is there.
    """

    def __init__(
        self,
        source: Source,
        stages: Stages,
        sink: Sink | None = None,
        observers: Sequence[Observer] = (),
        *,
        recorder: Recorder | None = None,
        max_age: float = 0.5,
        turn_upright: bool = False,
        models: Mapping[str, dict[str, str]] | None = None,
        brought: Callable[[av.VideoFrame], av.VideoFrame] | None = None,
    ) -> None:
        self.source, self._sink, self._observers, self._models = source, sink, tuple(observers), dict(models or {})
        self._recorder = recorder
        self.detect, self.enhance, self.overlay = stages.detect, stages.enhance, stages.overlay
        self._brought = brought
        self._turn_upright = turn_upright or (sink is not None and sink.upright)
        self.ages: deque[float] = deque(maxlen=50_000)  # seconds from decoded to written, of the latest frames
        self.first_frame: float | None = None
        self.seconds = 0.0
        self._footage_end: float | None = None  # seconds of a recording at which it ends
        live = source.info.live
        self.started = source.started if live else time.monotonic()
        self.line = Line(
            self._footage(source.frames(side_packets=sink is not None and sink.takes_side_packets)),
            self._staged(),
            [
                _channel(_WAITING_LIVE, "drop_oldest") if live else _channel(_WAITING),
                *(_channel(2 if live else _WAITING) for _ in range(3)),
            ],
        )
        if live:
            self.quality_controller = QualityController(self.detect, self.enhance, max_age)
            self.admission = AdmissionControl(max_age, lambda: self.line.cancelled, self.quality_controller.waited)

    def _staged(self) -> dict[str, Stage]:
        stages: dict[str, Stage] = {
            "detect": self._detected,
            "enhance": self.enhance,
            "overlay": self._overlaid if self._observers or self._recorder else self.overlay,
        }
        return stages if self._sink is None else {**stages, "sink": self._sunk}

    def _footage(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """``frames`` to the end that ``go`` was given, after a warning for each thing that no output holds."""
        with closing(frames):
            for i, frame in enumerate(frames):
                if self._footage_end is not None and frame.seconds >= self._footage_end:
                    return
                for note in frame.stream.notes if i == 0 else ():
                    log.warning("%s: %s", frame.stream.name, note)
                if self._recorder:
                    self._recorder.decoded(frame)
                yield replace(frame, image=self._brought(frame.image)) if self._brought else frame

    def _detected(self, frames: Iterable[Any]) -> Generator[Any, None, None]:
        if self.source.info.live:
            frames = self.admission(frames)
        if self._turn_upright:
            frames = upright(frames)
        yield from self.detect(frames)

    def _overlaid(self, items: Iterable[Enhanced]) -> Generator[Rendered, None, None]:
        yield from self.overlay(self._observed(items))

    def _observed(self, items: Iterable[Enhanced]) -> Iterator[Enhanced]:
        for item in items:
            for observer in self._observers:
                observer.observe(item)
            if self._recorder:
                self._recorder.drawing(item)
            yield item

    def _sunk(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        assert self._sink is not None
        for item in self._sink(self._recorded(items)):
            self.on_output(item)
            yield item

    def _recorded(self, items: Iterable[Rendered]) -> Iterator[Rendered]:
        for item in items:
            if self._recorder:
                self._recorder.drawn(item)
            yield item

    def on_output(self, item: Rendered) -> None:
        """``item`` has left the line."""
        now = time.monotonic()
        if self.first_frame is None:
            self.first_frame = now - self.started
        if not item.enhanced.scene.frame.no_signal:
            self.ages.append(now - item.enhanced.scene.frame.captured_at)
        if self.source.info.live:
            self.admission.on_exit()

    def go(self, duration: float | None = None, watch: Callable[[Run], None] = lambda run: None) -> None:
        """Run to the end; raise what any stage raised.

        Args:
            duration: seconds after which to end cleanly: of footage for a recording, on the clock for a camera.
            watch: called once at the start, then a few times a second, from this thread.
        """
        if not self.source.info.live:
            self._footage_end, duration = duration, None
        self.line.start()
        try:
            watch(self)
            while self.alive:
                self.line.workers[-1].thread.join(0.2)
                memory.trim()
                watch(self)
                if duration is not None and time.monotonic() - self.started >= duration:
                    self.stop()
            self.line.join()
        except BaseException:  # of a stage, of ``watch``, or Ctrl-C: no thread goes on unseen
            self.end()
            raise
        finally:
            self.seconds = time.monotonic() - self.started
            for observer in self._observers:
                observer.close()
        if self._sink is not None and not self.line.cancelled:  # torn down: what there is keeps its temporary name
            self._sink.finish()

    @property
    def alive(self) -> bool:
        """Whether any of its threads is still at work."""
        return any(worker.thread.is_alive() for worker in self.line.workers)

    @property
    def done(self) -> int:
        """Frames that have left the last stage."""
        return self.line.workers[-1].count

    @property
    def dropped(self) -> int:
        """Frames that came in and will not leave the last stage."""
        if self.line.cancelled:
            return self.line.workers[0].count - self.done
        return sum(channel.dropped for channel in self.line.channels)

    @property
    def faces(self) -> int:
        """Faces enhanced so far, from the cache or not."""
        return self.enhance.counts.enhanced + self.enhance.counts.from_cache

    def stop(self) -> None:
        """End the source; what is in flight is still written."""
        self.line.stop()
        self.source.stop()

    def cancel(self) -> None:
        """Tear down now."""
        self.line.cancel()
        self.source.stop()

    def end(self, patience: float = 10.0) -> None:
        """Tear down now, and wait for its threads, each for so many seconds."""
        self.cancel()
        for worker in self.line.workers:
            worker.thread.join(patience)

    def report(self, error: str | None = None) -> Report:
        """What the run did; ``error`` says why it failed."""
        counts, status, written = self.enhance.counts, self.source.status(), self.done
        ages = np.array(self.ages or [0.0]) * 1000
        return Report(
            source=self.source.info.name,
            error=error,
            frames_in=self.line.workers[0].count,
            frames_out=written,
            frames_dropped=self.dropped,
            packets_corrupt=status.corrupt,
            faces_detected=self.detect.detected,
            faces_enhanced=self.faces,
            faces_from_cache=counts.from_cache,
            faces_left_alone=counts.left_alone,
            tracks=self.detect.tracks,
            seconds=round(self.seconds, 3),
            fps=round(written / self.seconds, 3) if self.seconds else 0.0,
            first_frame_s=None if self.first_frame is None else round(self.first_frame, 3),
            latency_ms=_percentiles(ages),
            stages={
                worker.name: {
                    "items": worker.count,
                    "busy_s": round(worker.busy, 3),
                    "queue_max": worker.inbox.longest if isinstance(worker.inbox, Channel) else 0,
                }
                for worker in self.line.workers
            },
            models=self._models,
            outputs=None if self._sink is None else self._sink.outputs(),
            **self._live_report(ages),
        )

    def _live_report(self, ages: NDArray[np.float64]) -> dict[str, Any]:
        """What only a camera's report holds."""
        if not self.source.info.live:
            return {}
        status = self.source.status()
        return {
            "age_ms": _percentiles(ages),
            "frames_no_signal": status.no_signal_frames,
            "reconnects": status.reconnects,
            "states": [list(entry) for entry in status.states],
            "quality": [[round(at - self.started, 3), step] for at, step in self.quality_controller.steps],
        }


def _percentiles(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(milliseconds, p)), 2) for p in (50, 95, 99)}
