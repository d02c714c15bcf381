"""What a figure was measured under, printed with it and saved beside it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime


def conditions() -> dict[str, Any]:
    """The machine, its load, the libraries and the commit."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "av": av.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "commit": git.stdout.strip() or "?",
    }


def one(module: str, *arguments: str) -> dict[str, Any]:
    """One measurement in a process of its own, which prints JSON as its last line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def interleaved(module: str, runs: int, variants: dict[str, list[str]]) -> dict[str, list[dict[str, Any]]]:
    """``runs`` rounds of every variant in turn, so that a busy minute hits all alike."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for _ in range(runs):
        for name, arguments in variants.items():
            results[name].append(one(module, *arguments))
            print(f"  {name}: {results[name][-1]}", file=sys.stderr)
    return results


def median(results: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(r[key] for r in results))


def save(name: str, figures: dict[str, Any]) -> None:
    """Print ``figures`` with their conditions and keep them under runs/."""
    figures = {"conditions": conditions(), **figures}
    folder = Path("runs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures["conditions"]))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
