"""One camera's line, kept running: restarted where it fails, watched, counted."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np

from ..config import Config
from ..errors import InputError, printable
from ..pipeline import Pipeline
from ..run import Run
from ..sinks.base import Sink
from ..sources.base import SourceStatus
from ..sources.open import open_source
from ..types import Rendered, Scene
from .config import CameraConfig
from .notices import Notices
from .shots import CameraShots, ShotStore
from .view import LiveView

log = logging.getLogger(__name__)

BUCKETS_MS = (20, 50, 100, 200, 300, 500, 1000, 2000)
_RESTART = (1.0, 30.0)  # seconds, first and longest pause before a line that failed is restarted
StageTimes = tuple[list[int], float]  # frames by seconds (runtime.BUCKETS), and the seconds' sum


class Camera:
    """One camera's line, kept running.

    Args:
        name: letters, digits, - and _.
        config: the camera's own settings.
        pipeline: the shared networks.
        settings: the whole configuration of this line.
        shots: where best shots go, or None.
        notices: each new track is announced there.
    """

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        pipeline: Pipeline,
        settings: Config,
        shots: ShotStore | None,
        notices: Notices,
    ) -> None:
        self.name, self.config, self._shots = name, config, shots
        self.view = LiveView(name)
        self.error = ""
        self.gallery_problem = ""  # why best shots cannot be written just now
        self.gallery_errors = 0
        self.restarts = 0
        self.ages = [0] * (len(BUCKETS_MS) + 1)  # frames by age, the last for older ones
        self.age_sum = 0.0  # seconds, of all of them
        self._stages: dict[str, StageTimes] = {}  # of the lines before this one
        self._settings, self._pipeline = settings, pipeline.variant(settings)
        self._run: Run | None = None
        self._notices, self._newest = notices, 0  # and the newest track that was announced
        self._before = dict.fromkeys(("in", "out", "dropped", "no_signal", "reconnects", "faces", "tracks"), 0)
        self._done: deque[tuple[float, int]] = deque(maxlen=25)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name=f"camera {name}", daemon=True)
        if not config.paused:
            self._thread.start()

    def stop(self) -> None:
        """End soon; what is in flight is still written."""
        self._stopping.set()
        self.view.dismiss()

    @property
    def gone(self) -> bool:
        """It is being, or was, removed."""
        return self._stopping.is_set()

    def join(self, seconds: float) -> None:
        """Wait up to so many seconds for its thread, then let its viewers go."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        self.view.close()

    @property
    def state(self) -> str:
        """A live source's state, or paused, starting or failed."""
        if self.config.paused:
            return "paused"
        run = self._run
        if run is None:
            return "failed" if self.error else "starting"
        return run.source.status().state

    def counts(self) -> dict[str, int]:
        """Totals since the camera was added."""
        counts = self._before.copy()
        if run := self._run:  # taken once: the line may end at any moment
            for key, value in _counted(run).items():
                counts[key] += value
        return counts

    def stages(self) -> dict[str, StageTimes]:
        """How long each stage has worked on each frame since the camera was added, by the stage's name."""
        run = self._run
        return _summed(self._stages, run) if run else self._stages

    def status(self) -> dict[str, Any]:
        """What the page and the API show; no credentials."""
        run = self._run
        return {
            "name": self.name,
            "url": printable(self.config.url),
            "state": self.state,
            "detect_state": self.source_status.detect_state,
            "detect_offset_ms": self.source_status.detect_offset_ms,
            "fps": self._fps(),
            "age_ms": self._ages_ms(run),
            "frames": self.counts(),
            "quality_step": self.quality_step,
            "viewers": self.view.viewers,
            "restarts": self.restarts,
            "error": printable(self.error or (run.source.status().problem if run else "")),
            "gallery_problem": self.gallery_problem,
            "gallery_errors": self.gallery_errors,
            "outputs": [printable(o) for o in self.config.outputs],
        }

    @property
    def source_status(self) -> SourceStatus:
        """What the source says of itself, while there is one."""
        run = self._run
        return run.source.status() if run else SourceStatus()

    @staticmethod
    def _ages_ms(run: Run | None) -> dict[str, float] | None:
        """Of the last hundred frames."""
        if run is None or not run.ages:
            return None
        found = np.percentile(list(islice(reversed(run.ages), 100)), (50, 95, 99)) * 1000
        return {key: round(float(value), 1) for key, value in zip(("p50", "p95", "p99"), found, strict=True)}

    @property
    def quality_step(self) -> int:
        """Steps of quality given up at this moment."""
        run = self._run
        return run.quality_controller.step if run and run.source.info.live else 0  # a recording waits: it has none

    def _fps(self) -> float:
        done = list(self._done)
        if len(done) < 2 or done[-1][0] == done[0][0]:
            return 0.0
        return round((done[-1][1] - done[0][1]) / (done[-1][0] - done[0][0]), 1)

    def _keep_running(self) -> None:
        pause = _RESTART[0]
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._once()
                self.error = ""
            except InputError as error:
                self.error = str(error)
            except Exception as error:  # whatever ends a line concerns this camera only
                self.error = f"{type(error).__name__}: {error}".splitlines()[0]
            if self.error:
                log.error("%s: %s; restarting", self.name, printable(self.error))
            if self._stopping.is_set():
                return
            self.restarts += 1
            pause = _RESTART[0] if time.monotonic() - began > 60 else pause
            self._stopping.wait(pause)
            pause = min(_RESTART[1], 2 * pause)

    def _once(self) -> None:
        """The line, until it ends or fails."""
        live = self._settings.live
        if self.config.detect_url:
            live = live.model_copy(update={"detect_url": self.config.detect_url})
        source = open_source(self.config.url, self._settings.source, live)
        run = None
        try:
            tee = self._pipeline.outputs(list(self.config.outputs), source) if self.config.outputs else None
            changed_by = "a neural network" if self._settings.enhancer.kind == "unet" else "filters"
            source_name, show = source.info.name, self.view.before
            shots = CameraShots(self.name, self._shots, source_name, changed_by, show, self._on_gallery)
            run = self._pipeline.new_run(source, _Watched(self, tee), [shots] if shots else [])
            self._done.clear()
            self._run, self._newest = run, 0
            run.go(watch=self._watch)
        finally:
            if run is not None:
                self._run = None
                for key, value in _counted(run).items():
                    self._before[key] += value
                self._stages = _summed(self._stages, run)
            if run is None or not run.alive:
                source.close()

    def _watch(self, run: Run) -> None:
        self._done.append((time.monotonic(), run.done))
        if self.state == "live":
            self.error = ""
        if self._stopping.is_set():
            run.stop()

    def on_frame(self, item: Rendered) -> None:
        """A finished frame: for the view and the metrics."""
        frame = item.enhanced.scene.frame
        self.view.after(frame.index, item.image, frame.seconds)
        if not frame.no_signal:
            age = time.monotonic() - frame.captured_at
            self.age_sum += age
            self.ages[int(np.searchsorted(BUCKETS_MS, age * 1000))] += 1
        self._announce(item.enhanced.scene)

    def _on_gallery(self, problem: str) -> None:
        """Best shots cannot be written, or with "" can be again."""
        if problem:
            self.gallery_errors += 1
            if not self.gallery_problem:
                log.warning("%s: %s; the recording goes on", self.name, printable(problem))
        elif self.gallery_problem:
            log.info("%s: best shots are written again", self.name)
        self.gallery_problem = printable(problem)

    def _announce(self, scene: Scene) -> None:
        """A notice of each new track."""
        faces = scene.faces
        for row in np.flatnonzero(faces.track > self._newest):
            when = datetime.fromtimestamp(scene.frame.wall_time).astimezone()
            self._notices.submit({
                "event": "track",
                "camera": self.name,
                "track": int(faces.track[row]),
                "time": when.isoformat(timespec="milliseconds"),
                "face_height": round(float(faces.xyxy[row, 3] - faces.xyxy[row, 1])),
                "score": round(float(faces.score[row]), 3),
            })  # fmt: skip
        self._newest = max([self._newest, *faces.track.tolist()])


