"""Shapes of network are trained alike, judged at one size, and timed; a second call goes on from the first."""

from pathlib import Path

import pytest
import yaml

from tests.train import portraits

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("onnxruntime")

from train.enhancer import frontier, shards  # noqa: E402


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    root = tmp_path_factory.mktemp("frontier")
    faces = portraits.write_folder(root / "faces", people=16, side=100)
    for half in ("train", "val"):
        arguments = ["--faces", str(faces), "--out", str(root / half), "--count", "16", "--held-out", "0.5"]
        assert shards.main([*arguments, "--half", half]) == 0
    recipe = {
        "name": "trial",
        "model": {"name": "unet_fast", "channels": [8, 16], "blocks": [1, 1], "size": 64},
        "data": {"shards": str(root / "train"), "val_shards": str(root / "val"), "size": 64, "val_pairs": 1},
        "losses": {"charbonnier": 1},
        "batch": 2,
        "epochs": 1,
        "epoch_pairs": 4,
        "threads": 1,
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return [str(root / "recipe.yaml"), "--out", str(root / "out"), "--rounds", "2"]


VARIANTS = ["--variant", "plain", "--variant", "small", "model.channels=[4,8]", "model.size=32", "data.size=32"]


def test_every_variant_is_a_row_beside_the_first(command, capsys):
    assert frontier.main([*command, *VARIANTS]) == 0
    out = Path(command[2])
    lines = (out / "frontier.md").read_text().splitlines()
    assert lines == capsys.readouterr().out.splitlines()[-4:]
    cells = [line.split("|")[1:-1] for line in lines[2:]]
    assert [row[0].strip() for row in cells] == ["plain", "small"]
    assert float(cells[0][1].split()[0]) >= float(cells[1][1].split()[0])
    assert all(float(row[2]) > 0 for row in cells)
    assert not cells[0][4].strip()
    assert "[" in cells[1][4]
    before = (out / "plain" / "losses.csv").read_bytes()
    assert frontier.main([*command, *VARIANTS]) == 0  # nothing is trained anew
    assert (out / "plain" / "losses.csv").read_bytes() == before


def test_a_wrong_variant_is_named(command, capsys):
    assert frontier.main([*command, "--variant", "odd", "model.depth=3"]) == 2
    assert "depth" in capsys.readouterr().err
    assert frontier.main([*command, "--variant", "one", "--variant", "one"]) == 2
    assert "one name" in capsys.readouterr().err
