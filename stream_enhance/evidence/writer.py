"""Writes a manifest line by line; what a kill leaves can be read up to the last few seconds."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

from ..safe_files import Originals, create, publish
from .manifest import GENESIS, Line, chained

_FLUSH = 2.0  # seconds between points up to which a file that was cut off can be read


class ManifestWriter:
    """A manifest that has its name once it is whole, and ``.part`` behind it until then.

    Args:
        path: its name.
        originals: what is being read.
        replace: a file that is there.
        previous: chain value that its first line follows.

    Raises:
        OSError: it cannot be created; FileExistsError where there is one.
    """

    def __init__(self, path: Path, originals: Originals, replace: bool = False, previous: str = GENESIS) -> None:
        self.path, self.chain = path, previous
        self._part, self._originals, self._replace = path.with_name(f"{path.name}.part"), originals, replace
        self._deflate = zlib.compressobj(wbits=31)
        self._flushed = time.monotonic()
        self._file = create(self._part, originals, replace)

    def add(self, line: Line) -> None:
        """Append ``line``.

        Raises:
            OSError: it cannot be written; so does every call after that.
        """
        self.chain, text = chained(self.chain, line)
        data = self._deflate.compress(text)
        if time.monotonic() - self._flushed > _FLUSH:
            data += self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._flushed = time.monotonic()
        if data:
            self._file.write(data)

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            OSError: it cannot be written or renamed; it is closed all the same.
        """
        try:
            self._file.write(self._deflate.flush())
        finally:
            self._file.close()
        publish(self._part, self.path, self._originals, self._replace)
