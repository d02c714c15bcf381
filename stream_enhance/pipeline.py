"""The line in reading order: source, detect, enhance, overlay, sink.

``Pipeline`` opens the networks once and runs any number of sources through them, one after the other.  ``run`` writes
to a sink and reports; ``frames`` gives finished pictures to the caller's own loop.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from . import __version__
from .backends import Session, open_session
from .backends.batching import BatchingSession
from .config import Config
from .detect import Detector
from .enhance import Enhancer, Network, UNet
from .errors import ConfigError, ModelError, SinkError
from .govern import Admission, Governor
from .live import LiveOptions, LiveSource
from .outputs import Segments, Tee, open_outputs
from .overlay import Overlay, Rendered
from .runtime import Channel, Line, Stage
from .sink import Encoding, Sink, VideoSink, open_sink
from .source import Source, open_source, upright
from .track import Tracker
from .types import Enhanced

if TYPE_CHECKING:
    from .gallery import Gallery

DETECTOR, UNET = "yolov8n-face.onnx", "unet.onnx"
_WAITING = 4  # pictures queued in front of each stage
_WAITING_LIVE = 16  # between a camera's decoder and the first stage, where age, not number, is what bounds them


def default_model(name: str) -> Path:
    """Where the package keeps the model file ``name``: beside its code, or in ``engines/`` of a checkout.

    Raises:
        ModelError: it is in neither place.
    """
    inside = Path(str(resources.files(__package__))) / "engines" / name
    checkout = Path(__file__).resolve().parent.parent / "engines" / name
    for path in (inside, checkout):
        if path.is_file():
            return path
    raise ModelError(f"{name}: not in this installation; name a model file with detector.model or enhancer.model")


def open_with(config: Config, source: str) -> Source:
    """The source of that name, as ``config`` would have it; see ``open_source``."""
    return open_source(source, config.source.rate, LiveOptions(**config.live.model_dump(exclude={"max_age"})))


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
    frames_no_signal: int | None = None  # NO SIGNAL pictures; counted in frames_in and frames_out too
    reconnects: int | None = None
    states: list[list[Any]] | None = None  # [seconds, state] each
    quality: list[list[Any]] | None = None  # [seconds, step] each time some was given up or taken back; see govern

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if value is not None or key == "first_frame_s"}


class Pipeline:
    """The networks and the settings of a line.

    Use it as a context manager, or ``close`` it.

    Args:
        config: what to do; None for the defaults.
        shared: for several runs at once: what they ask of a network at one moment runs as one batch.

    Raises:
        ModelError: a model file is missing or damaged, or the named provider cannot be had.
    """

    def __init__(self, config: Config | None = None, shared: bool = False) -> None:
        self.config = config = config or Config()
        self._shared = shared
        self.sessions: dict[str, Session] = {}  # by task
        self._open = ExitStack()
        self.models: dict[str, dict[str, str]] = {}
        detector = config.detector.model or default_model(DETECTOR)
        self._detector = self._session(detector, "face-detection")
        self._network, self._size, self._align = self._enhancement()

    def _session(self, path: str | Path, task: str) -> Session:
        session = open_session(path, task, self.config.provider, self.config.threads)
        session = self.sessions[task] = self._open.enter_context(BatchingSession(session) if self._shared else session)
        self.models[Path(path).name] = {"sha256": session.sha256, "provider": session.provider}
        return session

    def _enhancement(self) -> tuple[Network | None, int, bool]:
        """What changes patches, their side, and whether they are aligned by points."""
        config = self.config.enhancer
        match config.kind:
            case "none":
                return None, 256, True
            case "classical":
                from .classical import Classical

                return Classical(**config.classical.model_dump()), 256, True
        session = self._session(config.model or default_model(UNET), "face-enhancement")
        return UNet(session), session.card.size, session.card.alignment == "five-points"

    def variant(self, config: Config) -> Pipeline:
        """These networks with other settings; not to be used after this is closed, and not to be closed itself.

        Raises:
            ConfigError: the settings ask for other networks.
        """
        same = ("provider", "threads"), ("model",), ("model", "kind", "classical")
        for mine, other, keys in zip(
            (self.config, self.config.detector, self.config.enhancer),
            (config, config.detector, config.enhancer),
            same,
            strict=True,
        ):
            for key in keys:
                if getattr(mine, key) != getattr(other, key):
                    raise ConfigError(f"{key}: all cameras share it; set it for all of them")
        variant = copy.copy(self)
        variant.config = config
        return variant

    @property
    def comment(self) -> str:
        """What the output's metadata says of how it was made."""
        kind = self.config.enhancer.kind
        if kind == "none":
            return f"made by stream-enhance {__version__}; no face was changed"
        by = kind if kind == "classical" else f"a U-Net (sha256 {list(self.models.values())[-1]['sha256'][:16]})"
        return f"ENHANCED by stream-enhance {__version__}: faces in this video were changed by {by}; see the original"

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        source: str | Source,
        sink: str | list[str],
        *,
        overwrite: bool = False,
        gallery: Path | None = None,
        duration: float | None = None,
        watch: Callable[[Run], None] = lambda run: None,
    ) -> Report:
        """Run ``source`` to its end into ``sink``.

        Args:
            source: see ``open_source``.
            sink: see ``open_sink``; several are encoded once, see ``outputs``.
            overwrite: replace a file that is there.
            gallery: folder for each track's best shot, before and after.
            duration: seconds after which to end cleanly.
            watch: called a few times a second from this thread; may call the run's ``stop`` or ``cancel``.

        Raises:
            SourceError, SinkError: one of them cannot be used.
        """
        opened = open_with(self.config, source) if isinstance(source, str) else source
        run = None
        try:
            if isinstance(opened, LiveSource):
                opened.ready()
            shots = None
            if gallery:
                from .gallery import Gallery

                changed_by = "filters" if self.config.enhancer.kind == "classical" else "a neural network"
                shots = Gallery(gallery, opened.name, changed_by)
            sinks = [sink] if isinstance(sink, str) else sink
            run = Run(self, opened, self._sink(sinks, opened, overwrite), shots)
            run.go(duration, watch)
            return run.report()
        finally:
            if run is None or not run.alive:  # a thread still in it must not find it closed
                opened.close()

    def frames(self, source: str | Source) -> Generator[Rendered, None, None]:
        """Finished pictures of ``source``, one by one, worked on ahead in other threads.

        Closing the generator ends them.

        Raises:
            SourceError: the source cannot be used.
        """
        opened = open_with(self.config, source) if isinstance(source, str) else source
        if isinstance(opened, LiveSource):
            opened.ready()
        run = Run(self, opened, None, None)
        out: Channel[Rendered] = run.line.channels[-1]
        run.line.start()
        try:
            for item in out:
                run.went(item)
                yield item
            run.line.join()
        finally:
            run.cancel()
            for worker in run.line.workers:
                worker.thread.join(10)
            if not run.alive:
                opened.close()

    def outputs(self, specs: list[str], source: Source) -> Tee:
        """A sink for all of ``specs``; see ``open_outputs``."""
        segments = Segments(**self.config.segments.model_dump())
        return open_outputs(specs, source, self._encoding(source), self.comment, segments)

    def _sink(self, specs: list[str], source: Source, overwrite: bool) -> Sink:
        """One output that is a file, or anything; or several, and those that outlive a fault."""
        encoding, only = self._encoding(source), specs[0]
        if self.config.segments.seconds and not any("%" in spec for spec in specs):
            raise SinkError(f"{only}: segments need a name with the time in it, such as %Y%m%d-%H%M%S.mp4")
        if len(specs) == 1 and "%" not in only and not only.endswith(".m3u8") and not (source.live and "://" in only):
            return open_sink(only, source, encoding, self.comment, overwrite)
        segments = Segments(**self.config.segments.model_dump())
        return open_outputs(specs, source, encoding, self.comment, segments, overwrite)

    def _encoding(self, source: Source) -> Encoding:
        return Encoding(**self.config.sink.model_dump(), live=source.live)

    def detector(self) -> Detector:
        """A new detection stage on the shared network."""
        config = self.config.detector.model_dump(exclude={"model"})
        tracker = Tracker(config["score"], **self.config.tracker.model_dump())
        return Detector(self._detector, tracker=tracker, **config)

    def enhancer(self) -> Enhancer:
        """A new enhancement stage on the shared network."""
        config = self.config.enhancer
        return Enhancer(
            self._network,
            self._size,
            self._align,
            batch=config.batch,
            min_face=config.min_face,
            max_face=config.max_face,
            sharp=config.sharp,
            change=config.cache_change,
            keep=config.cache_seconds,
            max_faces=config.max_faces,
            likeness=config.likeness,
        )

    def overlay(self) -> Overlay:
        """A new overlay stage."""
        config = self.config.overlay
        mark = config.mark and self.config.enhancer.kind != "none"
        return Overlay(config.mode, mark, config.scale, self.config.enhancer.strength)


