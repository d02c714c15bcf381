"""A network in onnxruntime, on the CPU, CUDA, TensorRT or TensorRT for RTX."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..extras import install_hint
from . import Session, compiled, engines, providers
from .card import KEY, Card, file_sha256, parse_card
from .half import half_file
from .preprocessing import Batch

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_ATOL = 0.05  # of a result's range: how far a GPU's first batch may be from the CPU's


def available() -> list[str]:
    """Our names of the providers that this onnxruntime offers here, best first."""
    return providers.available(_onnxruntime())


def open_meanwhile(
    path: Path, task: str, provider: str, threads: int, cache: Path | None, device: int, stream: int, ort: Any = None
) -> Session | None:
    """A session on the next best provider, exchanged for ``provider``'s once that has compiled the network.

    None where ``provider`` (the best one for "auto") is not there or need not compile anything: open it as usual.

    Raises:
        ModelError: see ``OnnxSession``.
    """
    offered = providers.available(ort or _onnxruntime())
    name = offered[0] if provider == "auto" else provider
    if name not in compiled.COMPILED or name not in offered:
        return None
    first = OnnxSession(path, task, "auto", threads, cache, device, ort, stream, without=compiled.COMPILED)
    if not (why := first.waits_for(name)):
        first.__exit__(None, None, None)
        return None
    log.warning("%s: %s; compiling it for %s while %s runs", path.name, why, name, first.provider)

    def build(closed: Event) -> Session:
        if ort is None:
            compiled.compile_apart(path, task, name, cache, device, closed)
        return OnnxSession(path, task, name, threads, cache, device, ort, stream)

    return compiled.SwappingSession(first, build, name, required=provider != "auto")


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ModelError(f"onnxruntime is not installed; {install_hint('cpu')}") from None
    if not hasattr(onnxruntime, "InferenceSession"):  # one flavour was removed from under another
        raise ModelError(
            f"onnxruntime is damaged; pip uninstall onnxruntime onnxruntime-gpu, then {install_hint('cpu')}"
        )
    return onnxruntime


class OnnxSession:
    """See ``open_session``.

    Args:
        ort: the ``onnxruntime`` module; None for the installed one.
        without: providers that ``auto`` leaves out.
    """

    def __init__(
        self,
        path: Path,
        task: str,
        provider: str,
        threads: int,
        cache: Path | None,
        device: int = 0,
        ort: Any = None,
        stream: int = 0,
        without: Collection[str] = (),
    ) -> None:
        self._ort = ort = ort or _onnxruntime()
        ort.disable_telemetry_events()  # Windows knows no variable for it
        self.path, self._device, self._stream = path, device, stream
        if not path.is_file():
            raise ModelError(f"{path}: no such model file")
        self.sha256 = file_sha256(path)
        self._threads, self._cache = providers.threads_of(threads), cache
        offered = providers.available(ort)
        if provider != "auto" and provider not in offered:
            raise ModelError(providers.not_offered(ort, provider, offered))
        self._largest = providers.BATCHES[-1]  # rows at once; halved where a GPU's memory does not hold them
        self._session: Any = self._on_cpu()  # to be read, and to be compared with
        self.provider, self.precision = "cpu", "fp32"
        self.card = self._card(task)
        self._check(task)
        if provider != "cpu":
            best = [name for name in offered if name != "cpu" and name not in without]
            self._on_gpu(best if provider == "auto" else [provider], provider)

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it keeps what the largest batch ever took; without it nothing is slower
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other stages need the cores
        return options

    def _on_cpu(self) -> Any:
        try:
            return self._ort.InferenceSession(
                str(self.path), self._options(), providers=[providers.PROVIDERS["cpu"]], enable_fallback=0
            )
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            why = str(error).splitlines()[0][:160]
            raise ModelError(f"{self.path}: not a model that onnxruntime can load ({why}); fetch it again") from None

    def _on_gpu(self, tried: list[str], asked: str) -> None:
        """Take the first of ``tried`` that runs one batch as the CPU does; "auto" keeps the CPU where none does.

        Raises:
            ModelError: the one that was named does not.
        """
        reference = self._session
        for name in tried:
            try:
                self._session, self.provider = self._loaded(name), name
                self._try_out(reference)
                if name in compiled.COMPILED:
                    key = compiled.key_of(self.path, self.sha256, self.card, name, self._device)
                    compiled.note_compiled(self._kept(), name, key)
            except Exception as error:  # onnxruntime's own exceptions share no base but Exception
                why = str(error).splitlines()[0][:160]
                self._session, self.provider = reference, "cpu"
                if asked != "auto":
                    cure = providers.cure_of(name, ["cpu"])
                    raise ModelError(f"provider {asked!r} is not available: {why}; {cure}") from None
                log.warning("%s does not run on %s (%s)", self.path.name, name, why)
            else:
                return

    def waits_for(self, name: str) -> str:
        """Why the provider ``name`` would have to compile this network before it runs; "" where it would not."""
        if name not in compiled.COMPILED:
            return ""
        key = compiled.key_of(self.path, self.sha256, self.card, name, self._device)
        return compiled.why_not_compiled(self._kept(), name, key)

    def _kept(self) -> Path:
        """The folder of what is compiled of this network."""
        folder = engines.cache_folder(self._cache) / self.sha256[:16]
        folder.mkdir(exist_ok=True)
        return folder

    def _loaded(self, name: str) -> Any:
        options = self._options()
        cache, path = self._kept(), self.path
        if name == "tensorrt-rtx":  # strongly typed: it computes as the graph says
            path = half_file(self.path, cache)
        chosen = providers.set_up(self._ort, options, name, self.card, self._input, cache, self._device, self._stream)
        session = self._ort.InferenceSession(str(path), options, providers=chosen or None, enable_fallback=0)
        if providers.PROVIDERS[name] not in session.get_providers():
            raise ModelError("its libraries did not load")
        return session

    def _try_out(self, reference: Any) -> None:
        """One batch on the new provider against the CPU.  Raises ModelError where they differ."""
        side, channels = self.card.size, self.card.channels[0]
        ramp = np.linspace(0, 1, channels * side * side, dtype=np.float32).reshape(1, channels, side, side)
        wanted = reference.run([self._output], {self._input: ramp})[0]
        found = self(ramp)
        reach = float(np.ptp(wanted)) or 1.0
        if found.shape != wanted.shape or not np.allclose(found, wanted, atol=_ATOL * reach, rtol=0):
            raise ModelError("its first batch is not what the CPU gives")

    def _card(self, task: str) -> Card:
        metadata = self._session.get_modelmeta().custom_metadata_map
        if KEY not in metadata and task == "face-detection" and "stride" in metadata and "imgsz" in metadata:
            return _ultralytics_card(metadata, str(self.path))
        return parse_card(metadata, str(self.path))

    def _check(self, task: str) -> None:
        if self.card.task != task:
            raise ModelError(f"{self.path}: is for {self.card.task}, not for {task}; name another model file")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape, (taken_in, given_out) = inputs[0].shape, self.card.channels
        if self.card.input_type == "uint8":  # (n, H, W, 3): as (n, 3, H, W) from here on
            shape = [shape[0], shape[3], *shape[1:3]] if len(shape) == 4 else shape
        kind = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}[self.card.input_type]
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != taken_in or inputs[0].type != kind:
            taken = ", ".join(f"{i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"{self.path}: takes {taken}, not one {self.card.input_type} image of {taken_in} channels;"
                " export it again"
            )
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
        if self.card.input_type == "uint8":
            given = [given[-1], *given[:-1]]
        if task == "face-enhancement" and any(
            isinstance(n, int) and n != want for n, want in zip(given, (given_out, side, side), strict=True)
        ):
            raise ModelError(
                f"{self.path}: gives (n, {', '.join(map(str, given))}), not (n, {given_out}, {side}, {side});"
                " export it again"
            )

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """See ``Session``; cut into batches that the model takes."""
        if self.fixed_batch is None and self.provider == "cpu":
            return self._run(batch)
        parts, start = [], 0
        while start < len(batch):
            step = self.fixed_batch or min(providers.bucket(len(batch) - start), self._largest)
            rows = batch[start : start + step]
            padded = np.concatenate([rows, np.repeat(rows[-1:], step - len(rows), 0)]) if len(rows) < step else rows
            try:
                parts.append(self._run(padded)[: len(rows)])
            except Exception as error:  # onnxruntime's own exceptions share no base but Exception
                if self.provider == "cpu" or step == 1 or self.fixed_batch or not providers.out_of_memory(error):
                    raise
                self._largest = step // 2
                log.warning("%s: the GPU's memory does not hold %d faces; %d at once", self.path.name, step, step // 2)
                continue
            start += len(rows)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def from_device(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """See ``TakesTensors``.  A tensor on a GPU is read where it lies."""
        if self.provider == "cpu" or batch.device.type == "cpu":
            return self(batch.cpu().numpy())
        import torch

        parts, start = [], 0
        while start < len(batch):
            step = self.fixed_batch or min(providers.bucket(len(batch) - start), self._largest)
            rows = batch[start : start + step].contiguous()
            padded = torch.cat([rows, rows[-1:].expand(step - len(rows), -1, -1, -1)]) if len(rows) < step else rows
            parts.append(self._run_in_place(padded)[: len(rows)])
            start += len(rows)
        return np.concatenate(parts)

    def _run_in_place(self, batch: torch.Tensor) -> NDArray[np.float32]:
        import torch

        binding = self._session.io_binding()
        binding.bind_input(self._input, "cuda", self._device, np.float32, tuple(batch.shape), batch.data_ptr())
        binding.bind_output(self._output)
        torch.cuda.current_stream(batch.device).synchronize()  # onnxruntime#32673: not before its input is written
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        result: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return result

    def _run(self, batch: Batch) -> NDArray[np.float32]:
        result: NDArray[np.float32]
        if self.provider == "cpu":
            result = self._session.run([self._output], {self._input: batch})[0]
            return result
        binding = self._session.io_binding()
        binding.bind_cpu_input(self._input, np.ascontiguousarray(batch))
        binding.bind_output(self._output)
        binding.synchronize_inputs()  # onnxruntime#32673: TensorRT must not start before its input has arrived
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        result = binding.copy_outputs_to_cpu()[0]
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
