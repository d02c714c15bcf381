"""Real poor faces are shown before and after, those most changed first, and scored where a scorer is given."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.train import portraits

pytest.importorskip("onnx")

from tests.train.enhancer.test_evaluate import write_enhancer
from train.common.images import Image
from train.enhancer import real
from train.enhancer.cli import main


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three drawn faces, with the points that the drawing has: no detector was made for drawings."""
    folder = portraits.write_folder(tmp_path / "faces", people=3)
    monkeypatch.setattr(real, "largest_face", lambda _, p: ((0.0, 0.0, 1.0, 1.0), real_points(p)))
    return folder


def real_points(image: Image) -> NDArray[np.float32]:
    from stream_enhance.imaging.crop import TEMPLATE

    return (TEMPLATE * image.shape[0]).astype(np.float32)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_an_enhancer_that_changes_nothing_adds_nothing(faces: Path, tmp_path: Path) -> None:
    model = write_enhancer(tmp_path / "same.onnx")
    assert (
        main(["real", "--faces", str(faces), "--model", str(model), "--out", str(tmp_path / "o"), "--threads", "1"])
        == 0
    )
    found = rows(tmp_path / "o")
    assert len(found) == 3
    assert all(float(row["coarse_difference"]) == 0 for row in found)
    sheet = cv2.imread(str(tmp_path / "o" / "sheet_00.png"))
    assert sheet is not None
    assert sheet.shape == (256, real.ACROSS * 512, 3)
    assert np.array_equal(sheet[:, :256], sheet[:, 256:512])


def test_the_most_changed_come_first(faces: Path, tmp_path: Path) -> None:
    model = write_enhancer(tmp_path / "dark.onnx", 0.5)
    assert (
        main(["real", "--faces", str(faces), "--model", str(model), "--out", str(tmp_path / "o"), "--threads", "1"])
        == 0
    )
    apart = [float(row["coarse_difference"]) for row in rows(tmp_path / "o")]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] > 20


def test_a_folder_without_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_enhancer(tmp_path / "same.onnx")
    assert main(["real", "--faces", str(tmp_path / "no"), "--model", str(model), "--out", str(tmp_path / "o")]) == 2
    assert "holds no images" in capsys.readouterr().err
