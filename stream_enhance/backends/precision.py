"""Whether a network runs in float32 or in 8-bit integers on the CPU.

Beside a model file ``NAME.onnx`` may lie ``NAME.int8.onnx``, made from it by ``python -m train.quantize``.  It is run
where the processor multiplies bytes exactly and fast: with VNNI on x86 (AVX-512 or AVX) or with Arm's dot products.
Elsewhere it is not: AVX2's byte products saturate at 16 bits, which would take weights of 7 bits (``reduce_range``).
Results of processors differ in the last bits, in 8 bits by more than in float32.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import ModelError

Precision = Literal["auto", "fp32", "int8"]
_FLAGS = {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "asimddp": "Arm dot products"}  # of /proc/cpuinfo


class Choice(NamedTuple):
    """Which file is run, and what it computes in, with the reason."""

    path: Path
    precision: Literal["fp32", "int8"]
    reason: str


def sibling(path: Path) -> Path:
    """Where the 8-bit file of the model file ``path`` would be."""
    return path.with_suffix(".int8.onnx")


def byte_products() -> str:
    """The processor's instructions for exact and fast byte products, by name; empty where it has none.

    Known of Linux, by /proc/cpuinfo, and of Apple's processors, which all have them; elsewhere it is not known.
    """
    if sys.platform == "darwin":
        return "Arm dot products" if platform.machine() == "arm64" else ""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    return flagged(text)


def flagged(cpuinfo: str) -> str:
    """``byte_products`` by the text of /proc/cpuinfo."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = {flag for key, _, value in lines if key.strip() in ("flags", "Features") for flag in value.split()}
    return next((name for flag, name in _FLAGS.items() if flag in flags), "")


def choose(path: Path, asked: Precision, processor: Callable[[], str] = byte_products) -> Choice:
    """Which file to run for the fp32 model file ``path``.

    Args:
        path: the model file that was named.
        asked: the option ``precision``.
        processor: says which byte products the processor has.

    Raises:
        ModelError: ``int8`` is asked for and there is no such file.
    """
    other = sibling(path)
    match asked:
        case "fp32":
            return Choice(path, "fp32", "precision=fp32")
        case "int8":
            if not other.is_file():
                raise ModelError(
                    f"{other}: no such model file for precision=int8; make it with `python -m train.quantize`, or use"
                    " precision=auto"
                )
            return Choice(other, "int8", "precision=int8")
    if not other.is_file():
        return Choice(path, "fp32", f"there is no {other.name}")
    if has := processor():
        return Choice(other, "int8", has)
    return Choice(path, "fp32", "no VNNI or Arm dot products found")
