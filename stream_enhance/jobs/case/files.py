"""How a case and what is taken out of it reach the disk, and SHA-256 sums of it all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...backends.card import file_sha256
from ...errors import SinkError, SourceError
from ...evidence.seal import SEAL, SIGNATURE, TIMESTAMP, VERIFIED
from ...safe_files import Originals, write_whole

SUMS = "SHA256SUMS"


def make_folder(folder: Path, *parts: str) -> None:
    """Make ``folder``, which is new or empty, with its ``parts``.

    Raises:
        SinkError: it holds something, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SinkError(f"{folder}: holds something already; name a new folder")
        for name in parts:
            (folder / name).mkdir()
    except OSError as error:
        raise SinkError(f"{folder}: cannot be made ({error.strerror})") from None


def write(path: Path, content: bytes) -> None:
    """Write a file in one piece, in place of one that is there.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        write_whole(path, content, Originals(), replace=True)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror})") from None


def png(rgb: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB as PNG."""
    return cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS``, which ``sha256sum -c`` checks, over every file in ``folder`` but the seal, which names it.

    Raises:
        SinkError: it cannot be written.
        SourceError: a file cannot be read.
    """
    made_later = {SUMS, SEAL, SIGNATURE, TIMESTAMP, VERIFIED}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [_line(sha256_of(folder / name), name) for name in names if name not in made_later]
    write(folder / SUMS, "".join(lines).encode())


def _line(sha256: str, name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n"  # coreutils begins such a line with a backslash
