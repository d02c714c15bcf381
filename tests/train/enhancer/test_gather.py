"""Faces gathered from a clip come with an index that training reads; what cannot be read is named."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.train import portraits

pytest.importorskip("onnxruntime")

from train.common.images import Image, read_image
from train.enhancer import gather
from train.enhancer.cli import main
from train.enhancer.data import read_index

CLIP = Path(__file__).parents[2] / "clips" / "demo.mp4"


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gather") / "more"
    assert main(["gather", str(CLIP), "--out", str(out), "--every", "60", "--smallest", "20"]) == 0
    return out


def test_faces_of_a_clip_are_kept_with_their_surroundings(gathered: Path) -> None:
    faces = read_index(gathered)
    assert {face.person for face in faces} == {"demo"}
    for face in faces:
        height, width = read_image(face.path).shape[:2]
        assert face.height >= 20
        assert height > 1.2 * face.height
        assert np.all((face.points > 0) & (face.points < [width, height]))


def test_small_faces_are_left_out(tmp_path: Path) -> None:
    assert main(["gather", str(CLIP), "--out", str(tmp_path), "--every", "60", "--smallest", "2000"]) == 0
    assert (tmp_path / "index.csv").read_text().count("\n") == 1


def test_people_held_out_are_left_out(gathered: Path, tmp_path: Path) -> None:
    class Alike:
        """Sees the same person in every face."""

        def __call__(self, image: Image, points: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.array([1.0, 0.0], np.float32)

    held_out = np.array([[0.5, 0.87]], np.float32)
    assert gather.gather([CLIP], tmp_path, 20, 60, Alike(), held_out) == 0
    assert gather.gather([CLIP], tmp_path, 20, 60, Alike(), -held_out) == len(read_index(gathered))


def test_what_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert main(["gather", str(broken), "--out", str(tmp_path / "a")]) == 2
    assert "broken.mp4" in capsys.readouterr().err
    faces = portraits.write_folder(tmp_path / "faces", people=4, side=80)
    command = [str(CLIP), "--out", str(tmp_path / "b"), "--apart-from", str(faces)]
    assert main(["gather", *command]) == 2
    assert "--embedder" in capsys.readouterr().err
