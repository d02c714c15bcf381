"""Squares without a face: they avoid what the detector sees, and training reads them as it reads faces."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from train.common.images import Image, read_image, write_image
from train.enhancer import non_faces
from train.enhancer.cli import main
from train.enhancer.data import patch_place, read_index
from train.enhancer.non_faces import FaceFree


class Network:
    """A detector that sees a face in the left half of every image."""

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.width, self.height = size

    def detect(self, image: Image) -> tuple[int, NDArray[np.float32]]:
        face = np.zeros((1, 15), np.float32)
        face[0, :4] = 0, self.height / 4, self.width / 2, self.height / 2
        return 1, face


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(non_faces, "open_yunet", lambda path, side, score: Network())


def textured(side: int = 400) -> Image:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_places_are_away_from_every_face(tmp_path: Path) -> None:
    found = list(FaceFree(tmp_path).places(textured(), 20, (16, 60), np.random.default_rng(1)))
    assert found
    for x, y, height in found:
        half = height / 0.82 / 2
        assert half <= x <= 400 - half
        assert max(abs(x - 100), abs(y - 200)) >= half + 100


def test_the_index_is_one_that_training_reads(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", textured(700))
    order = [
        "non-faces",
        str(tmp_path / "a.png"),
        "--out",
        str(tmp_path / "out"),
        "--yunet",
        str(tmp_path),
        "--each",
        "3",
    ]
    assert main(order) == 0
    squares = read_index(tmp_path / "out")
    assert squares
    for square in squares:
        assert square.person == "a"
        place = patch_place(square.points, 256)
        assert np.hypot(*place[:, 0]) * 256 * 0.82 == pytest.approx(square.height, rel=0.01)
        height, width = read_image(square.path).shape[:2]
        assert 0 < square.center[0] < width
        assert 0 < square.center[1] < height
    assert main(order) == 2  # an index is there already


def test_a_flat_wall_gives_no_square(tmp_path: Path) -> None:
    wall = np.full((300, 300, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    (tmp_path / "non_faces").mkdir()
    rows = [non_faces.write_square(wall, (150.0, 150.0, 80.0), tmp_path, f"{k}", "w", rng) for k in range(40)]
    assert sum(row is None for row in rows) > 20
