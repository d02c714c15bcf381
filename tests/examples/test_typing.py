"""What users write against the Python API type-checks in their own strict settings, without any plugin.

Checked are the examples, and every Python block of the README and the docs that imports the package.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CALLS = '''
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import stream_enhance
from stream_enhance import Config, DetectorOptions, EnhancedImage, Faces, Frame, Pipeline, Rendered, Report, SourceError
from stream_enhance.config import load


def every_way(folder: Path, image: NDArray[np.uint8]) -> Report:
    """Names and paths, one output and several, settings as objects, from a file, and none."""
    config = Config(detector=DetectorOptions(every=1, score=0.5), threads=2)
    with Pipeline() as defaults, Pipeline(config, shared=True) as pipeline, Pipeline(load(folder / "a.yaml")):
        one: EnhancedImage = defaults.enhance(image)
        pixels: NDArray[np.uint8] = one.image
        faces: Faces = one.faces
        print(pixels.shape, len(faces), faces.xyxy[0], stream_enhance.__version__)
        try:
            rendered: Rendered = next(pipeline.frames(folder / "in.mp4"))
        except SourceError as error:
            raise SystemExit(str(error)) from None
        frame: Frame = rendered.enhanced.scene.frame
        print(frame.seconds, frame.image.width, rendered.to_rgb().mean())
        pipeline.run("in.mp4", "out.mp4", duration=1.5, gallery=folder, watch=lambda run: run.stop())
        report = pipeline.run(folder / "in.mp4", [folder / "out.mp4", "udp://127.0.0.1:9/"], overwrite=True)
    print(report.frames_in + 1, report.latency_ms["p50"], report.error or "", report.as_dict())
    return report
'''


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of it, one module each."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "calls.py").write_text(CALLS)
    for path in (ROOT / "examples").glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for i, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            if "stream_enhance" in block:
                name = re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")))
                (folder / f"{name}_{i}.py").write_text(block)
    assert list(folder.glob("README_*.py")), "the README shows the Python API"
    return folder


def test_strict_mypy(code: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    settings = tmp_path / "mypy.ini"  # the caller's: this project's has pydantic's plugin
    settings.write_text(
        f"[mypy]\nstrict = true\nmypy_path = {ROOT}\n[mypy-stream_enhance.*]\nfollow_imports = silent\n"
    )
    files = [str(path) for path in sorted(code.glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run([*command, *files], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=390)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_strict_pyright(code: Path) -> None:
    pytest.importorskip("basedpyright", reason="pyright in a wheel; `pip install basedpyright`")
    settings = code / "pyrightconfig.json"
    settings.write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", str(settings)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=code, timeout=390)
    assert checked.returncode == 0, checked.stdout + checked.stderr
