"""The wheel, installed where the checkout is not, finds its models and runs."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_runs_outside_the_checkout(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    if not list((ROOT / "engines").glob("*.onnx")):
        pytest.skip("engines/ holds no weights yet")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, capture_output=True)
    # The dependencies are those of this environment, put on the path: what is tested is the wheel, not the network.
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "deps.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [str(tmp_path / "venv" / "bin" / "stream-enhance"), "run", str(clip), "-o", str(tmp_path / "out.mp4")]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    where = "import stream_enhance, sys; print(stream_enhance.__file__, 'torch' in sys.modules)"
    asked = [python, "-c", where]
    printed = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True, env=alone).stdout
    assert str(site) in printed, "the checkout's own package must not be what ran"
    assert printed.strip().endswith("False")
    assert (site / "stream_enhance" / "py.typed").is_file(), "without it a caller's type checker sees nothing"
