"""Many cameras in one process, each a line of its own on shared networks.

Each ``Camera`` runs its line in a thread and begins it anew where it fails, while the others go on undisturbed.
``Supervisor`` adds, removes, pauses and changes them while they run.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import memory
from ..config import Config, merged, validated
from ..errors import ConfigError
from ..pipeline import Pipeline
from .camera import Camera, CameraConfig
from .notices import Notices

_ENDING = 4.5  # seconds from ``stop`` until lines that have not ended are left behind
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class Supervisor:
    """All cameras, by name.

    Args:
        settings: for all of them, as read from YAML.
        gallery: folder for best shots, or None.
        notices: told of each new track; closed with this.

    Raises:
        ConfigError, ModelError: the settings cannot be used.
    """

    def __init__(self, settings: dict[str, Any], gallery: Path | None, notices: Notices | None = None) -> None:
        self.settings, self.gallery, self.notices = settings, gallery, notices or Notices()
        self.pipeline = Pipeline(validated(Config, settings, "settings"), shared=True)
        memory.configure_allocator()
        self._cameras: dict[str, Camera] = {}
        self._filed: dict[str, CameraConfig] = {}  # as ``reconcile`` was last asked for
        self._lock = threading.RLock()
        self.closed = False
        self._stopped_at = 0.0

    def __iter__(self) -> Iterator[Camera]:
        return iter(list(self._cameras.values()))

    def get(self, name: str) -> Camera | None:
        return self._cameras.get(name)

    def put(self, name: str, config: CameraConfig) -> None:
        """Add a camera, or change one: it begins anew, the others go on.

        Raises:
            ConfigError: the name or the settings cannot be used.
        """
        settings = self._checked(name, config)  # told before the old line is ended
        with self._lock:
            if old := self.get(name):  # listed until the new one takes its place
                old.stop()
                old.join(6)
            self._cameras[name] = Camera(name, config, self.pipeline, settings, self.gallery, self.notices)

    def _checked(self, name: str, config: CameraConfig) -> Config:
        """The whole configuration of a camera that can be had."""
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r}: a camera's name has 1 to 40 letters, digits, - and _")
        settings = validated(Config, merged(self.settings, config.settings), f"camera {name}: settings")
        self.pipeline.variant(settings)
        return settings

    def remove(self, name: str) -> bool:
        with self._lock:
            camera = self._cameras.pop(name, None)
        if camera is None:
            return False
        camera.stop()
        camera.join(6)
        return True

    def reconcile(self, wanted: dict[str, CameraConfig]) -> list[str]:
        """Add, change and remove until the cameras are ``wanted``; what each needed, told.

        One that was paused or resumed since, stays so, unless ``wanted`` has another ``paused`` than the last time.

        Raises:
            ConfigError: a name or settings cannot be used; nothing was changed.
        """
        for name, config in wanted.items():
            self._checked(name, config)
        before, self._filed = self._filed, dict(wanted)
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
        """Have all lines end soon."""
        if not self.closed:
            self.closed, self._stopped_at = True, time.monotonic()
        for camera in self:
            camera.stop()

    def close(self) -> None:
        """End all lines, side by side, and let go of the networks."""
        self.stop()
        cameras = list(self._cameras.values())
        self._cameras.clear()
        end = self._stopped_at + _ENDING
        for camera in cameras:
            camera.join(max(0.1, end - time.monotonic()))
        self.notices.close()
        self.pipeline.close()
