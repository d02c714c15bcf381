"""Many cameras in one process, each a line of its own on shared networks.

Each ``Camera`` runs its line in a thread and restarts it where it fails, while the others go on undisturbed.
``Supervisor`` adds, removes, pauses and changes them while they run.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from .. import memory
from ..config import Config, merged, validated
from ..errors import ConfigError
from ..pipeline import Pipeline
from .camera import Camera
from .config import NAME, CameraConfig
from .notices import Notices
from .shots import ShotStore

_ENDING = 4.5  # seconds from ``stop`` until lines that have not ended are abandoned


class Supervisor:
    """All cameras, by name.

    Args:
        settings: for all of them, as read from YAML.
        shots: where best shots go, or None; closed with this.
        notices: each new track is announced there; closed with this.
        detector_megapixels: what one camera's detector may be shown of each frame, tiles included.

    Raises:
        ConfigError, ModelError: the settings cannot be used.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        shots: ShotStore | None = None,
        notices: Notices | None = None,
        detector_megapixels: float = 10,
    ) -> None:
        self.settings, self.shots, self.notices = settings, shots, notices or Notices()
        self._detector_megapixels = detector_megapixels
        self.pipeline = Pipeline(validated(Config, settings, "settings"), shared=True)
        memory.configure_allocator()
        self._cameras: dict[str, Camera] = {}
        self._wanted: dict[str, CameraConfig] = {}  # as ``reconcile`` was last called with
        self._lock = threading.RLock()
        self.closed = False
        self._stopped_at = 0.0

    def __iter__(self) -> Iterator[Camera]:
        return iter(list(self._cameras.values()))

    def __len__(self) -> int:
        return len(self._cameras)

    def get(self, name: str) -> Camera | None:
        """The camera of that name, or None."""
        return self._cameras.get(name)

    def put(self, name: str, config: CameraConfig) -> None:
        """Add a camera, or change one: it is restarted, the others go on.

        Raises:
            ConfigError: the name or the settings cannot be used.
        """
        settings = self._checked(name, config)  # before the old line is ended
        with self._lock:
            if old := self.get(name):  # listed until the new one takes its place
                old.stop()
                old.join(6)
            self._cameras[name] = Camera(name, config, self.pipeline, settings, self.shots, self.notices)

    def _checked(self, name: str, config: CameraConfig) -> Config:
        """The whole configuration of a camera.

        Raises:
            ConfigError: its name or its settings cannot be used.
        """
        if not re.fullmatch(NAME, name):
            raise ConfigError(f"{name!r}: a camera's name has 1 to 40 letters, digits, - and _")
        settings = validated(Config, merged(self.settings, config.settings), f"camera {name}: settings")
        self._check_share(name, settings)
        self.pipeline.variant(settings)
        return settings

    def _check_share(self, name: str, settings: Config) -> None:
        """Refuse a camera that would leave too little of the shared detector to the others."""
        size, tiles = (
            settings.detector.size or self.pipeline.sessions["face-detection"].card.size,
            settings.detector.tiles,
        )
        megapixels = size**2 * (tiles**2 + 1 if tiles > 1 else 1) / 1e6
        if megapixels > self._detector_megapixels:
            raise ConfigError(
                f"camera {name}: settings: detector.size {size} with detector.tiles {tiles} is {megapixels:.1f} "
                f"megapixels per frame; detector_megapixels allows {self._detector_megapixels:g}; lower one of them"
            )

    def remove(self, name: str) -> bool:
        """End a camera and forget it; whether there was one of that name."""
        with self._lock:
            camera = self._cameras.pop(name, None)
        if camera is None:
            return False
        camera.stop()
        camera.join(6)
        return True

    def reconcile(self, wanted: dict[str, CameraConfig]) -> list[str]:
        """Add, change and remove until the cameras are ``wanted``; a phrase for each that needed it.

        One that was paused or resumed since stays so, unless ``wanted`` has another ``paused`` than the last time.

        Raises:
            ConfigError: a name or settings cannot be used; nothing was changed.
        """
        for name, config in wanted.items():
            self._checked(name, config)
        before, self._wanted = self._wanted, dict(wanted)
        done = []
        for name in [camera.name for camera in self if camera.name not in wanted]:
            self.remove(name)
            done.append(f"{name} removed")
        for name, config in wanted.items():
            known = self.get(name)
            if known and name in before and config.paused == before[name].paused:
                config = config.model_copy(update={"paused": known.config.paused})
            if known is None or known.config != config:
                self.put(name, config)
                done.append(f"{name} {'changed' if known else 'added'}")
        return done

    def stop(self) -> None:
        """Ask all lines to end."""
        if not self.closed:
            self.closed, self._stopped_at = True, time.monotonic()
        for camera in self:
            camera.stop()

    def close(self) -> None:
        """End all lines, side by side, and close the networks."""
        self.stop()
        cameras = list(self._cameras.values())
        self._cameras.clear()
        end = self._stopped_at + _ENDING
        for camera in cameras:
            camera.join(max(0.1, end - time.monotonic()))
        self.notices.close()
        if self.shots:
            self.shots.close()
        self.pipeline.close()
