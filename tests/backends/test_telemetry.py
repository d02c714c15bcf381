"""Nothing that we run reports to anybody. onnxruntime would, and keeps what it means to send in the user's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = "import stream_enhance.cli.main as c; c.main(['run', '{clip}', '-o', '{out}', '--duration', '0.2s'])"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("code", [RUN, "import train, onnxruntime", "import benchmarks.conditions"])
def test_onnxruntime_gathers_no_telemetry(code: str, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    home = tmp_path / "home"
    home.mkdir()
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}  # either would hide what this looks for
    env = {k: v for k, v in os.environ.items() if k not in quiet and not k.startswith("XDG_")} | {"HOME": str(home)}
    command = [sys.executable, "-c", code.format(clip=clip, out=tmp_path / "out.mp4")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(home.rglob("*onnxruntime*"))
