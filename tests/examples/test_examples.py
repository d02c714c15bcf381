"""Each program in ``examples/`` does what its first line says, as a user would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.media import images_of

pytestmark = pytest.mark.timeout(100)


def run(name: str, *arguments: str | Path) -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person in the left half, 30 frames."""
    import av
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("visit") / "visit.mp4"
    face = cv2.resize(astronaut()[:300, 80:380], (160, 160))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 400, 200, "yuv420p"
        for i in range(30):
            image = np.full((200, 400, 3), 90, np.uint8)
            image[20:180, 10 + i // 3 : 170 + i // 3] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_one_image(visit: Path, tmp_path: Path) -> None:
    before = images_of(visit, "bgr24")[0]
    cv2.imwrite(str(tmp_path / "in.png"), before)
    assert run("one_image.py", tmp_path / "in.png", tmp_path / "out.png").count("face at") == 1
    after = cv2.imread(str(tmp_path / "out.png"))
    assert after is not None
    assert after.shape == before.shape
    assert np.array_equal(after[:, 300:320], before[:, 300:320]), "the colours keep their order"
    assert not np.array_equal(after, before)


def test_a_video_with_a_report(visit: Path, tmp_path: Path) -> None:
    assert "30 frames" in run("video_with_report.py", visit, tmp_path / "out.mp4", tmp_path / "report.json")
    assert images_of(tmp_path / "out.mp4")[0].shape == (200, 800, 3)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["frames_out"], report["tracks"]) == (30, 1)


def test_frames_in_a_loop_of_ones_own(visit: Path, tmp_path: Path) -> None:
    assert "faces: 1" in run("own_loop.py", visit, tmp_path / "frames")
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == ["000000.jpg", "000025.jpg"]


def test_best_shots(visit: Path, tmp_path: Path) -> None:
    assert "track 1: quality" in run("best_shots.py", visit, tmp_path / "shots")
    shot = cv2.imread(str(tmp_path / "shots" / "track_001.png"))
    assert shot is not None
    assert shot.shape[1] == 2 * shot.shape[0]


def test_tracks_in_a_zone(visit: Path) -> None:
    pytest.importorskip("supervision")
    assert "1 tracks were in the left half" in run("count_in_zone.py", visit)


def test_each_is_short_and_listed() -> None:
    listed = Path(__file__).read_text()
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text().splitlines()) < 40, path.name
        assert f'"{path.name}"' in listed, f"{path.name} is not run here"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_without_arguments_it_says_how_it_is_called(path: Path) -> None:
    if path.stem == "count_in_zone":
        pytest.importorskip("supervision")
    said = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, timeout=100)
    assert said.returncode == 1
    assert f"python examples/{path.name}" in said.stderr
    assert "Traceback" not in said.stderr
