"""A network in onnxruntime, on the CPU, CUDA, TensorRT or TensorRT for RTX."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..extras import install_hint
from .card import KEY, Card, file_sha256, parse_card

log = logging.getLogger(__name__)

PROVIDERS = {  # our name: onnxruntime's, best first
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_EXTRAS = {"cuda": "gpu", "tensorrt": "gpu", "tensorrt-rtx": "rtx"}  # optional dependencies that bring a provider


def available() -> list[str]:
    """Our names of the providers that this onnxruntime offers, best first."""
    import onnxruntime

    offered = set(onnxruntime.get_available_providers())
    return [name for name, provider in PROVIDERS.items() if provider in offered]


def _cure(provider: str) -> str:
    return f"it needs an NVIDIA driver, and {install_hint(_EXTRAS[provider])}"


class OnnxSession:
    """See ``open_session``."""

    def __init__(self, path: Path, task: str, provider: str, threads: int, cache: Path | None) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # Windows knows no variable for it
        self.path = path
        if not path.is_file():
            raise ModelError(f"{path}: no such model file")
        self.sha256 = file_sha256(path)
        offered = available()
        if provider == "auto":
            tried = [name for name in offered if name != "tensorrt-rtx"]
        elif provider in offered:
            tried = [provider]
        else:
            cure = _cure(provider) if provider in _EXTRAS else f"use one of {', '.join(offered)}"
            raise ModelError(f"provider {provider!r} is not available on this machine; {cure}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it keeps what the largest batch ever took; without it nothing is slower
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other stages need the cores
        self._session = self._load(onnxruntime, options, tried, provider, cache)
        self.card = self._card(task)
        self._check(task)

    def _load(self, ort: Any, options: Any, tried: list[str], asked: str, cache: Path | None) -> Any:
        reasons = []
        for name in tried:
            try:
                session = ort.InferenceSession(
                    str(self.path), options, providers=[(PROVIDERS[name], self._provider_options(name, cache))]
                )
            except Exception as error:  # onnxruntime's own exceptions share no base but Exception
                reasons.append(f"{name}: {str(error).splitlines()[0][:160]}")
                continue
            if PROVIDERS[name] in session.get_providers():
                self.provider = name
                if reasons:
                    log.warning("%s runs on %s (%s)", self.path.name, name, "; ".join(reasons))
                return session
            reasons.append(f"{name}: its libraries did not load")
        if tried[-1] == "cpu":
            raise ModelError(f"{self.path}: not a model that onnxruntime can load ({reasons[-1]}); fetch it again")
        raise ModelError(f"provider {asked!r} is not available: {reasons[-1]}; {_cure(tried[-1])}")

    def _provider_options(self, name: str, cache: Path | None) -> dict[str, str]:
        if name != "tensorrt":
            return {}
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        folder = (cache or base / "stream-enhance" / "engines") / self.sha256[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "trt_fp16_enable": "1",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }

    def _card(self, task: str) -> Card:
        metadata = self._session.get_modelmeta().custom_metadata_map
        if KEY not in metadata and task == "face-detection" and "stride" in metadata and "imgsz" in metadata:
            return _ultralytics_card(metadata, str(self.path))
        return parse_card(metadata, str(self.path))

    def _check(self, task: str) -> None:
        if self.card.task != task:
            raise ModelError(f"{self.path}: is for {self.card.task}, not for {task}; name another model file")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            taken = ", ".join(f"{i.type} {i.shape}" for i in inputs)
            raise ModelError(f"{self.path}: takes {taken}, not one float (n, 3, H, W); export it again")
        wanted = 3 if task == "face-detection" else 4
        if len(outputs[0].shape) != wanted:
            raise ModelError(f"{self.path}: gives {outputs[0].shape}, not {wanted} dimensions; export it again")
        rows = outputs[0].shape[1]  # box, scores, points
        if task == "face-detection" and isinstance(rows, int) and (rows < 5 or (self.card.points and rows != 20)):
            raise ModelError(f"{self.path}: gives {rows} rows a cell, not 5 or more (20 with points); export again")
        self._input, self._output = inputs[0].name, outputs[0].name
        self.fixed_batch = shape[0] if isinstance(shape[0], int) else None
        self.input_size = (shape[2], shape[3]) if isinstance(shape[2], int) and isinstance(shape[3], int) else None
        if task == "face-enhancement" and self.input_size not in (None, (self.card.size, self.card.size)):
            raise ModelError(f"{self.path}: takes {self.input_size}, its card says {self.card.size}; export it again")
        given, side = outputs[0].shape[1:], self.card.size
        if task == "face-enhancement" and any(
            isinstance(n, int) and n != want for n, want in zip(given, (3, side, side), strict=True)
        ):
            raise ModelError(
                f"{self.path}: gives (n, {', '.join(map(str, given))}), not (n, 3, {side}, {side}); export it again"
            )

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.fixed_batch is None or len(batch) == self.fixed_batch:
            return self._run(batch)
        step = self.fixed_batch
        parts = []
        for start in range(0, len(batch), step):
            rows = batch[start : start + step]
            padded = np.concatenate([rows, np.repeat(rows[-1:], step - len(rows), 0)])
            parts.append(self._run(padded)[: len(rows)])
        return np.concatenate(parts)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._session.run([self._output], {self._input: batch})[0]
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def _ultralytics_card(metadata: dict[str, str], where: str) -> Card:
    """A card read from the metadata that ultralytics' own export writes."""
    try:
        points = json.loads(metadata.get("kpt_shape", "[0]"))[0]
        if points not in (0, 5):
            raise ModelError(f"{where}: has {points} points a face, not 5; use another model file")
        return Card(
            name=Path(where).stem,
            task="face-detection",
            size=json.loads(metadata["imgsz"])[0],
            dynamic=metadata.get("dynamic", "False") == "True" or "dynamic': True" in metadata.get("args", ""),
            points=points,
            license=metadata.get("license", "unknown"),
            data="unknown",
            recipe="exported by ultralytics",
            commit="unknown",
            weights_sha256=hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest(),
        )
    except (ValueError, LookupError, TypeError):
        raise ModelError(f"{where}: its metadata (imgsz, kpt_shape) is damaged; export it again") from None
