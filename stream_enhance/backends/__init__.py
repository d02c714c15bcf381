"""Running a network: arrays in, arrays out.

A ``Session`` knows arrays, a stage knows faces.  onnxruntime is the one runtime for the CPU, CUDA, TensorRT and
TensorRT for RTX, chosen by execution provider, so that what is tested on a CPU is what runs on a GPU.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from . import precision as precisions
from .card import Card
from .precision import Precision
from .preprocessing import Batch

if TYPE_CHECKING:
    import torch

ProviderName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx", "torch"]


class Session(Protocol):
    """A loaded network.  Safe to call from several threads."""

    card: Card
    path: Path
    sha256: str  # of the model file
    provider: str  # what it runs on, as chosen
    precision: str  # what it computes in, and why: "int8 (AVX-512 VNNI)"
    input_size: tuple[int, int] | None  # height and width in pixels that it takes; None: any that its card allows

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """What ``preprocessing.to_input`` gives in; float32 out, or uint8 by the card; rows in the same order."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class TakesTensors(Protocol):
    """A session whose input need not leave the device that a frame lies on."""

    def from_device(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """A float32 tensor (n, C, H, W), on the session's device, to a float32 result in the host's memory."""
        ...


def infer(session: Session, batch: Batch | torch.Tensor) -> NDArray[np.float32]:
    """``session``'s result of a batch; a tensor is copied to the host only where the session takes no other."""
    if isinstance(batch, np.ndarray):
        return session(batch)
    if isinstance(session, TakesTensors):
        return session.from_device(batch)
    return session(batch.cpu().numpy())


def open_session(
    path: str | Path,
    task: str,
    provider: ProviderName = "auto",
    threads: int = 0,
    cache: Path | None = None,
    device: int = 0,
    precision: Precision = "auto",
    stream: int = 0,
    meanwhile: bool = False,
) -> Session:
    """Load the ONNX file at ``path``.

    Args:
        path: the model file.
        task: what its card must say it is for: ``face-detection`` or ``face-enhancement``.
        provider: where to run it; ``auto`` takes the best there is and says which.
        threads: CPU threads; 0 for one a core.
        cache: folder for compiled engines; None for the user's cache folder.
        device: which GPU, from 0.
        stream: the CUDA stream, as an address, that the frames' other work is queued on; 0: one of its own.
        precision: on the CPU, whether the 8-bit file beside ``path`` is run; ``auto``: where the processor is made for
            it. A GPU computes in what the provider takes.
        meanwhile: where the provider has to compile the network first, run it on the next best one until it has. Only
            with precision=auto: a run that is to be repeated runs on one provider, and waits for it.

    Raises:
        ModelError: no such file, damaged, for another task, made from another file than ``path``, or the named
            provider or precision is not available.
    """
    if provider == "torch":
        from .torch_session import open_torch

        return open_torch(Path(path), task, device)
    from .onnx import OnnxSession, open_meanwhile

    if meanwhile and precision == "auto":
        swapping = open_meanwhile(Path(path), task, provider, threads, cache, device, stream)
        if swapping is not None:
            return swapping
    session = OnnxSession(Path(path), task, provider, threads, cache, device, stream=stream)
    if session.provider != "cpu":
        if precision == "int8":
            raise ModelError(f"precision=int8: {session.provider} does not take it; add provider=cpu")
        return session
    choice = precisions.choose(Path(path), precision)
    if choice.precision == "int8":
        source = session.sha256
        session = OnnxSession(choice.path, task, "cpu", threads, cache, device)
        if session.card.source_sha256 != source:
            raise ModelError(
                f"{choice.path}: was not made from {Path(path).name}; make it again with `python -m train.quantize`, or"
                " use precision=fp32"
            )
    named = choice.precision == "fp32" and session.card.precision == "int8"  # the 8-bit file itself was named
    session.precision = f"{session.card.precision} ({'the file named' if named else choice.reason})"
    return session
