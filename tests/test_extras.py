"""The command that adds an optional part installs it from where this installation came from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stream_enhance.extras import install_hint

ROOT = Path(__file__).resolve().parent.parent


def test_in_a_checkout_it_is_installed_from_the_checkout() -> None:
    assert install_hint("web") == f"{sys.executable} -m pip install -e '{ROOT}[web]'"


@pytest.mark.parametrize(
    ("url", "command"),
    [
        (
            "file:///srv/a%20b/stream_enhance-1.0-py3-none-any.whl",
            "'/srv/a b/stream_enhance-1.0-py3-none-any.whl[mqtt]'",
        ),
        ("https://example.org/stream_enhance.whl", "'stream-enhance[mqtt] @ https://example.org/stream_enhance.whl'"),
        ("", "'stream-enhance[mqtt]'"),
    ],
)
def test_outside_a_checkout_from_where_pip_had_it(tmp_path: Path, url: str, command: str) -> None:
    """Two modules copied to where an installation has them, with the record that pip leaves (PEP 610)."""
    package, record = tmp_path / "stream_enhance", tmp_path / "stream_enhance-1.0.dist-info"
    package.mkdir()
    record.mkdir()
    (package / "__init__.py").touch()
    (package / "extras.py").write_text((ROOT / "stream_enhance" / "extras.py").read_text())
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: stream-enhance\nVersion: 1.0\n")
    if url:
        (record / "direct_url.json").write_text(json.dumps({"url": url}))
    script = "from stream_enhance.extras import install_hint; print(install_hint('mqtt'))"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{sys.executable} -m pip install {command}\n"


@pytest.mark.parametrize(
    ("extra", "flavour"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu"), ("rtx", "onnxruntime")]
)
def test_an_extra_brings_one_onnxruntime(extra: str, flavour: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    names = [re.split(r"[\[><=;\s]", line)[0] for line in wanted]
    flavours = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"}
    assert [name for name in names if name in flavours] == [flavour]
    assert "tensorrt-cu13>=10,<11" in project["optional-dependencies"]["tensorrt"], "onnxruntime-gpu links TensorRT 10"


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif("RESOLVE_EXTRAS" not in os.environ, reason="asks a package index; set RESOLVE_EXTRAS=1 to run it")
@pytest.mark.parametrize(
    ("extra", "flavour"), [("cpu", "onnxruntime"), ("rtx", "onnxruntime"), ("gpu", "onnxruntime-gpu")]
)
def test_pip_resolves_an_extra_to_one_onnxruntime(extra: str, flavour: str, tmp_path: Path) -> None:
    """With all that its dependencies ask for; ``tensorrt`` needs NVIDIA's own index."""
    report = tmp_path / "report.json"
    asked = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report), f"{ROOT}[{extra}]"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", *asked],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            cwd=tmp_path,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index is too slow")
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr[-500:]
    names = {entry["metadata"]["name"].lower() for entry in json.loads(report.read_text())["install"]}
    assert [name for name in sorted(names) if re.fullmatch(r"onnxruntime(-gpu|-directml|-openvino|-rocm)?", name)] == [
        flavour
    ]
