"""What a run was made with: the program's version and commit, the libraries, the processor."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import av

from .. import __version__
from .manifest import ProgramEntry

_LIBRARIES = ("av", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "pydantic", "c2pa-python")
_CHECKOUT = Path(__file__).resolve().parents[2]


@lru_cache(maxsize=1)
def program() -> ProgramEntry:
    """This installation on this machine."""
    return ProgramEntry(
        version=__version__,
        commit=_commit(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        libraries=_libraries(),
    )


def _commit() -> str | None:
    """Of the checkout that this code lies in, + behind it where tracked files were changed; None: it lies in none."""
    if not (_CHECKOUT / ".git").exists():
        return None
    try:
        done = [
            subprocess.run(
                ["git", "-C", str(_CHECKOUT), *words], capture_output=True, text=True, timeout=10, check=True
            )
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):  # no git here
        return None
    return done[0].stdout.strip() + ("+" if done[1].stdout.strip() else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _libraries() -> dict[str, str]:
    found = {f"lib{name.removeprefix('lib')}": ".".join(map(str, v)) for name, v in av.library_versions.items()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # optional
            continue
    return found
