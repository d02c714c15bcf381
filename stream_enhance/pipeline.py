"""The line in reading order: source, detect, enhance, overlay, sink.

``Pipeline`` opens the networks once and runs any number of sources through them, one after the other.  ``run`` writes
to outputs and reports, ``frames`` yields finished frames to the caller's own loop, ``enhance`` takes one array.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av
import numpy as np
from numpy.typing import NDArray

from . import __version__
from .backends import Session, open_session
from .backends.batching import BatchingSession
from .config import Config
from .errors import ConfigError, InputError, ModelError, SinkError, StreamEnhanceError, redact
from .report import Report
from .run import Observer, Recorder, Run, Stages
from .runtime import Cancelled, Channel
from .shipped import DETECTOR, UNET, default_model
from .sinks.base import Sink
from .sinks.codecs import Encoding
from .sinks.open import open_sink
from .sources.base import Reading, Source
from .sources.open import open_source
from .stages.detect import Detector
from .stages.enhance import Enhancer
from .stages.networks import Enhancement, open_enhancement
from .stages.overlay import Overlay
from .stages.track import Tracker
from .types import EnhancedImage, Frame, Rendered

if TYPE_CHECKING:
    from .imaging.device import Device


def open_device(provider: str, number: int) -> Device:
    """Where frames are worked on with ``frames=device``: the networks' GPU, or torch's CPU where there is none.

    Raises:
        ModelError: torch is not installed.
    """
    try:
        import torch

        from .imaging.device import Device
    except ModuleNotFoundError as error:
        raise ModelError(f"frames=device needs {error.name}; pip install torch, or set frames=host") from None
    on_gpu = provider != "cpu" and torch.cuda.is_available()
    return Device(f"cuda:{number}" if on_gpu else "cpu")


class Pipeline:
    """The networks and the settings of a line.

    Use it as a context manager, or ``close`` it.

    Args:
        config: what to do; None for the defaults.
        shared: for several runs at once: what they ask of a network at one moment runs as one batch.

    Raises:
        ModelError: a model file is missing or damaged, or the named provider is not available.
    """

    def __init__(self, config: Config | None = None, shared: bool = False) -> None:
        self.config = config = config or Config()
        self._shared = shared
        self.sessions: dict[str, Session] = {}  # by task
        self._open = ExitStack()
        self.models: dict[str, dict[str, str]] = {}
        self._device = open_device(config.provider, config.device) if config.frames == "device" else None
        detector = config.detector.model or default_model(DETECTOR)
        self._detector = self._session(detector, "face-detection")
        chosen = config.enhancer
        self._enhancement = open_enhancement(
            chosen.kind,
            chosen.classical,
            lambda: self._session(chosen.model or default_model(UNET), "face-enhancement"),
        )

    def _session(self, path: str | Path, task: str) -> Session:
        config = self.config
        stream = self._device.queue if self._device else 0
        session = open_session(
            path,
            task,
            config.provider,
            config.threads,
            config.engine_cache,
            config.device,
            config.precision,
            stream,
            meanwhile=True,
        )
        session = self.sessions[task] = self._open.enter_context(BatchingSession(session) if self._shared else session)
        self.models[session.path.name] = {
            "sha256": session.sha256,
            "provider": session.provider,
            "precision": session.precision,
        }
        return session

    def variant(self, config: Config) -> Pipeline:
        """These networks with other settings; not to be used after this is closed, and not to be closed itself.

        Raises:
            ConfigError: the settings ask for other networks.
        """
        same = ("provider", "precision", "threads", "frames"), ("model",), ("model", "kind", "classical")
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
    def enhancement(self) -> Enhancement:
        """What changes faces."""
        return self._enhancement

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
        """Release the networks; no run of this pipeline may still be going."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        source: str | Path | Source,
        sink: str | Path | Sequence[str | Path],
        *,
        overwrite: bool = False,
        gallery: str | Path | None = None,
        recorder: Recorder | None = None,
        observers: Sequence[Observer] = (),
        upright: bool = False,
        duration: float | None = None,
        watch: Callable[[Run], None] = lambda run: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Run ``source`` to its end into ``sink``.

        Args:
            source: a file, a folder of images, ``-``, ``webcam:N`` or a URL; see ``open_source``.
            sink: a file, a folder for images (with / at its end), ``-`` or a URL; several are encoded once.
            overwrite: replace files that exist.
            gallery: folder for each track's best shot, before and after.
            recorder: takes note of each frame and decision, such as ``evidence.session.Evidence``.
            observers: see each enhanced scene.
            upright: turn rotated frames before the first stage, so that the output needs no rotation.
            duration: seconds after which to end cleanly: of footage for a recording, on the clock for a camera.
            watch: called at the start and a few times a second from this thread; may call the run's ``stop`` or
                ``cancel``.
            stopped: asked before there is a run; true ends the waiting for a camera.

        Raises:
            SourceError: the source cannot be opened or decoded.
            SinkError: an output cannot be written.
        """
        specs = [os.fspath(sink)] if isinstance(sink, str | Path) else [os.fspath(one) for one in sink]
        if not specs:
            raise SinkError("no output; name a file, a folder, - or a URL")
        opened = self._source(source)
        run = None
        try:
            opened.wait_ready(stopped)
            output = self._sink(specs, opened, overwrite, recorder=recorder)
            if gallery:
                from .sinks.gallery import Gallery

                shots = Gallery(Path(gallery), opened.info.name, self._enhancement.changed_by, overwrite=overwrite)
                observers = [*observers, shots]
            if recorder:
                recorder.begin(opened)
            run = self.new_run(opened, output, observers, upright, recorder)
            run.go(duration, watch)
            report = run.report()
        except BaseException as error:
            if recorder and run:
                try:
                    recorder.end(run.report(redact(str(error)) or type(error).__name__))
                except StreamEnhanceError as second:
                    error.add_note(str(second))
            raise
        else:
            if recorder:
                recorder.end(report)
            return report
        finally:
            if run is None or not run.alive:  # a thread still in it must not find it closed
                opened.close()

    def frames(self, source: str | Path | Source) -> Generator[Rendered, None, None]:
        """Finished frames of ``source``, one by one, worked on ahead in other threads.

        Closing the generator ends them.

        Raises:
            SourceError: the source cannot be opened or decoded.
        """
        opened = self._source(source)
        run = None
        try:
            opened.wait_ready()
            run = self.new_run(opened)
            out: Channel[Rendered] = run.line.channels[-1]
            run.line.start()
            try:
                for item in out:
                    run.on_output(item)
                    yield item
            except Cancelled:  # a stage failed: ``join`` raises its error
                pass
            run.line.join()
        finally:
            if run is not None:
                run.end()
            if run is None or not run.alive:
                opened.close()

    def enhance(self, image: NDArray[np.uint8]) -> EnhancedImage:
        """Find and enhance the faces of one image.

        Args:
            image: (H, W, 3) uint8, RGB (of OpenCV's BGR give ``image[:, :, ::-1]``); it is not changed.

        Returns:
            The image as ``overlay.mode`` shows it, and its faces; no track ids are carried from call to call.

        Raises:
            InputError: another shape or dtype.
        """
        if not isinstance(image, np.ndarray):  # a file's name, from code that is not type-checked
            raise InputError(f"image: is a {type(image).__name__}; give an array, uint8 (H, W, 3), RGB")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"image: is {image.dtype} {image.shape}; give uint8 (H, W, 3), RGB")
        video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        video_frame.color_range, video_frame.pts, video_frame.time_base = 2, 0, Fraction(1, 25)
        frame = Frame(video_frame, 0, 0, Fraction(1, 25), time.monotonic(), time.time())
        stages = self._stages(stills=True)
        if self._device:
            frame = replace(frame, image=self._device.own(video_frame))
        rendered = next(stages.overlay(stages.enhance(stages.detect([frame]))))
        return EnhancedImage(rendered.to_rgb(), rendered.enhanced)

    def new_run(
        self,
        source: Source,
        sink: Sink | None = None,
        observers: Sequence[Observer] = (),
        upright: bool = False,
        recorder: Recorder | None = None,
    ) -> Run:
        """A run of ``source``, which is ready, with new stages on these networks; not started yet."""
        return Run(
            source,
            self._stages(source.info.stills),
            sink,
            observers,
            recorder=recorder,
            max_age=self.config.live.max_age,
            turn_upright=upright or self.config.overlay.mode != "inplace",
            models=self.models,
            brought=self._device.own if self._device else None,
        )

    def _source(self, source: str | Path | Source) -> Source:
        if not isinstance(source, str | Path):
            return source
        reading = Reading(**self.config.source.model_dump(), owned=self._device is not None)
        return open_source(os.fspath(source), reading, self.config.live)

    def outputs(self, specs: list[str], source: Source) -> Sink:
        """A sink for all of ``specs`` that can be opened again and again; see ``open_sink``."""
        return self._sink(specs, source, overwrite=False, number=True)

    def _sink(
        self,
        specs: list[str],
        source: Source,
        overwrite: bool,
        number: bool = False,
        recorder: Recorder | None = None,
    ) -> Sink:
        info = source.info
        return open_sink(
            specs,
            self._encoding(info.live),
            f"{self.comment}; {recorder.note}" if recorder else self.comment,
            live=info.live,
            segments=self.config.segments,
            overwrite=overwrite,
            number=number,
            source=info.name,
            finished=recorder.finished if recorder else None,
        )

    def _encoding(self, live: bool) -> Encoding:
        return Encoding(**self.config.sink.model_dump(), live=live)

    def _stages(self, stills: bool) -> Stages:
        return Stages(self.detector(stills), self.enhancer(), self.overlay())

    def detector(self, stills: bool = False) -> Detector:
        """A new detection stage on the shared network; each of ``stills`` is an image by itself."""
        options, tracking = self.config.detector, self.config.tracker
        if stills:
            options = options.model_copy(update={"every": 1, "regions": "off"})
            tracking = tracking.model_copy(update={"confirm_threshold": 0.0, "coast_ttl": 0.0})
        return Detector(self._detector, options, Tracker(options.score, tracking), self._device)

    def enhancer(self) -> Enhancer:
        """A new enhancement stage on the shared network."""
        return Enhancer(self._enhancement, self.config.enhancer, self._device)

    def overlay(self) -> Overlay:
        """A new overlay stage."""
        options = self.config.overlay
        if self._enhancement.network is None:
            options = options.model_copy(update={"watermark": False})
        return Overlay(options, self._device)
