"""The one way in which outputs reach the disk: nothing that is being read, and nothing of anyone else's, is harmed.

A file is created where there is none (``O_EXCL``, so no link is followed either), under a temporary name where it is
to be whole, and only given its final name by ``publish``.  What may be deleted is what a ``Ledger`` in the same folder
says was created here.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import SinkError

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NAME_BYTES = 255  # of a file's name, on all common file systems
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


@dataclass(frozen=True, slots=True)
class Originals:
    """What is being read, which is never written over nor deleted."""

    files: frozenset[tuple[int, int]] = frozenset()  # device and inode; a folder and what is in it count too

    @classmethod
    def of(cls, *names: str | os.PathLike[str]) -> Originals:
        """The files that sources of these names read, and standard input where that is a file.

        A name that is no file, such as a URL, stands for nothing.
        """
        files = set()
        if (piped := _regular_stdin()) is not None:
            files.add(piped)
        for name in names:
            try:
                about = os.stat(name)
            except (OSError, ValueError):  # a camera's name
                continue
            files.add((about.st_dev, about.st_ino))
            if stat.S_ISDIR(about.st_mode):
                files.update(_files_in(Path(name)))
        return cls(frozenset(files))

    def __contains__(self, path: object) -> bool:
        """Whether ``path``, or what it links to, is one of them."""
        assert isinstance(path, (str, os.PathLike))
        for look in (os.stat, os.lstat):
            try:
                about = look(path)
            except (OSError, ValueError):
                continue
            if (about.st_dev, about.st_ino) in self.files:
                return True
        return False

    def refuse(self, *paths: Path) -> None:
        """Check that none of ``paths`` is one of them.

        Raises:
            SinkError: one is.
        """
        for path in paths:
            if path in self:
                raise SinkError(f"{path}: is the original, which is never written over; name another output")


def _regular_stdin() -> tuple[int, int] | None:
    try:
        about = os.fstat(0)
    except OSError:  # closed
        return None
    return (about.st_dev, about.st_ino) if stat.S_ISREG(about.st_mode) else None


def _files_in(folder: Path) -> Iterable[tuple[int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                about = entry.stat()
            except OSError:  # a dangling link
                continue
            yield about.st_dev, about.st_ino


class OutputFile:
    """A file that was created here, written by a muxer through PyAV; every byte is in the system's hands at once."""

    def __init__(self, path: Path) -> None:
        """Create ``path``.

        Raises:
            OSError: it cannot be; FileExistsError where there is anything of that name, a link included.
        """
        self.path = path
        self._error: OSError | None = None  # the first
        self._file = io.FileIO(os.open(path, _CREATE, 0o666), "r+b")
        self.inode = os.fstat(self._file.fileno()).st_ino
        try_lock(self._file.fileno())  # until it is closed: see ``create``

    def write(self, data: bytes) -> int:
        """Write all of ``data``; after one OSError every call raises it again."""
        if self._error is not None:  # a muxer's last words would damage what can be played up to here
            raise self._error
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._error = error
            raise
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to ``offset``, as ``io.IOBase.seek`` does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def create(path: Path, originals: Originals, replace: bool = False) -> OutputFile:
    """A new file at ``path``, in place of one that is there only with ``replace``.

    Raises:
        SinkError: it is the original, or another run is writing it.
        OSError: it cannot be created; FileExistsError where something is there.
    """
    if replace and os.path.lexists(path):
        originals.refuse(path)
        if path.is_file() and not path.is_symlink() and _is_locked(path):
            raise SinkError(f"{path}: another run is writing it; wait for that, or name another output")
        path.unlink()
    return OutputFile(path)


def try_lock(number: int) -> bool:
    """Lock an open file against other processes that ask; false where one of them has it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # some network file systems have none
    return True


def wait_for_lock(number: int) -> None:
    """Lock an open file against other processes that ask, once they have let it go."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    with suppress(OSError):  # some network file systems have no locks
        fcntl.flock(number, fcntl.LOCK_EX)


def _is_locked(path: Path) -> bool:
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        return not try_lock(number)
    finally:
        os.close(number)


def publish(part: Path, final: Path, originals: Originals, replace: bool = False) -> None:
    """Give the finished file ``part`` its name ``final``, which is free unless ``replace``.

    Raises:
        SinkError: that is the original.
        OSError: it cannot be renamed; FileExistsError where something has taken the name meanwhile.
    """
    originals.refuse(final)
    if replace:
        os.replace(part, final)
        return
    try:
        os.link(part, final, follow_symlinks=False)  # unlike a rename, it replaces nothing
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
        os.rename(part, final)
    else:
        os.unlink(part)


def refuse_long_name(path: Path) -> None:
    """Check that a file system can hold a name as long as that of ``path``.

    Raises:
        SinkError: it cannot.
    """
    if (length := len(os.fsencode(path.name))) > _NAME_BYTES:
        raise SinkError(f"{path.name[:40]}...: is a name of {length} bytes, above {_NAME_BYTES}; choose a shorter one")


def shortened(before: str, stem: str, after: str) -> str:
    """``before``, ``stem`` and ``after`` as one file name, with a digest in place of a long stem's end."""
    room = _NAME_BYTES - len(os.fsencode(before + after))
    encoded = os.fsencode(stem)
    if len(encoded) <= room:
        return f"{before}{stem}{after}"
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{before}{os.fsdecode(encoded[: room - 17]).encode('utf-8', 'ignore').decode()}-{digest}{after}"


def write_whole(path: Path, data: bytes, originals: Originals, replace: bool = False) -> None:
    """Write a small file in one piece: it has its name once all of it is on the disk.

    Raises:
        SinkError: it is the original.
        OSError: it cannot be written; FileExistsError where something is there and not ``replace``.
    """
    originals.refuse(path)
    if not replace and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    part = path.with_name(shortened(".", path.name, f".{os.getpid()}.part"))
    file = create(part, originals, replace=True)  # of a process of the same number that was killed
    try:
        try:
            file.write(data)
        finally:
            file.close()
        publish(part, path, originals, replace)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
