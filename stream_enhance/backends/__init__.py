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

from .card import Card

if TYPE_CHECKING:
    import torch

ProviderName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx", "torch"]


class Session(Protocol):
    """A loaded network.  Safe to call from several threads."""

    card: Card
    path: Path
    sha256: str  # of the model file
    provider: str  # what it runs on, as chosen
    input_size: tuple[int, int] | None  # height and width in pixels that it takes; None: any that its card allows

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 (n, C, H, W) in, float32 out, rows in the same order."""
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


def infer(session: Session, batch: NDArray[np.float32] | torch.Tensor) -> NDArray[np.float32]:
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
    stream: int = 0,
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

    Raises:
        ModelError: no such file, damaged, for another task, or the named provider is not available.
    """
    if provider == "torch":
        from .torch_session import open_torch

        return open_torch(Path(path), task, device)
    from .onnx import OnnxSession

    return OnnxSession(Path(path), task, provider, threads, cache, device, stream=stream)
