"""SHA-256 of every file of a case, in the format of coreutils' ``sha256sum``: ``sha256sum -c SHA256SUMS`` checks it."""

from __future__ import annotations

from pathlib import Path

from ...errors import SinkError
from ...evidence.seal import SEAL, SIGNATURE, TIMESTAMP, VERIFIED
from ...safe_files import Originals, write_whole
from .footage import sha256_of

NAME = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over every file in ``folder`` but the seal, which names it.

    Raises:
        SinkError: it cannot be written.
    """
    made_later = {NAME, SEAL, SIGNATURE, TIMESTAMP, VERIFIED}
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.relative_to(folder).as_posix() not in made_later]
    lines = [_line(sha256_of(path), path.relative_to(folder).as_posix()) for path in files]
    try:
        write_whole(folder / NAME, "".join(lines).encode(), Originals(), replace=True)
    except OSError as error:
        raise SinkError(f"{folder / NAME}: cannot be written ({error.strerror})") from None


def _line(sha256: str, name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n"  # coreutils begins such a line with a backslash
