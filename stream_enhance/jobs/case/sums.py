"""SHA-256 of every file of a case, in the format of coreutils' ``sha256sum``: ``sha256sum -c SHA256SUMS`` checks it."""

from __future__ import annotations

from pathlib import Path

from ...errors import SinkError
from ...safe_files import Originals, write_whole
from .footage import sha256_of

NAME = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over every other file in ``folder``.

    Raises:
        SinkError: it cannot be written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    try:
        write_whole(folder / NAME, "".join(lines).encode(), Originals(), replace=True)
    except OSError as error:
        raise SinkError(f"{folder / NAME}: cannot be written ({error.strerror})") from None
