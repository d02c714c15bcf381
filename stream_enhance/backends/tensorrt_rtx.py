"""Engines of TensorRT for RTX, built ahead of time for a card that need not be there.

The library compiles a graph for a compute capability on any x86-64 machine; kernels are made on the card when the
engine is first run.  It is strongly typed: a float32 graph gives a float32 engine, see ``half``.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ModelError

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120")
_CURE = "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13 tensorrt-rtx-cu13-bindings"
_LIBRARIES = ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")


class Profile(NamedTuple):
    """The inputs that an engine takes, (n, C, H, W) each."""

    least: tuple[int, int, int, int]
    usual: tuple[int, int, int, int]
    most: tuple[int, int, int, int]

    def __str__(self) -> str:
        return "..".join("x".join(map(str, shape)) for shape in self)


def profile_of(task: str, size: int, channels: int = 3) -> Profile:
    """The profile of a network: faces in batches of 1 to 16; frames of any camera's shape, so that none rebuilds."""
    if task == "face-enhancement":
        return Profile((1, channels, size, size), (4, channels, size, size), (16, channels, size, size))
    return Profile((1, 3, 64, 64), (1, 3, 384, 640), (16, 3, 1280, 1280))


def bindings() -> Any:
    """The library's Python module, its shared libraries loaded.

    Raises:
        ModelError: it is not installed, or does not load.
    """
    plugin = importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if plugin is None or plugin.origin is None or importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        raise ModelError(f"TensorRT for RTX is not installed; {_CURE}")
    folder = Path(plugin.origin).parent
    try:
        for stem in _LIBRARIES:
            ctypes.CDLL(str(max(folder.glob(f"{stem}*"), key=lambda path: len(path.name))), ctypes.RTLD_GLOBAL)
        import tensorrt_rtx_bindings
    except (OSError, ImportError, ValueError) as error:
        raise ModelError(f"TensorRT for RTX does not load ({str(error)[:160]}); {_CURE}") from None
    return tensorrt_rtx_bindings


def version() -> str:
    """The installed library's version.  Raises ModelError where there is none."""
    return str(bindings().__version__)


def convolution_types(model: Path) -> Counter[str]:
    """How many of the model's convolutions the library reads as HALF, FLOAT, ...

    Raises:
        ModelError: the library is missing or cannot read the model.
    """
    trt = bindings()
    builder, network = _parsed(trt, model)
    layers = (network.get_layer(i) for i in range(network.num_layers))
    kinds = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
    found = Counter(layer.get_output(0).dtype.name for layer in layers if layer.type in kinds)
    del network, builder  # in this order
    return found


def build(model: Path, target: str, profile: Profile) -> bytes:
    """The engine of the half-precision graph ``model`` for cards of the compute capability ``target``.

    Raises:
        ModelError: unknown target, a convolution that is not half, or the library's own refusal.
    """
    trt = bindings()
    if target not in TARGETS:
        raise ModelError(f"{target}: no target of TensorRT for RTX; use one of {', '.join(TARGETS)}")
    types = convolution_types(model)
    if set(types) != {"HALF"}:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(types.items())) or "no convolution"
        raise ModelError(f"{model}: not a half-precision graph ({found}); convert it first")
    builder, network = _parsed(trt, model)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(network.get_input(0).name, *profile)
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"{model}: TensorRT for RTX could not build it for {target}: {_LOG.last or 'no reason given'}")
    engine = bytes(plan)
    del plan, config, network, builder
    return engine


class _Log:
    """The library's logger; made once, as the library keeps the first it is given."""

    def __init__(self) -> None:
        self._logger: Any = None
        self.last = ""  # the last error

    def __call__(self, trt: Any) -> Any:
        if self._logger is None:
            log = self

            class Logger(trt.ILogger):  # type: ignore[misc]
                def __init__(self) -> None:
                    super().__init__()

                def log(self, severity: Any, message: str) -> None:
                    if severity <= trt.ILogger.ERROR:
                        log.last = message[:200]

            self._logger = Logger()
        return self._logger


_LOG = _Log()


def _parsed(trt: Any, model: Path) -> tuple[Any, Any]:
    """(builder, network) of the model file.  Raises ModelError."""
    builder = trt.Builder(_LOG(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, _LOG(trt))
    if not parser.parse_from_file(str(model)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))[:200]
        raise ModelError(f"{model}: TensorRT for RTX cannot read it ({errors}); export it again")
    return builder, network
