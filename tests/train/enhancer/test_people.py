"""Images of one person get one name, whatever their files are called."""

import json
from pathlib import Path

import pytest

from tests.train import portraits

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import onnx
import torch

from train.common.onnx_export import to_onnx
from train.enhancer.cli import main


class Colours(torch.nn.Module):
    """Stands for a face embedding: what colours are where."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.avg_pool2d(x, 28) - 127.5).flatten(1)


def test_images_of_similar_faces_are_one_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(to_onnx(Colours(), torch.zeros(1, 3, 112, 112), ("x", "y"), {}), str(tmp_path / "eyes.onnx"))
    faces = portraits.write_folder(tmp_path / "faces", people=3, each=2)
    out = tmp_path / "people.json"
    command = [str(out), "--faces", str(faces), "--embedder", str(tmp_path / "eyes.onnx"), "--similarity", "0.99"]
    assert main(["people", *command]) == 0
    names = json.loads(out.read_text())
    assert len(names) == 6
    assert len(set(names.values())) == 3
    assert all(names[f"drawn/{k}_0.png"] == names[f"drawn/{k}_1.png"] for k in range(3))
    assert main(["people", str(out), "--faces", str(tmp_path / "none"), "--embedder", str(tmp_path / "eyes.onnx")]) == 2
    assert "none" in capsys.readouterr().err