def _counted(run: Run) -> dict[str, int]:
    status = run.source.status()
    return {
        "in": run.line.workers[0].count,
        "out": run.done,
        "dropped": run.dropped,
        "no_signal": status.no_signal_frames,
        "reconnects": status.reconnects,
        "faces": run.faces,
        "tracks": run.detect.tracks,
    }


def _summed(before: dict[str, StageTimes], run: Run) -> dict[str, StageTimes]:
    summed = dict(before)
    for worker in run.line.workers[1:]:  # the source works when its camera does
        took, busy = summed.get(worker.name, ([0] * len(worker.took), 0.0))
        summed[worker.name] = [a + b for a, b in zip(took, worker.took, strict=True)], busy + worker.busy
    return summed


class _Watched(Sink):
    """The camera's outputs, if it has any, watched by the camera."""

    def __init__(self, camera: Camera, tee: Sink | None) -> None:
        self.name, self._camera, self._tee = camera.name, camera, tee
        self.takes_side_packets = self.upright = False

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        for item in self._tee(items) if self._tee else items:
            self._camera.on_frame(item)
            yield item

    def finish(self) -> None:
        if self._tee:
            self._tee.finish()

    def outputs(self) -> list[dict[str, Any]] | None:
        return self._tee.outputs() if self._tee else None
