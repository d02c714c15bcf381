"""Compiled engines on the disk: where they are kept, what each was built for, and whether it is whole.

An engine works with one model, one library version, one kind of GPU and one precision only, so that its file name is
made of these; beside it lies a card in JSON that says them in words, with the SHA-256 of the engine's bytes.  An engine
that is truncated, or that lies beside another's card, is refused by that.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ModelError
from ..safe_files import Originals, write_whole

Library = Literal["tensorrt", "tensorrt-rtx"]
Precision = Literal["fp32", "fp16"]


class EngineKey(BaseModel):
    """What an engine was built from and for; another value of any of these needs another engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str  # the model file's name
    model_sha256: str
    library: Library
    library_version: str
    target: str  # compute capability, such as sm86
    precision: Precision
    profile: str  # least, usual and largest input, such as 1x3x256x256..4x3x256x256..16x3x256x256
    driver: str = ""  # "": built ahead of time, kernels are compiled on the card at first use

    @property
    def file_name(self) -> str:
        """Of the engine; alike for alike keys."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
        return f"{Path(self.model).stem}.{self.precision}.{self.target}.{digest}.engine"


def difference(found: EngineKey, wanted: EngineKey) -> str:
    """The first thing that an engine of ``found`` was built for and ``wanted`` is not; "" where there is none."""
    for name, value in wanted.model_dump().items():
        if (other := getattr(found, name)) != value:
            return f"built for {name} {other}, not {value}"
    return ""


class EngineCard(BaseModel):
    """What lies beside an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: EngineKey
    sha256: str  # of the engine's bytes
    size: int  # bytes
    built_at: float  # seconds since the epoch
    build_seconds: float


def cache_folder(configured: Path | None = None) -> Path:
    """Where engines are kept: ``configured``, or ``stream-enhance/engines`` in the user's cache folder; made here.

    Raises:
        ModelError: it cannot be written to.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = configured or base / "stream-enhance" / "engines"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write there")
    except OSError as error:
        raise ModelError(
            f"{folder}: compiled engines cannot be kept there ({error.strerror}); set engine_cache to another folder"
        ) from None
    return folder


def store(folder: Path, key: EngineKey, engine: bytes, build_seconds: float) -> Path:
    """Write ``engine`` and its card into ``folder``; the engine's path.

    Raises:
        ModelError: they cannot be written.
    """
    path = folder / key.file_name
    card = EngineCard(
        key=key,
        sha256=hashlib.sha256(engine).hexdigest(),
        size=len(engine),
        built_at=time.time(),
        build_seconds=round(build_seconds, 3),
    )
    try:
        for target, content in ((path, engine), (card_of(path), card.model_dump_json(indent=1).encode())):
            write_whole(target, content, Originals(), replace=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror}); free some space and build it again") from None
    return path


def card_of(path: Path) -> Path:
    """Where the card of the engine ``path`` is."""
    return path.with_name(f"{path.name}.json")


def read_card(path: Path) -> EngineCard:
    """The card of the engine ``path``.

    Raises:
        ModelError: there is none, or it is not one.
    """
    try:
        return EngineCard.model_validate_json(card_of(path).read_bytes())
    except OSError:
        raise ModelError(f"{path}: has no card beside it; build it with `stream-enhance engine build`") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise ModelError(f"{card_of(path)}: not an engine's card ({problem['msg']}); build it again") from None


def load(path: Path, key: EngineKey) -> bytes:
    """The engine ``path``, after a check that it is whole and was built for ``key``.

    Raises:
        ModelError: it is missing, truncated, another's, or of another version or card; says which.
    """
    card = read_card(path)
    if differs := difference(card.key, key):
        raise ModelError(f"{path}: {differs}; build it again")
    try:
        engine = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); build it again") from None
    if len(engine) != card.size:
        raise ModelError(f"{path}: holds {len(engine)} bytes, its card says {card.size}; build it again")
    if hashlib.sha256(engine).hexdigest() != card.sha256:
        raise ModelError(f"{path}: is not the engine that its card describes; build it again")
    return engine


def listing(folder: Path) -> Iterator[tuple[Path, EngineCard | ModelError]]:
    """Every engine in ``folder`` with its card, or with what is wrong with it."""
    for path in sorted(folder.glob("*.engine")):
        try:
            card = read_card(path)
            load(path, card.key)
        except ModelError as error:
            yield path, error
        else:
            yield path, card


def prune(folder: Path, models: dict[str, str], versions: dict[str, str]) -> list[tuple[Path, str]]:
    """Delete what can no longer be used; each deleted engine and why.

    Args:
        folder: where engines are.
        models: SHA-256 of the model files in use, by file name.
        versions: the installed libraries' versions, by library.
    """
    deleted = []
    for path, card in listing(folder):
        if isinstance(card, ModelError):
            why = "damaged"
        elif models.get(card.key.model) not in (None, card.key.model_sha256):
            why = "its model has changed"
        elif versions.get(card.key.library) not in (None, card.key.library_version):
            why = f"built by {card.key.library} {card.key.library_version}"
        else:
            continue
        card_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        deleted.append((path, why))
    return deleted
