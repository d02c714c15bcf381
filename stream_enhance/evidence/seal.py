"""The seal of an evidence folder: what belongs to it, the hash of each file, signed and, where wanted, timestamped.

``seal.json`` also holds the certificate, so that its signature covers it; ``seal.json.sig`` is ECDSA with SHA-256, DER:
``openssl dgst -sha256 -verify public.pem -signature seal.json.sig seal.json`` checks it without this program.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..backends.card import file_sha256
from ..errors import EvidenceError
from ..safe_files import Originals, write_whole
from .keys import Identity
from .manifest import FileEntry, Sha256

SEAL, SIGNATURE, TIMESTAMP = "seal.json", "seal.json.sig", "seal.json.tsr"
VERIFIED = "verify.txt"  # what ``verify`` said of the sealed folder; to be made again rather than believed


class Head(BaseModel):
    """The last chain value of a manifest or of a part of one."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    path: str
    chain: Sha256


class Seal(BaseModel):
    """What ``seal.json`` holds.  Paths are relative to its folder."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    format: Literal["stream-enhance-seal"] = "stream-enhance-seal"
    version: Literal[1] = 1
    created: str = Field(description="ISO 8601, UTC, by this machine's clock.")
    manifests: tuple[Head, ...]
    files: tuple[FileEntry, ...]
    certificate: str = Field(description="PEM, the signer's first.")


def entry_of(path: Path, folder: Path) -> FileEntry:
    """Size and hash of ``path``, named relative to ``folder``.

    Raises:
        EvidenceError: it cannot be read.
    """
    try:
        return FileEntry(path=entry_path(path, folder), bytes=path.stat().st_size, sha256=file_sha256(path))
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read to be hashed ({error.strerror})") from None


def write_seal(
    folder: Path,
    files: Iterable[Path],
    heads: Iterable[tuple[Path, str]],
    identity: Identity,
    *,
    tsa: str | None = None,
    replace: bool = False,
    known: Mapping[Path, FileEntry] | None = None,
) -> Path:
    """Write the seal of ``folder``, its signature and, with ``tsa``, its timestamp.

    Args:
        folder: exists.
        files: all that belongs to it, in it or beside it; each is read once to be hashed.
        heads: each manifest and its last chain value.
        identity: who signs.
        tsa: URL of a timestamp authority (RFC 3161).
        replace: a seal that is there.
        known: files whose entries are known; they are not read again.

    Returns:
        The path of ``seal.json``.

    Raises:
        EvidenceError: a file cannot be read or written, or the authority gives no timestamp; of the latter the seal is
            complete without it.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    seal = Seal(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        manifests=tuple(Head(path=entry_path(path, folder), chain=chain) for path, chain in heads),
        files=tuple((known or {}).get(path) or entry_of(path, folder) for path in sorted(set(files))),
        certificate=identity.pem,
    )
    data = seal.model_dump_json(indent=1).encode() + b"\n"
    signature = identity.key.sign(data, ec.ECDSA(hashes.SHA256()))
    try:
        write_whole(folder / SEAL, data, Originals(), replace)
        write_whole(folder / SIGNATURE, signature, Originals(), replace)
        if replace:
            (folder / TIMESTAMP).unlink(missing_ok=True)  # of another seal
        if tsa:
            from .timestamp import timestamp

            write_whole(folder / TIMESTAMP, timestamp(data, tsa), Originals(), replace)
    except OSError as error:
        raise EvidenceError(f"{folder / SEAL}: cannot be written ({error.strerror})") from None
    return folder / SEAL


def entry_path(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``, with /."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def read_seal(folder: Path) -> tuple[Seal, bytes]:
    """The seal in ``folder``, and its bytes; nothing is checked yet.

    Raises:
        EvidenceError: there is none, or it is damaged.
    """
    path = folder / SEAL
    try:
        data = path.read_bytes()
        return Seal.model_validate_json(data), data
    except FileNotFoundError:
        raise EvidenceError(f"{path}: is missing; the run did not end, or the file was removed") from None
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError:
        raise EvidenceError(f"{path}: is damaged or was changed; take it from a backup") from None