class Run:
    """One source on its way through a pipeline."""

    def __init__(self, pipeline: Pipeline, source: Source, sink: Sink | None, gallery: Gallery | None) -> None:
        self.source, self._sink, self._gallery, self._pipeline = source, sink, gallery, pipeline
        if not isinstance(sink, VideoSink):  # nobody would take their packets away
            source.side_streams.clear()
        self.detect, self.enhance, self.overlay = pipeline.detector(), pipeline.enhancer(), pipeline.overlay()
        self._ages: deque[float] = deque(maxlen=50_000)
        self.first_frame: float | None = None
        stages: dict[str, Stage] = {
            "detect": self._detected,
            "enhance": self.enhance,
            "overlay": self._overlaid if gallery else self.overlay,
        }
        if sink is not None:
            stages["sink"] = self._sunk
        first: Channel[Any] = Channel(_WAITING_LIVE, "drop_oldest") if source.live else Channel(_WAITING)
        rest: list[Channel[Any]] = [Channel(2 if source.live else _WAITING) for _ in range(3)]
        self.line = Line(source.frames(), stages, [first, *rest])
        self.started = source.started if isinstance(source, LiveSource) else time.monotonic()
        if source.live:
            max_age = pipeline.config.live.max_age
            self.governor = Governor(self.detect, self.enhance, max_age)
            self.admission = Admission(max_age, lambda: self.line.cancelled, self.governor.waited)

    def _detected(self, frames: Iterable[Any]) -> Generator[Any, None, None]:
        if self.source.live:
            frames = self.admission(frames)
        if self._pipeline.config.overlay.mode != "inplace":
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
            self.went(item)
            yield item

    def went(self, item: Rendered) -> None:
        """``item`` has left the line."""
        now = time.monotonic()
        if self.first_frame is None:
            self.first_frame = now - self.started
        if not item.enhanced.scene.frame.no_signal:
            self._ages.append(now - item.enhanced.scene.frame.captured_at)
        if self.source.live:
            self.admission.left()

    def go(self, duration: float | None = None, watch: Callable[[Run], None] = lambda run: None) -> None:
        """Run to the end; raise what any stage raised."""
        self.line.start()
        try:
            while self.alive:
                self.line.workers[-1].thread.join(0.2)
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
    def faces(self) -> int:
        """Faces enhanced so far, from the cache or not."""
        return self.enhance.counts.enhanced + self.enhance.counts.from_cache

    def stop(self) -> None:
        """End the source; what is in flight is still written."""
        self.line.stop()
        if isinstance(self.source, LiveSource):
            self.source.stop()

    def cancel(self) -> None:
        """Tear down now."""
        self.line.cancel()
        if isinstance(self.source, LiveSource):
            self.source.stop()

    def report(self) -> Report:
        """What the run did.  Every frame that came in went out or was dropped."""
        workers = {worker.name: worker for worker in self.line.workers}
        came, went = workers["source"].count, self.done
        counts = self.enhance.counts
        ages = np.array(self._ages or [0.0]) * 1000
        channels = {worker.name: worker.inbox for worker in self.line.workers}
        return Report(
            source=self.source.name,
            frames_in=came,
            frames_out=went,
            frames_dropped=came - went if self.line.cancelled else sum(c.dropped for c in self.line.channels),
            packets_corrupt=self.source.corrupt,
            faces_detected=self.detect.detected,
            faces_enhanced=self.faces,
            faces_from_cache=counts.from_cache,
            faces_left_alone={
                "too_small": counts.too_small,
                "sharp_enough": counts.sharp_enough,
                "over_budget": counts.over_budget,
                "unlike": counts.unlike,
            },
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
        if not isinstance(self.source, LiveSource):
            return {}
        return {
            "age_ms": {f"p{p}": round(float(np.percentile(ages, p)), 2) for p in (50, 95, 99)},
            "frames_no_signal": self.source.no_signal_frames,
            "reconnects": self.source.reconnects,
            "states": [list(entry) for entry in self.source.states],
            "quality": [[round(at - self.started, 3), step] for at, step in self.governor.steps],
        }
