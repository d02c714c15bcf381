"""Providers that compile a network for one card, which takes minutes: the line runs on the next best one meanwhile.

onnxruntime keeps what TensorRT compiles in the engine cache.  Beside it we note the ``EngineKey`` that it was compiled
for.  Where the note is missing or differs (another model, library, driver or card), a process of its own compiles the
network again, and ``SwappingSession`` takes the compiled one between two batches.
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import ModelError
from ..safe_files import Originals, write_whole
from . import Session, infer
from .card import Card
from .engines import EngineKey, Library, difference
from .preprocessing import Batch
from .tensorrt_rtx import profile_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

COMPILED: dict[str, tuple[Library, tuple[str, ...]]] = {  # provider: the distributions whose versions count
    "tensorrt": ("tensorrt", ("tensorrt-cu13", "onnxruntime-gpu")),
    "tensorrt-rtx": ("tensorrt-rtx", ("onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime")),
}
_COMPILE = """
import sys
from pathlib import Path
from stream_enhance.backends import open_session
from stream_enhance.errors import StreamEnhanceError
path, task, provider, cache, device = sys.argv[1:]
try:
    open_session(path, task, provider, cache=Path(cache) if cache else None, device=int(device))
except StreamEnhanceError as error:
    sys.exit(str(error))
"""
Build = Callable[[threading.Event], Session]  # of an event that is set once nobody wants the result any more


class SwappingSession:
    """A ``Session`` that serves from ``first`` until another one is built, and from that one then.

    The two are exchanged between batches: calls that run on ``first`` end there before it is closed, later ones go to
    the built one, and none fails or waits for the exchange.

    Args:
        first: serves at once; closed with this, or after the exchange.
        build: called in a thread of its own; returns a session of the same model that has run one batch right, or
                raises ModelError.
        name: of the provider that it builds for.
        required: a failed build is an error of the next call; otherwise a warning, and ``first`` goes on.
    """

    def __init__(self, first: Session, build: Build, name: str, required: bool) -> None:
        self.card, self.path, self.sha256, self.precision = first.card, first.path, first.sha256, first.precision
        self.input_size = first.input_size
        self.provider = f"{first.provider}, then {name}"
        self._session, self._build, self._name, self._required = first, build, name, required
        self._error: Exception | None = None
        self._running: Counter[Session] = Counter()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._swap, name=f"compiling {first.card.name}", daemon=True)
        self._thread.start()

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """See ``Session``.

        Raises:
            ModelError: the build failed, and it was required.
        """
        with self._in_use() as session:
            return session(batch)

    def from_device(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """See ``TakesTensors``."""
        with self._in_use() as session:
            return infer(session, batch)

    @contextmanager
    def _in_use(self) -> Iterator[Session]:
        with self._changed:
            if self._error is not None:
                raise self._error
            session = self._session
            self._running[session] += 1
        try:
            yield session
        finally:
            with self._changed:
                self._running[session] -= 1
                self._changed.notify_all()

    def _swap(self) -> None:
        try:
            built = self._build(self._closed)
        except Exception as error:  # whatever it is, it must not end with this thread
            if self._required:
                self._error = error
            elif not self._closed.is_set():
                log.warning("%s goes on without %s (%s)", self.path.name, self._name, error)
            return
        with self._changed:
            old, self._session = self._session, built
            self._changed.wait_for(lambda: not self._running[old])
        old.__exit__(None, None, None)
        log.info("%s runs on %s from now on", self.path.name, self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._session.__exit__(kind, error, trace)


def key_of(path: Path, sha256: str, card: Card, provider: str, device: int) -> EngineKey:
    """What a network compiled by ``provider`` on this machine's card ``device`` is good for."""
    library, distributions = COMPILED[provider]
    target, driver = _card_and_driver(device)
    return EngineKey(
        model=path.name,
        model_sha256=sha256,
        library=library,
        library_version=", ".join(f"{name} {_version(name)}" for name in distributions),
        target=target,
        precision="fp16",
        profile=str(profile_of(card.task, card.size, card.channels[0])),
        driver=driver,
    )


def why_not_compiled(folder: Path, provider: str, key: EngineKey) -> str:
    """Why what ``provider`` keeps in ``folder`` cannot be used as it is; "" where it can."""
    try:
        found = EngineKey.model_validate_json(_note(folder, provider).read_bytes())
    except OSError:
        return "not compiled yet"
    except ValidationError:
        return "the note of what it was compiled for is damaged"
    return difference(found, key)


def note_compiled(folder: Path, provider: str, key: EngineKey) -> None:
    """Write down beside a compiled network what it is good for.

    Raises:
        ModelError: it cannot be written.
    """
    try:
        write_whole(_note(folder, provider), key.model_dump_json(indent=1).encode(), Originals(), replace=True)
    except OSError as error:
        raise ModelError(
            f"{folder}: cannot be written ({error.strerror}); set engine_cache to another folder"
        ) from None


def compile_apart(
    path: Path, task: str, provider: str, cache: Path | None, device: int, closed: threading.Event
) -> None:
    """Compile a network into the cache in a process of its own, which is killed once ``closed`` is set.

    Raises:
        ModelError: it failed, or ``closed`` was set.
    """
    given = [str(path), task, provider, str(cache or ""), str(device)]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-c", _COMPILE, *given], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            while child.poll() is None and not closed.wait(0.1):
                pass
        finally:
            child.kill()
            child.wait()
        if closed.is_set():
            raise ModelError(f"{path.name}: closed before it was compiled for {provider}")
        if child.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            why = next((line for line in reversed(lines) if line.strip()), f"exit code {child.returncode}")
            raise ModelError(why[:300])


def _note(folder: Path, provider: str) -> Path:
    return folder / f"{provider}.json"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _card_and_driver(device: int) -> tuple[str, str]:
    """Compute capability, such as sm86, and driver version, as NVIDIA's own tool says; "unknown" without it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown", "unknown"
    query = [tool, f"--id={device}", "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        capability, driver = answer.splitlines()[0].split(",")
    except (OSError, subprocess.SubprocessError, LookupError, ValueError):
        return "unknown", "unknown"
    return f"sm{capability.strip().replace('.', '')}", driver.strip()
