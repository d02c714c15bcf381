"""What this installation can use on this machine: tried, not guessed; what is missing, and the command that fixes it.

Only what the default run needs makes it unready.  The rest, such as a GPU that no provider uses, is a hint.
"""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..errors import StreamEnhanceError
from ..extras import install_hint

_LIBRARIES = {"av": "av", "cv2": "opencv-python-headless", "numpy": "numpy", "onnxruntime": "onnxruntime"}
_DECODERS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "mjpeg")
_MODELS = {"yolov8n-face.onnx": "face-detection", "unet.onnx": "face-enhancement"}


def examine() -> dict[str, Any]:
    """Everything, as data that can be written as JSON.

    ``missing`` is what the default run lacks and ``hints`` what would make it better, each with its cure; ``ready`` is
    whether nothing is missing.
    """
    found: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {},
        "providers": {},
        "encoders": {},
        "decoders": {},
        "gpu": _gpu(),
        "models": {},
        "missing": [],
        "hints": [],
    }
    _flavours(found)
    if _libraries(found):
        _codecs(found)
        _models(found)
        _gpu_unused(found)
    found["ready"] = not found["missing"]
    return found


def _flavours(found: dict[str, Any]) -> None:
    """More than one onnxruntime: they share a folder, and what was installed last has overwritten the rest."""
    from ..backends.providers import flavours

    if len(there := flavours()) > 1:
        again = install_hint("gpu" if "onnxruntime-gpu" in there else "cpu")
        cure = f"{sys.executable} -m pip uninstall -y {' '.join(there)} && {again}"
        found["hints"].append({"what": f"{' and '.join(there)} are installed over each other", "cure": cure})


def _libraries(found: dict[str, Any]) -> bool:
    """Import each library; whether all are there."""
    for name, package in _LIBRARIES.items():
        try:
            found["libraries"][package] = importlib.import_module(name).__version__
        except (ImportError, OSError) as error:  # OSError: a shared library of its own is missing
            cure = install_hint("cpu") if name == "onnxruntime" else f"{sys.executable} -m pip install -U {package}"
            _lacks(found, f"{package} does not import ({error})", cure)
    if "av" in found["libraries"]:
        import av

        found["libraries"]["ffmpeg"] = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    return not found["missing"]


def _codecs(found: dict[str, Any]) -> None:
    import av

    from ..sinks.codecs import opens

    for codec, software in (("h264", "libx264"), ("hevc", "libx265"), ("av1", "libsvtav1")):
        found["encoders"] |= {name: opens(name) for name in (software, f"{codec}_nvenc", f"{codec}_qsv")}
    found["decoders"] = {name: name in av.codecs_available for name in _DECODERS}
    cure = f"{sys.executable} -m pip install -U --force-reinstall av"
    if not found["encoders"]["libx264"]:
        _lacks(found, "the encoder libx264 does not start", cure)
    if not found["decoders"]["h264"]:
        _lacks(found, "there is no H.264 decoder", cure)


def _models(found: dict[str, Any]) -> None:
    """Load each default model on each provider that is offered, and run it once."""
    import numpy as np

    from ..backends import ProviderName, open_session
    from ..backends.onnx import available
    from ..backends.preprocessing import to_input
    from ..shipped import default_model

    offered: list[ProviderName] = available()  # type: ignore[assignment]
    found["providers"] = dict.fromkeys(offered, True)
    if "cpu" not in offered:
        _lacks(found, "onnxruntime offers no CPU", f"{sys.executable} -m pip install -U --force-reinstall onnxruntime")
    for name, task in _MODELS.items():
        try:
            path = default_model(name)
            for provider in offered:
                with open_session(path, task, provider, threads=1) as session:
                    side = session.card.size
                    session(to_input([np.zeros((side, side, 3), np.uint8)], session.card))
                    found["models"][name] = session.card.model_dump(mode="json")
                    found["models"][name] |= {"path": str(session.path), "sha256": session.sha256}
                    found["models"][name] |= {"precision": session.precision}
        except StreamEnhanceError as error:
            if name in found["models"]:  # the CPU comes last, so an earlier provider failed
                found["hints"].append({"what": str(error), "cure": "choose another with --set provider=cpu"})
            else:
                _lacks(found, str(error), _model_cure(name))


def _model_cure(name: str) -> str:
    where = "reinstall the package, or name a file: "
    return where + ("--set detector.model=FILE" if name.startswith("yolo") else "--set enhancer.model=FILE")


def _gpu() -> dict[str, Any] | None:
    """The NVIDIA GPU's name, driver and memory, as its own tool says; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"name": "NVIDIA, nvidia-smi not found"} if Path("/dev/nvidiactl").exists() else None
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode or not answer.stdout.strip():
        return None
    name, driver, memory = (part.strip() for part in answer.stdout.splitlines()[0].split(","))
    return {"name": name, "driver": driver, "memory": memory}


def _gpu_unused(found: dict[str, Any]) -> None:
    if found["gpu"] and not {"cuda", "tensorrt", "tensorrt-rtx"} & set(found["providers"]):
        cure = f"{sys.executable} -m pip uninstall -y onnxruntime && {install_hint('gpu')}"
        found["hints"].append({"what": "there is an NVIDIA GPU, but onnxruntime cannot use it", "cure": cure})


def _lacks(found: dict[str, Any], what: str, cure: str) -> None:
    found["missing"].append({"what": what, "cure": cure})


def format_summary(found: dict[str, Any]) -> str:
    """``examine``'s answer for people."""
    versions = ", ".join(f"{name} {v}" for name, v in found["libraries"].items() if isinstance(v, str))
    lines = [f"stream-enhance {found['version']}, Python {found['python']}, {found['platform']}", f"  {versions}"]
    gpu = found["gpu"]
    lines.append(f"GPU: {', '.join(gpu.values()) if gpu else 'none'}")
    for title, key in (("Networks run on", "providers"), ("Encoders that open", "encoders"), ("Decoders", "decoders")):
        good = [name for name, works in found[key].items() if works]
        bad = [name for name, works in found[key].items() if not works]
        lines.append(f"{title}: {', '.join(good) or 'none'}" + (f"   (not: {', '.join(bad)})" if bad else ""))
    for name, card in found["models"].items():
        lines.append(f"Model {name}: {card['task']} at {card['size']}, {card['license']}, sha256 {card['sha256'][:16]}")
        lines.append(f"  runs as {Path(card['path']).name} in {card['precision']}")
        lines += [f"  {word}: {card[key]}" for word, key in (("data", "data"), ("limits", "weaknesses")) if card[key]]
    for title, key in (("MISSING", "missing"), ("Hint", "hints")):
        lines += [f"{title}: {lack['what']}\n  fix: {lack['cure']}" for lack in found[key]]
    lines.append("Ready." if found["ready"] else "Not ready.")
    return "\n".join(lines)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool) -> None:
    """Show what this installation can use, what is missing, and the command that fixes it.

    Exit code 1 where something that the default run needs is missing.
    """
    found = examine()
    click.echo(json.dumps(found, indent=2) if as_json else format_summary(found))
    sys.exit(0 if found["ready"] else 1)
