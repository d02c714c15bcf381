"""Which files in a folder were recorded by this program, in the order in which they were begun.

One line of JSON a file, appended when the file is begun and again when it is finished.  Retention deletes by this list
alone: what somebody else has put there, whatever it is called, is left alone, and so is a recording that was changed
or replaced since.  Age is counted in the ledger's own seconds, which pass only while a recorder runs and do not jump
with the clock.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import SinkError
from ..safe_files import Originals, wait_for_lock, write_whole

log = logging.getLogger(__name__)

LEDGER = ".stream-enhance-recordings.jsonl"
_HEAD = 64 * 1024  # bytes, in which containers hold their comment
_MANY = 1000  # lines, from which on it is rewritten when a recorder starts


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that was recorded here."""

    name: str
    output: str  # the output's name that it belongs to
    inode: int
    begun: float  # seconds of the ledger's time
    size: int | None = None  # bytes, once it was finished; None: it was not, as of a run that was killed


class Ledger:
    """The recordings of one output in one folder.

    Args:
        folder: where they are.
        output: the name that tells this output's files from those of others in the same folder.
    """

    def __init__(self, folder: Path, output: str) -> None:
        self._folder, self._path, self._output = folder, folder / LEDGER, output
        self._lock = threading.Lock()
        self._lost: list[dict[str, Any]] = []  # lines that could not be written, as on a full disk
        self._warned = False
        self._compact()
        known = [line.get("at", 0.0) for line in self._lines()]
        self._since = max(known, default=0.0) - time.monotonic()

    def begun(self, name: str, inode: int) -> None:
        """``name`` was created here just now."""
        self._append({"file": name, "output": self._output, "inode": inode, "at": self._now()})

    def finished(self, name: str, inode: int, size: int) -> Entry:
        """``name`` is written to its end."""
        now = self._now()
        self._append({"file": name, "output": self._output, "inode": inode, "at": now, "size": size})
        return Entry(name, self._output, inode, now, size)

    def entries(self) -> list[Entry]:
        """This output's files that are still there as they were recorded, the oldest first."""
        return [e for e in _standing(self._lines()) if e.output == self._output and self._is_ours(e)]

    def age(self, entry: Entry) -> float:
        """Seconds, of the ledger's time, since ``entry`` was begun."""
        return self._now() - entry.begun

    def size(self, entry: Entry) -> int:
        """Bytes, now; 0 where it is gone."""
        try:
            return os.lstat(self._folder / entry.name).st_size
        except OSError:
            return 0

    def delete(self, entry: Entry, originals: Originals) -> bool:
        """Delete a file that was recorded here; whether it is gone."""
        path = self._folder / entry.name
        if path in originals or not self._is_ours(entry):
            return False
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be deleted (%s), though its time is over", path, error.strerror)
            return False
        self._append({"file": entry.name, "output": self._output, "inode": entry.inode, "deleted": True})
        return True

    def _is_ours(self, entry: Entry) -> bool:
        """Whether the file of that name is the one that was recorded, unchanged."""
        try:
            about = os.lstat(self._folder / entry.name)
        except OSError:
            return False
        if about.st_ino != entry.inode:
            return False
        return about.st_size == entry.size if entry.size is not None else self._has_label(entry)

    def _has_label(self, entry: Entry) -> bool:
        """Whether a file of unknown size, of a run that was killed, says that this program made it.

        Its inode alone proves nothing: it may have been given to another file since.
        """
        try:
            number = os.open(self._folder / entry.name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(number, "rb") as file:
                return b"stream-enhance" in file.read(_HEAD)
        except OSError:
            return False

    def _now(self) -> float:
        return round(self._since + time.monotonic(), 3)

    def _append(self, line: dict[str, Any]) -> None:
        """Add a line; a recording matters more than its entry here, so a full disk gives a warning only."""
        try:
            with self._lock, _locked(self._path) as number:
                data = f"\n{json.dumps(line)}\n".encode()  # a line that a full disk cut short damages no other
                if os.write(number, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._lost.append(line)
            if not self._warned:
                why = error.strerror
                log.warning("%s: cannot be written (%s); what is recorded now may be kept too long", self._path, why)
            self._warned = True

    def _compact(self) -> None:
        """Rewrite the ledger without the files that are gone, for all outputs in the folder."""
        with suppress(OSError, SinkError), self._lock, _locked(self._path):
            lines = self._lines()
            if len(lines) < _MANY:
                return
            kept = [e for e in _standing(lines) if os.path.lexists(self._folder / e.name)]
            now = max((line.get("at", 0.0) for line in lines), default=0.0)
            texts = [json.dumps({"file": e.name, "output": e.output, "inode": e.inode, "at": e.begun, "size": e.size})
                     for e in kept]  # fmt: skip
            data = "\n".join([json.dumps({"at": now}), *texts, ""]).encode()
            write_whole(self._path, data, Originals(), replace=True)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            number = os.open(self._path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(number, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:  # none yet
            text = ""
        return [line for line in map(_parsed, text.splitlines()) if line is not None] + self._lost


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file descriptor of ``path``, opened to append, while no other process appends to it or rewrites it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    while True:
        number = os.open(path, flags, 0o666)
        try:
            wait_for_lock(number)
            if os.path.lexists(path) and os.lstat(path).st_ino == os.fstat(number).st_ino:  # not replaced meanwhile
                yield number
                return
        finally:
            os.close(number)


def _standing(lines: list[dict[str, Any]]) -> list[Entry]:
    """The files that ``lines`` say were begun and not deleted, in the order of their beginning."""
    found: dict[tuple[str, int], Entry] = {}
    for line in lines:
        if (entry := _entry(line)) is None:
            continue
        key = entry.name, entry.inode
        if line.get("deleted"):
            found.pop(key, None)
        elif (known := found.get(key)) is not None:
            found[key] = replace(entry, begun=known.begun)
        else:
            found[key] = entry
    return list(found.values())


def _parsed(text: str) -> dict[str, Any] | None:
    """A line of the ledger; None where a crash or somebody has damaged it."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("at", 0.0), (int, float)) else None


def _entry(line: dict[str, Any]) -> Entry | None:
    match line:
        case {"file": str(name), "output": str(output), "inode": int(inode)} if name == os.path.basename(name) != "":
            size = line.get("size")
            return Entry(name, output, inode, line.get("at", 0.0), size if isinstance(size, int) else None)
    return None
