"""Images of one person get one name, whatever their files are called."""

import json

import pytest

from tests.train import portraits

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from train.enhancer import people  # noqa: E402


class Colours(torch.nn.Module):
    """Stands for a face embedding: what colours are where."""

    def forward(self, x):
        return (torch.nn.functional.avg_pool2d(x, 28) - 127.5).flatten(1)


def test_images_that_look_alike_are_one_person(tmp_path, capsys):
    torch.onnx.export(Colours(), (torch.zeros(1, 3, 112, 112),), str(tmp_path / "eyes.onnx"), dynamo=False)
    faces = portraits.write_folder(tmp_path / "faces", people=3, each=2)
    out = tmp_path / "people.json"
    command = [str(out), "--faces", str(faces), "--embedder", str(tmp_path / "eyes.onnx"), "--likeness", "0.99"]
    assert people.main(command) == 0
    names = json.loads(out.read_text())
    assert len(names) == 6
    assert len(set(names.values())) == 3
    assert all(names[f"drawn/{k}_0.png"] == names[f"drawn/{k}_1.png"] for k in range(3))
    assert people.main([str(out), "--faces", str(tmp_path / "none"), "--embedder", str(tmp_path / "eyes.onnx")]) == 2
    assert "none" in capsys.readouterr().err
