"""What is exported is what was trained, carries its card, and runs in the runtime."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

from stream_enhance.backends import open_session
from stream_enhance.backends.card import Card, read_card, weights_sha256
from stream_enhance.errors import ModelError
from train.common import checkpoints
from train.common.command import ExportDiffers
from train.enhancer import export, models, weights
from train.enhancer.cli import main

MODEL = {"name": "unet_fast", "channels": [8, 16], "blocks": [1, 2], "size": 64}
CARD = Card(
    name="test", task="face-enhancement", size=64, license="x", data="x", recipe="x", commit="x", weights_sha256=""
)


def network(seed: int = 0, **changes: object) -> models.UNetFast:
    torch.manual_seed(seed)
    net = models.build({**MODEL, **changes})
    assert isinstance(net, models.UNetFast)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    return net.eval()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_file_gives_what_torch_gives_at_any_batch(tmp_path: Path, precision: str) -> None:
    net, path = network(), tmp_path / "net.onnx"
    assert export.export(net, path, CARD, precision) >= export.LEAST_DB[precision]
    x = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    with open_session(path, "face-enhancement", "cpu", 1) as session:
        ours = session(x)
    with torch.no_grad():
        assert np.allclose(
            ours, net(torch.from_numpy(x)).clamp(0, 1).numpy(), atol=2e-3 if precision == "fp16" else 1e-5
        )
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_half_is_half_as_large_and_the_card_has_the_hash(tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        export.export(network(), tmp_path / f"{precision}.onnx", CARD, precision)
    whole, half = ((tmp_path / f"{p}.onnx").stat().st_size for p in ("fp32", "fp16"))
    assert half < 0.65 * whole
    card = read_card(tmp_path / "fp16.onnx")
    assert card.weights_sha256 == weights_sha256(onnx.load(str(tmp_path / "fp16.onnx")))


def test_an_export_that_differs_fails_and_leaves_no_file(tmp_path: Path) -> None:
    class Restless(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rand(1).item()  # the trace keeps the first value

    with pytest.raises(ExportDiffers, match="dB from torch"):
        export.export(Restless(), tmp_path / "net.onnx", CARD)
    assert not list(tmp_path.iterdir())


def test_a_network_that_gives_no_numbers_is_not_exported(tmp_path: Path) -> None:
    net = network()
    net.stem.weight.data[0] = torch.nan
    with pytest.raises(ExportDiffers, match="only nan dB from torch"):
        export.export(net, tmp_path / "net.onnx", CARD)
    assert not list(tmp_path.iterdir())


def saved(path: Path, **changes: object) -> Path:
    """A checkpoint of `network(1)`."""
    recipe = {"name": "r", "model": MODEL, "data": {"size": 64, "heatmaps": False}, **changes}
    recipe = {key: value for key, value in recipe.items() if value is not None}
    checkpoints.save({"recipe": recipe, "generator": network(1).state_dict(), "ema": None}, path)
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--blend", "{other}", "nan"], "--blend: 'nan' is not a share; write a number"),
        (["--blend", "{other}", "inf"], "--blend: 'inf' is not a share; write a number"),
        (["--metrics", "{rows}"], "rows.json: holds a list, not an object with keys; name a JSON document"),
        (["--metrics", "{other}"], "other.pt: not JSON"),
    ],
)
def test_what_the_command_cannot_use_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    (tmp_path / "rows.json").write_text("[]")
    given = {"other": saved(tmp_path / "other.pt"), "rows": tmp_path / "rows.json"}
    words = [word.format(**given) for word in options]
    assert main(["export", str(saved(tmp_path / "last.pt")), "--out", str(tmp_path / "net.onnx"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "net.onnx").exists()


def test_no_checkpoint_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last, other = saved(tmp_path / "last.pt"), saved(tmp_path / "other.pt")
    (tmp_path / "link.pt").symlink_to(last)
    before = last.read_bytes()
    for words in (
        [last, "--out", last],
        [last, "--out", tmp_path / "link.pt"],
        [other, "--out", last, "--blend", last, 0.5],
    ):
        assert main(["export", *map(str, words)]) == 2
        assert "is the checkpoint itself; name another file" in capsys.readouterr().err
    assert last.read_bytes() == before


@pytest.mark.parametrize("key", ["name", "model", "data"])
def test_a_checkpoint_with_half_a_recipe_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    assert main(["export", str(saved(tmp_path / "half.pt", **{key: None})), "--out", str(tmp_path / "net.onnx")]) == 2
    assert f"half.pt: its recipe lacks {key}; give a checkpoint" in capsys.readouterr().err


def test_an_existing_file_needs_overwrite_and_the_card_is_the_recipes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"data": "drawn faces", "weaknesses": "real ones", "license": "MIT"}
    last, out = saved(tmp_path / "last.pt", card=own), tmp_path / "net.onnx"
    assert main(["export", str(last), "--out", str(out)]) == 0
    card = read_card(out)
    assert {"data": card.data, "weaknesses": card.weaknesses, "license": card.license} == own
    before = out.read_bytes()
    assert main(["export", str(saved(tmp_path / "other.pt")), "--out", str(out)]) == 2
    assert "net.onnx: exists already; name another file or add --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["export", str(tmp_path / "other.pt"), "--out", str(out), "--overwrite"]) == 0
    assert (read_card(out).data, read_card(out).weaknesses) == ("not stated", "not stated")
    assert main(["export", str(last)]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err
    assert main(["export", str(last), str(tmp_path / "old.onnx")]) == 0
    assert "the file to write is now named with --out" in capsys.readouterr().err


def test_the_command_takes_a_checkpoint_and_refuses_what_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {
        "recipe": {"name": "r", "model": MODEL, "data": {"size": 64, "heatmaps": False}},
        "generator": network(1).state_dict(),
        "ema": network(2).state_dict(),
    }
    checkpoints.save(state, tmp_path / "last.pt")
    (tmp_path / "scores.json").write_text(json.dumps({"24": {"psnr": 1}}))
    out = tmp_path / "net.onnx"
    assert (
        main(["export", str(tmp_path / "last.pt"), "--out", str(out), "--metrics", str(tmp_path / "scores.json")]) == 0
    )
    assert read_card(out).metrics == {"24": {"psnr": 1}}
    assert read_card(out).points == 5
    back, recipe = weights.network_of(out)  # the averaged weights, read back from the file
    assert recipe["model"]["blocks"] == [1, 2]
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(back(x), network(2)(x), atol=2e-3)
    assert main(["export", str(tmp_path / "scores.json"), "--overwrite", "--out", str(out)]) == 2
    assert "scores.json" in capsys.readouterr().err


@pytest.mark.parametrize("levelled", [False, True])
def test_a_file_says_whether_its_network_levels_light(tmp_path: Path, levelled: bool) -> None:
    net = network(levelled=levelled)
    export.export(net, tmp_path / "net.onnx", CARD)
    back, recipe = weights.network_of(tmp_path / "net.onnx")
    assert recipe["model"]["levelled"] == levelled
    x = 0.2 * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(back(x), net(x), atol=1e-5)


def test_a_grey_face_stays_grey_and_a_coloured_one_is_changed_as_before(tmp_path: Path) -> None:
    checkpoint = {
        "recipe": {"name": "r", "model": MODEL, "data": {"size": 64, "heatmaps": False}},
        "generator": network(1).state_dict(),
        "ema": None,
    }
    checkpoints.save(checkpoint, tmp_path / "last.pt")
    out = tmp_path / "net.onnx"
    assert main(["export", str(tmp_path / "last.pt"), "--out", str(out), "--precision", "fp32", "--keep-grey"]) == 0
    back, recipe = weights.network_of(out)
    assert recipe["model"]["keep_grey"]
    grey, coloured = torch.rand(2, 1, 64, 64).expand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    plain = network(1)
    with torch.no_grad():
        assert (plain(grey) - plain(grey).mean(1, keepdim=True)).abs().max() > 0.01
        assert (back(grey) - back(grey).mean(1, keepdim=True)).abs().max() < 1e-5
        assert torch.allclose(back(coloured), plain(coloured), atol=1e-5)


def test_a_blend_lies_between_the_two() -> None:
    ours, other = network(1), network(2)
    middle = (ours.stem.weight + other.stem.weight) / 2
    export.blend(ours, other, 0.5)
    assert torch.allclose(ours.stem.weight, middle)
    with pytest.raises(ModelError, match="different architectures"):
        export.blend(ours, torch.nn.Conv2d(3, 3, 1), 0.5)


def test_an_onnx_file_of_another_network_is_refused(tmp_path: Path) -> None:
    export.export(torch.nn.Conv2d(3, 3, 1), tmp_path / "other.onnx", CARD)
    with pytest.raises(ModelError, match="not an exported unet_fast"):
        weights.network_of(tmp_path / "other.onnx")


def test_training_goes_on_from_an_exported_file(tmp_path: Path) -> None:
    export.export(network(1), tmp_path / "net.onnx", CARD)
    ours = network(2)
    weights.start_from(ours, tmp_path / "net.onnx")
    assert torch.allclose(ours.stem.weight, network(1).stem.weight)
    with pytest.raises(ModelError, match="another architecture"):
        weights.start_from(torch.nn.Conv2d(3, 3, 1), tmp_path / "net.onnx")
