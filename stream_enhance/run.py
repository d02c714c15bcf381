"""One source on its way through a pipeline, and the report of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import __version__, memory
from .runtime import Channel, Line, Stage
from .sinks.encoder import Sink
from .sinks.fanout import Tee
from .sources.base import Source
from .sources.file import upright
from .sources.image_folder import ImageFolderSink
from .stages.load_control import AdmissionControl, QualityController
from .stages.overlay import Rendered
from .types import Enhanced

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .sinks.gallery import Gallery

_WAITING = 4  # frames queued in front of each stage
_WAITING_LIVE = 16  # between a camera's decoder and the first stage, where age, not number, is what bounds them


@dataclass
class Report:
    """What a run did; ``as_dict`` is what ``--report`` writes."""

    source: str
    frames_in: int = 0
    frames_out: int = 0
    frames_dropped: int = 0
    packets_corrupt: int = 0
    faces_detected: int = 0
    faces_enhanced: int = 0
    faces_from_cache: int = 0
    faces_left_alone: dict[str, int] = field(default_factory=dict)
    tracks: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    first_frame_s: float | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    version: str = __version__
    outputs: list[dict[str, Any]] | None = None  # of several: what each got
    # of cameras only:
    age_ms: dict[str, float] | None = None  # of a frame when it has been written, since it was decoded
    frames_no_signal: int | None = None  # NO SIGNAL frames; counted in frames_in and frames_out too
    reconnects: int | None = None
    states: list[list[Any]] | None = None  # [seconds, state] each
    quality: list[list[Any]] | None = None  # [seconds, step] each time some was given up or taken back; see govern

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if value is not None or key == "first_frame_s"}


class Run:
    """One source on its way through a pipeline."""

    def __init__(self, pipeline: Pipeline, source: Source, sink: Sink | None, gallery: Gallery | None) -> None:
        self.source, self._sink, self._gallery, self._pipeline = source, sink, gallery, pipeline
        info = source.info
        self.detect, self.enhance, self.overlay = (
            pipeline.detector(info.stills),
            pipeline.enhancer(),
            pipeline.overlay(),
        )
        self.ages: deque[float] = deque(maxlen=50_000)
        self.first_frame: float | None = None
        stages: dict[str, Stage] = {
            "detect": self._detected,
            "enhance": self.enhance,
            "overlay": self._overlaid if gallery else self.overlay,
        }
        if sink is not None:
            stages["sink"] = self._sunk
        first: Channel[Any] = Channel(_WAITING_LIVE, "drop_oldest") if info.live else Channel(_WAITING)
        rest: list[Channel[Any]] = [Channel(2 if info.live else _WAITING) for _ in range(3)]
        frames = source.frames(side_packets=sink is not None and sink.takes_side_packets)
        self.line = Line(frames, stages, [first, *rest])
        self.started = source.started if info.live else time.monotonic()
        if info.live:
            max_age = pipeline.config.live.max_age
            self.quality_controller = QualityController(self.detect, self.enhance, max_age)
            self.admission = AdmissionControl(max_age, lambda: self.line.cancelled, self.quality_controller.waited)

    def _detected(self, frames: Iterable[Any]) -> Generator[Any, None, None]:
        if self.source.info.live:
            frames = self.admission(frames)
        if self._pipeline.config.overlay.mode != "inplace" or isinstance(self._sink, ImageFolderSink):
            frames = upright(frames)
        yield from self.detect(frames)

    def _overlaid(self, items: Iterable[Enhanced]) -> Generator[Rendered, None, None]:
        assert self._gallery is not None
        yield from self.overlay(self._shown(items, self._gallery))

    def _shown(self, items: Iterable[Enhanced], gallery: Gallery) -> Iterator[Enhanced]:
        for item in items:
            gallery.observe(item)
            yield item

    def _sunk(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        assert self._sink is not None
        for item in self._sink(items):
            self.on_output(item)
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
        """Run to the end; raise what any stage raised."""
        self.line.start()
        try:
            while self.alive:
                self.line.workers[-1].thread.join(0.2)
                memory.trim()
                watch(self)
                if duration is not None and time.monotonic() - self.started >= duration:
                    self.stop()
            self.line.join()
        finally:
            self.seconds = time.monotonic() - self.started
            if self._gallery:
                self._gallery.close()
        if self._sink is not None and not self.line.cancelled:  # torn down: what there is keeps its temporary name
            self._sink.finish()

    @property
    def alive(self) -> bool:
        return any(worker.thread.is_alive() for worker in self.line.workers)

    @property
    def done(self) -> int:
        """Frames that have left the sink."""
        return self.line.workers[-1].count

    @property
    def dropped(self) -> int:
        """Frames that came in and will not leave the sink."""
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

    def report(self) -> Report:
        """What the run did.  Every frame that came in went out or was dropped."""
        workers = {worker.name: worker for worker in self.line.workers}
        came, went = workers["source"].count, self.done
        counts = self.enhance.counts
        ages = np.array(self.ages or [0.0]) * 1000
        channels = {worker.name: worker.inbox for worker in self.line.workers}
        return Report(
            source=self.source.info.name,
            frames_in=came,
            frames_out=went,
            frames_dropped=self.dropped,
            packets_corrupt=self.source.status().corrupt,
            faces_detected=self.detect.detected,
            faces_enhanced=self.faces,
            faces_from_cache=counts.from_cache,
            faces_left_alone=counts.left_alone,
            tracks=self.detect.tracks,
            seconds=round(self.seconds, 3),
            fps=round(went / self.seconds, 3) if self.seconds else 0.0,
            first_frame_s=None if self.first_frame is None else round(self.first_frame, 3),
            latency_ms={f"p{p}": round(float(np.percentile(ages, p)), 2) for p in (50, 95, 99)},
            stages={
                name: {
                    "items": worker.count,
                    "busy_s": round(worker.busy, 3),
                    "queue_max": inbox.longest if isinstance(inbox := channels[name], Channel) else 0,
                }
                for name, worker in workers.items()
            },
            models=self._pipeline.models,
            outputs=self._outputs(),
            **self._live_report(ages),
        )

    def _outputs(self) -> list[dict[str, Any]] | None:
        if not isinstance(self._sink, Tee):
            return None
        return [
            {"name": o.name, "packets": o.written, "lost": o.lost, "opened": o.opens, "problem": o.problem}
            for o in self._sink.outputs
        ]

    def _live_report(self, ages: NDArray[np.float64]) -> dict[str, Any]:
        """What only a camera's report holds."""
        if not self.source.info.live:
            return {}
        status = self.source.status()
        return {
            "age_ms": {f"p{p}": round(float(np.percentile(ages, p)), 2) for p in (50, 95, 99)},
            "frames_no_signal": status.no_signal_frames,
            "reconnects": status.reconnects,
            "states": [list(entry) for entry in status.states],
            "quality": [[round(at - self.started, 3), step] for at, step in self.quality_controller.steps],
        }
