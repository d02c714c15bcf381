"""Best shots of all cameras on the disk: a folder for each camera and run, and a ledger of what was written there.

The ledger says which files are ours; nothing else is ever deleted.  A best shot that cannot be written is a loss of its
own: it is logged once and counted, and the camera's recording goes on.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import SinkError
from ..safe_files import Originals, write_whole
from ..sinks.gallery import Gallery
from ..types import Enhanced

log = logging.getLogger(__name__)

LEDGER = ".stream-enhance-files.jsonl"
_EVERY = 60.0  # seconds between deletions
_RETRY = 60.0  # seconds until a gallery that failed is tried again
_LISTED = 200  # best shots that the API lists at most


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of ours."""

    inode: int
    written: float  # seconds since the epoch, of a clock that never jumps
    size: int


class ShotStore:
    """The gallery folder of ``serve``.  Use ``close`` to end its thread.

    Args:
        folder: created if it does not exist.
        keep_hours: age at which a best shot is deleted; 0: never.
        keep_megabytes: size of all best shots above which the oldest are deleted; 0: no limit.
    """

    def __init__(self, folder: Path, keep_hours: float = 0, keep_megabytes: float = 0) -> None:
        self.folder, self._keep_hours, self._keep_bytes = folder, keep_hours, keep_megabytes * 1e6
        self._ledger = folder / LEDGER
        self._lock = threading.Lock()
        # a clock that jumps while we run makes no file old: age is counted from here by the monotonic clock
        self._started, self._started_at = time.time(), time.monotonic()
        self._files: dict[str, _Entry] = {}  # by path within the folder, oldest first
        self._lines = 0
        self._current: dict[str, Path] = {}  # each camera's newest folder, which is not deleted
        self._stopping = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._read()
            if self._files:  # nor does one that jumped while we did not run
                self._started = max(entry.written for entry in self._files.values())
            self._append("")
        except OSError as error:
            log.warning("gallery: %s cannot be written (%s); cameras go on without it", folder, error.strerror)
        self._thread = threading.Thread(target=self._delete_regularly, name="gallery retention", daemon=True)
        if keep_hours or keep_megabytes:
            self._thread.start()

    def close(self) -> None:
        """End the thread that deletes old galleries; waits 5 s at most."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def create(self, camera: str) -> Path:
        """A new folder for a camera's best shots: tracks are numbered from 1 in each run.

        Raises:
            OSError: it cannot be created.
        """
        base = self.folder / camera / datetime.now().strftime("%Y%m%d-%H%M%S")
        for number in range(1, 1000):
            folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            self._current[camera] = folder
            return folder
        raise FileExistsError(17, "too many folders of this second", str(base))

    def record(self, path: Path) -> None:
        """Note that ``path`` was written by this program.

        Raises:
            OSError: the ledger cannot be written.
        """
        if path.name.startswith("."):
            return
        about = path.lstat()
        name = path.relative_to(self.folder).as_posix()
        entry = _Entry(about.st_ino, self._now(), about.st_size)
        with self._lock:
            self._append(_line(name, entry))
            self._lines += 1
            self._files.pop(name, None)
            self._files[name] = entry

    def delete_expired(self) -> None:
        """Delete what is too old or too much, oldest first, of the files that the ledger has."""
        with self._lock:
            total, now = sum(entry.size for entry in self._files.values()), self._now()
            for name in list(self._files):
                pair = [name, name.replace("_before.png", "_after.png")]  # they go together
                if name not in self._files or not self._expired(self._files[name], total, now):
                    continue
                for each in dict.fromkeys(pair):
                    if entry := self._files.pop(each, None):
                        total -= entry.size
                        self._delete(self.folder / each, entry)
            if self._lines > 2 * len(self._files):
                self._rewrite()

    def _expired(self, entry: _Entry, total: int, now: float) -> bool:
        old = self._keep_hours and now - entry.written > self._keep_hours * 3600
        return bool(old or (self._keep_bytes and total > self._keep_bytes))

    def find(self, camera: str | None) -> list[dict[str, Any]]:
        """Best shots on the disk, of one camera or of all, newest first."""
        shots: list[dict[str, Any]] = []
        for path in self.folder.glob(f"{camera or '*'}/*/track_*_after.png"):
            try:
                written = path.stat().st_mtime
            except OSError:  # replaced or deleted this very moment
                continue
            base = f"/shots/{path.parent.parent.name}/{path.parent.name}/{path.name.removesuffix('_after.png')}"
            shots.append({
                "camera": path.parent.parent.name, "track": int(path.name.split("_")[1]), "written": written,
                "before": f"{base}_before.png", "after": f"{base}_after.png",
            })  # fmt: skip
        return sorted(shots, key=lambda shot: -float(shot["written"]))[:_LISTED]

    def _now(self) -> float:
        return self._started + time.monotonic() - self._started_at

    def _delete_regularly(self) -> None:
        while not self._stopping.wait(_EVERY):
            try:
                self.delete_expired()
            except OSError as error:
                log.warning("gallery: %s: old best shots cannot be deleted (%s)", self.folder, error.strerror)

    def _delete(self, path: Path, entry: _Entry) -> None:
        try:
            if path.lstat().st_ino != entry.inode:  # someone else's file has that name now
                return
            path.unlink()
        except FileNotFoundError:
            return
        log.info("%s: deleted, as gallery_keep_hours and gallery_keep_megabytes ask", path)
        if path.parent not in self._current.values() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def _read(self) -> None:
        try:
            number = os.open(self._ledger, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            return
        with os.fdopen(number, encoding="utf-8", errors="replace") as ledger:
            text = ledger.read()
        for line in text.splitlines():
            self._lines += 1
            try:
                written = json.loads(line)
                name = str(written["path"])
                entry = _Entry(int(written["inode"]), float(written["written"]), int(written["size"]))
            except (
                ValueError,
                KeyError,
                TypeError,
                OverflowError,
            ):  # cut off by a power failure: an unknown file is kept
                continue
            if not Path(name).is_absolute() and ".." not in Path(name).parts:
                self._files.pop(name, None)
                self._files[name] = entry

    def _rewrite(self) -> None:
        text = "".join(_line(name, entry) for name, entry in self._files.items())
        write_whole(self._ledger, text.encode(), Originals(), replace=True)
        self._lines = len(self._files)

    def _append(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(self._ledger, flags, 0o666), "w", encoding="utf-8") as ledger:
            ledger.write(line)


def _line(name: str, entry: _Entry) -> str:
    fields = {"path": name, "inode": entry.inode, "written": round(entry.written, 3), "size": entry.size}
    return json.dumps(fields) + "\n"


class CameraShots:
    """Best shots of one run of a camera, as ``Run`` takes a gallery; what cannot be written is counted.

    Args:
        camera: its name.
        store: where they go; None: nowhere.
        source, changed_by: see ``Gallery``.
        show: called with each frame first.
        failed: called with the problem when a shot cannot be written, and with "" when one can again.
    """

    def __init__(
        self,
        camera: str,
        store: ShotStore | None,
        source: str,
        changed_by: str,
        show: Callable[[Enhanced], None],
        failed: Callable[[str], None],
    ) -> None:
        self._camera, self._store, self._source, self._changed_by = camera, store, source, changed_by
        self._show, self._failed = show, failed
        self._gallery: Gallery | None = None
        self._retry_at = 0.0  # time.monotonic()

    def observe(self, item: Enhanced) -> None:
        """Show the frame and keep the best shots; a full disk is reported, never raised."""
        self._show(item)
        if self._store is None or time.monotonic() < self._retry_at:
            return
        if self._gallery is None and not len(item.faces):  # no folder for a run that shows nobody
            return
        try:
            if self._gallery is None:
                self._gallery = Gallery(
                    self._store.create(self._camera), self._source, self._changed_by, self._store.record
                )
                self._failed("")
            self._gallery.observe(item)
            problem = self._gallery.problem
        except (SinkError, OSError) as error:
            problem = str(error.strerror if isinstance(error, OSError) else error)
        if problem:  # a new gallery is begun after a while
            self._gallery, self._retry_at = None, time.monotonic() + _RETRY
            self._failed(_problem(problem))

    def close(self) -> None:
        """Write the last shots, without a contact sheet."""
        if self._gallery:
            self._gallery.close(sheet=False)  # many cameras may have to end within seconds
            if self._gallery.problem:
                self._failed(_problem(self._gallery.problem))


def _problem(reason: str) -> str:
    return f"best shots cannot be written: {reason}"
