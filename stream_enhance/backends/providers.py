"""What onnxruntime runs a network on: which providers are there, how each is set up, and how they are ranked.

CUDA and TensorRT come with the ``onnxruntime-gpu`` package.  TensorRT for RTX is a plugin: its library is registered
with onnxruntime at run time, and it is given the devices that it then reports.  Each function takes the ``onnxruntime``
module, so that tests can hand in one with devices that are not there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .card import Card
from .tensorrt_rtx import profile_of

PROVIDERS = {  # our name: onnxruntime's, best first
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
BATCHES = (1, 2, 4, 8, 16)  # rows that a GPU's graphs are made for; others are padded
_RTX_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_GPU_CURE = "pip install '.[gpu]' in the checkout (it replaces onnxruntime), with an NVIDIA driver for CUDA 13"
_CURES = {
    "cuda": _GPU_CURE,
    "tensorrt": _GPU_CURE.replace("gpu", "tensorrt"),
    "tensorrt-rtx": "pip install '.[rtx]' in the checkout, with an NVIDIA RTX card and its driver",
}
_WORKSPACE = 1 << 30  # bytes that TensorRT may use while it builds


def cure_of(provider: str, offered: Sequence[str]) -> str:
    """What makes ``provider`` available."""
    return _CURES.get(provider, f"use one of {', '.join(offered)}")


def not_offered(ort: Any, provider: str, offered: Sequence[str]) -> str:
    """Why ``provider`` is none of ``offered``, and the cure."""
    why = rtx_devices(ort)[1] if provider == "tensorrt-rtx" else ""
    return f"provider {provider!r} is not available on this machine{why and f': {why}'}; {cure_of(provider, offered)}"


def flavours() -> list[str]:
    """The installed distributions that each bring an ``onnxruntime`` folder; more than one overwrite each other."""
    names = {(d.metadata["Name"] or "").lower() for d in importlib.metadata.distributions()}
    known = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-rocm"}
    return sorted(names & known)


def available(ort: Any) -> list[str]:
    """Our names of the providers that this onnxruntime offers on this machine, best first."""
    offered = set(ort.get_available_providers())
    if rtx_devices(ort)[0]:
        offered.add(PROVIDERS["tensorrt-rtx"])
    return [name for name, provider in PROVIDERS.items() if provider in offered]


def rtx_devices(ort: Any) -> tuple[list[Any], str]:
    """The devices of TensorRT for RTX, its library registered where it was not, and why there is none."""
    name = PROVIDERS["tensorrt-rtx"]
    if not hasattr(ort, "register_execution_provider_library"):
        return [], "this onnxruntime takes no plugins"
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if devices:
        return devices, ""
    try:
        plugin = importlib.import_module(_RTX_PLUGIN)
    except (ImportError, OSError) as error:
        return [], f"its plugin does not import ({str(error)[:100]})"
    try:
        ort.register_execution_provider_library(name, plugin.get_library_path())
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        return [], str(error).splitlines()[0].rpartition("error: ")[2][:120]
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    return devices, "" if devices else "its plugin finds no RTX card"


def set_up(
    ort: Any, options: Any, provider: str, card: Card, input_name: str, cache: Path, device: int, stream: int = 0
) -> list[Any]:
    """Prepare ``options`` for ``provider``; what ``InferenceSession`` is given as ``providers``.

    Args:
        ort: the ``onnxruntime`` module.
        options: ``SessionOptions``, changed in place.
        provider: our name.
        card: of the model, for the shapes that engines are built for.
        input_name: of the network's one input.
        cache: folder for compiled engines.
        device: which GPU, from 0.
        stream: address of the CUDA stream to queue on; 0: one of the provider's own.

    Raises:
        ModelError: the provider's devices are not there.
    """
    profile = profile_of(card.task, card.size, card.channels[0])
    shapes = {
        f"profile_{part}_shapes": f"{input_name}:{'x'.join(map(str, shape))}"
        for part, shape in zip(("min", "opt", "max"), profile, strict=True)
    }
    queued = {"user_compute_stream": str(stream)} if stream else {}
    match provider:
        case "cpu":
            return [PROVIDERS["cpu"]]
        case "tensorrt-rtx":
            devices, why = rtx_devices(ort)
            if device >= len(devices):
                why = why or f"there is no device {device}"
                raise ModelError(f"provider 'tensorrt-rtx' is not available: {why}; {_CURES['tensorrt-rtx']}")
            settings = {"nv_runtime_cache_path": str(cache), "nv_max_workspace_size": str(_WORKSPACE)}
            settings |= {f"nv_{key}": value for key, value in shapes.items()} | queued
            options.add_provider_for_devices([devices[device]], settings)
            return []
    if hasattr(ort, "preload_dlls"):  # CUDA's and cuDNN's, from their own wheels
        ort.preload_dlls()
    cuda = {
        "device_id": str(device),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        **queued,
    }
    if provider == "cuda":
        return [(PROVIDERS["cuda"], cuda)]
    settings = {
        "device_id": str(device),
        "trt_fp16_enable": "1",
        "trt_max_workspace_size": str(_WORKSPACE),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
    }
    settings |= {f"trt_{key}": value for key, value in shapes.items()} | queued
    return [(PROVIDERS["tensorrt"], settings), (PROVIDERS["cuda"], cuda)]


def out_of_memory(error: Exception) -> bool:
    """Whether a provider failed for want of the GPU's memory."""
    text = str(error).lower()
    return any(words in text for words in ("out of memory", "failed to allocate", "cuda failure 2", "bad_alloc"))


def bucket(rows: int) -> int:
    """The least of ``BATCHES`` that holds ``rows``, or the largest."""
    return next((size for size in BATCHES if size >= rows), BATCHES[-1])


def threads_of(asked: int) -> int:
    """CPU threads of a network: ``asked``, or one a core."""
    return asked or os.cpu_count() or 1
