"""The line in reading order: source, detect, enhance, overlay, sink.

``Pipeline`` opens the networks once and runs any number of sources through them, one after the other.  ``run`` writes
to a sink and reports; ``frames`` gives finished frames to the caller's own loop.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from . import __version__
from .backends import Session, open_session
from .backends.batching import BatchingSession
from .config import Config
from .errors import ConfigError, ModelError, SinkError
from .run import Report, Run
from .runtime import Channel
from .sinks.codecs import Encoding
from .sinks.encoder import Sink, open_sink
from .sinks.fanout import Tee
from .sinks.open import is_timed, open_outputs
from .sinks.target import refuse_overwriting_source
from .sources.base import Source
from .sources.file import open_with
from .stages.detect import Detector
from .stages.enhance import Enhancer
from .stages.networks import open_enhancement
from .stages.overlay import Overlay, Rendered
from .stages.track import Tracker

DETECTOR, UNET = "yolov8n-face.onnx", "unet.onnx"


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
        chosen = config.enhancer
        self._enhancement = open_enhancement(
            chosen.kind,
            chosen.classical,
            lambda: self._session(chosen.model or default_model(UNET), "face-enhancement"),
        )

    def _session(self, path: str | Path, task: str) -> Session:
        session = open_session(path, task, self.config.provider, self.config.threads)
        session = self.sessions[task] = self._open.enter_context(BatchingSession(session) if self._shared else session)
        self.models[Path(path).name] = {"sha256": session.sha256, "provider": session.provider}
        return session

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
        by = self._enhancement.changed_by
        if not by:
            return f"made by stream-enhance {__version__}; no face was changed"
        if session := self.sessions.get("face-enhancement"):
            by += f" (sha256 {session.sha256[:16]})"
        return f"ENHANCED by stream-enhance {__version__}: faces were changed by {by}; see the original"

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
        stopped: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Run ``source`` to its end into ``sink``.

        Args:
            source: see ``open_source``.
            sink: see ``open_sink``; several are encoded once, see ``outputs``.
            overwrite: replace a file that is there.
            gallery: folder for each track's best shot, before and after.
            duration: seconds after which to end cleanly.
            watch: called a few times a second from this thread; may call the run's ``stop`` or ``cancel``.
            stopped: asked before there is a run; a camera is then waited for no longer.

        Raises:
            SourceError, SinkError: one of them cannot be used.
        """
        opened = open_with(self.config, source) if isinstance(source, str) else source
        run = None
        try:
            opened.wait_ready(stopped)
            sinks = [sink] if isinstance(sink, str) else sink
            refuse_overwriting_source(opened.info.name, *(spec for spec in sinks if spec != "-" and "://" not in spec))
            shots = None
            if gallery:
                from .sinks.gallery import Gallery

                shots = Gallery(gallery, opened.info.name, self._enhancement.changed_by)
            run = Run(self, opened, self._sink(sinks, opened, overwrite), shots)
            run.go(duration, watch)
            return run.report()
        finally:
            if run is None or not run.alive:  # a thread still in it must not find it closed
                opened.close()

    def frames(self, source: str | Source) -> Generator[Rendered, None, None]:
        """Finished frames of ``source``, one by one, worked on ahead in other threads.

        Closing the generator ends them.

        Raises:
            SourceError: the source cannot be used.
        """
        opened = open_with(self.config, source) if isinstance(source, str) else source
        opened.wait_ready()
        run = Run(self, opened, None, None)
        out: Channel[Rendered] = run.line.channels[-1]
        run.line.start()
        try:
            for item in out:
                run.on_output(item)
                yield item
            run.line.join()
        finally:
            run.cancel()
            for worker in run.line.workers:
                worker.thread.join(10)
            if not run.alive:
                opened.close()

    def outputs(self, specs: list[str], source: Source) -> Tee:
        """A sink for all of ``specs`` that can be opened again and again; see ``open_outputs``."""
        segments = self.config.segments
        live = source.info.live
        return open_outputs(specs, live, self._encoding(live), self.comment, segments, number=True)

    def _sink(self, specs: list[str], source: Source, overwrite: bool) -> Sink:
        """One output that is a file, or anything; or several, and those that outlive a fault."""
        live, only = source.info.live, specs[0]
        encoding = self._encoding(live)
        segments = self.config.segments
        if segments.seconds and not any("%" in Path(spec).name for spec in specs):
            raise SinkError(f"{only}: segments need a name with the time in it, such as %Y%m%d-%H%M%S.mp4")
        several = len(specs) > 1 or only.endswith(".m3u8") or only.startswith(("http://", "https://"))
        if not (several or is_timed(only, live, segments) or (live and "://" in only)):
            return open_sink(only, encoding, self.comment, overwrite)
        return open_outputs(specs, live, encoding, self.comment, segments, overwrite)

    def _encoding(self, live: bool) -> Encoding:
        return Encoding(**self.config.sink.model_dump(), live=live)

    def detector(self, stills: bool = False) -> Detector:
        """A new detection stage on the shared network; of ``stills`` each is looked at by itself."""
        options, tracking = self.config.detector, self.config.tracker
        if stills:
            options = options.model_copy(update={"every": 1})
            tracking = tracking.model_copy(update={"confirm_threshold": 0.0, "coast_ttl": 0.0})
        return Detector(self._detector, options, Tracker(options.score, tracking))

    def enhancer(self) -> Enhancer:
        """A new enhancement stage on the shared network."""
        return Enhancer(self._enhancement, self.config.enhancer)

    def overlay(self) -> Overlay:
        """A new overlay stage."""
        options = self.config.overlay
        if self._enhancement.network is None:
            options = options.model_copy(update={"watermark": False})
        return Overlay(options)
