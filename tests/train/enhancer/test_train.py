"""A run repeats and resumes to the same losses, records what it should, and names what is wrong."""

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train import portraits

pytest.importorskip("torch")
pytest.importorskip("tensorboard")

import torch

from stream_enhance.errors import ConfigError, InputError, ModelError
from train.common import checkpoints
from train.common.command import LossNotFinite
from train.enhancer import recipe
from train.enhancer.cli import main
from train.enhancer.losses import LOSSES, Loss
from train.enhancer.train import Keyed, fit, open_data
from train.enhancer.trainer import Trainer, World, level

ROOT = Path(__file__).parents[3]
TINY = {"name": "unet_fast", "channels": [8, 16], "blocks": [1, 1], "size": 64}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits.write_folder(tmp_path_factory.mktemp("train") / "faces", people=8, side=100)


def make(faces: Path, **changes: Any) -> recipe.Recipe:
    tree: dict[str, Any] = {
        "name": "test",
        "model": TINY,
        "data": {"faces": str(faces), "size": 64, "held_out": 0.25, "val_pairs": 2},
        "losses": {"charbonnier": 1},
        "optimiser": {"lr": 1e-3},
        "batch": 2,
        "epochs": 2,
        "epoch_pairs": 4,
        "threads": 1,
    }
    for key, value in changes.items():
        tree[key] = {**tree[key], **value} if isinstance(value, dict) and isinstance(tree.get(key), dict) else value
    return recipe.parse(tree, "test")


def rows(out: Path) -> list[tuple[str, ...]]:
    with open(out / "losses.csv", newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def pix2pix(faces: Path, **changes: Any) -> recipe.Recipe:
    settings = {
        "model": {"name": "pix2pix", "base_channels": 4, "channels": None, "blocks": None},
        "data": {"faces": str(faces), "size": 256, "held_out": 0.25, "val_pairs": 1},
        "losses": {"charbonnier": 0, "l1": 100, "adversarial": 1},
        "discriminator_channels": 4,
        "precision": "bf16",
    }
    made = make(faces, **{**settings, **changes})
    model = {key: value for key, value in made.model.items() if value is not None and key != "size"}
    return made.model_copy(update={"model": model})


def test_two_runs_of_one_seed_give_the_same_losses_and_another_seed_does_not(faces: Path, tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(make(faces, seed=seed), tmp_path / name)
        runs.append(rows(tmp_path / name))
    assert runs[0] == runs[1] != runs[2]


def test_a_resumed_run_gives_the_losses_of_an_unbroken_one(faces: Path, tmp_path: Path) -> None:
    whole = pix2pix(faces, optimiser={"ema": 0.9, "schedule": "step", "step_epochs": 1})
    fit(whole, tmp_path / "whole")
    fit(whole.model_copy(update={"epochs": 1}), tmp_path / "parts")
    fit(whole, tmp_path / "parts", resume=True)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    ours, theirs = (checkpoints.read(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert all(torch.equal(ours["generator"][key], theirs["generator"][key]) for key in ours["generator"])


def test_every_term_is_written_apart_with_samples_and_the_best_checkpoint(faces: Path, tmp_path: Path) -> None:
    fit(pix2pix(faces, checkpoint_epochs=1), tmp_path)
    names = {row[2] for row in rows(tmp_path)}
    assert {"l1", "adversarial", "discriminator", "total", "val_psnr", "val_psnr_input"} <= names
    for name in ("best.pt", "last.pt", "epoch_0001.pt", "epoch_0002.pt", "samples/epoch_0002.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert list((tmp_path / "tensorboard").iterdir())


def test_every_weight_has_its_loss_and_a_new_one_needs_a_weight_and_an_entry(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(recipe.Weights.model_fields) == {*LOSSES, "adversarial"}  # the adversary learns: the trainer holds it

    class Weights(recipe.Weights):
        dark: float = 0

    monkeypatch.setitem(LOSSES, "dark", Loss(lambda ours, target, _: ours.mean()))
    made = make(faces, epochs=1).model_copy(update={"losses": Weights(l1=1, dark=2)})
    fit(made, tmp_path)
    assert {"l1", "dark", "total"} <= {row[2] for row in rows(tmp_path)}


def test_a_loss_that_is_not_finite_ends_either_network_with_code_1(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(make(faces, optimiser={"lr": math.inf}).model_dump(mode="json")))
    assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 1
    assert "the loss is nan at step 1; lower optimiser.lr" in capsys.readouterr().err


def test_heatmaps_the_refinement_and_freezing(faces: Path, tmp_path: Path) -> None:
    with_maps = pix2pix(faces, epochs=1)
    data = with_maps.data.model_copy(update={"heatmaps": True})
    with_maps = with_maps.model_copy(update={"model": {**with_maps.model, "heatmaps": True}, "data": data})
    fit(with_maps, tmp_path / "base")
    stacked = with_maps.model_copy(
        update={
            "model": {**with_maps.model, "refined": True},
            "losses": recipe.Weights(psnr_ssim=1),
            "optimiser": recipe.Optimiser(base_lr=5e-6, lr=1e-4, schedule="step"),
            "freeze": ("down1", "down2"),
        }
    )
    trainer = fit(stacked, tmp_path / "both", start=tmp_path / "base" / "last.pt")
    before = checkpoints.read(tmp_path / "base" / "last.pt")["generator"]
    after = trainer.generator.state_dict()
    assert torch.equal(before["base.down.0.0.weight"], after["base.down.0.0.weight"])
    assert not torch.equal(before["base.up.7.0.weight"], after["base.up.7.0.weight"])
    assert after["refine.layers.4.weight"].abs().sum() > 0
    assert [group["lr"] for group in trainer.optimisers[0].param_groups] == [5e-6, 1e-4]


def test_frozen_blocks_are_freed_after_their_epochs(faces: Path, tmp_path: Path) -> None:
    trainer = fit(make(faces, freeze=["down1"], freeze_epochs=1, epochs=1), tmp_path)
    assert all(p.requires_grad for p in trainer.generator.parameters())
    with pytest.raises(ConfigError, match="down9"):
        level(trainer.generator, "down9")


def test_gradients_gathered_over_two_batches_are_those_of_one_twice_as_large(faces: Path) -> None:
    pairs = [Keyed(open_data(make(faces).data)[0], 0, False)[0, k] for k in range(4)]
    low, target = (torch.stack([pair[k] for pair in pairs]) for k in (0, 1))
    gradients = []
    for batches in ([(low[:2], target[:2]), (low[2:], target[2:])], [(low, target)]):
        torch.manual_seed(0)
        trainer = Trainer(make(faces), World(), 1)
        trainer.backward(batches)  # not a step: Adam's first one is the gradient's sign, whatever its size
        gradients.append([p.grad for p in trainer.generator.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-7)


def test_it_stops_when_nothing_gets_better(faces: Path, tmp_path: Path) -> None:
    trainer = fit(make(faces, optimiser={"lr": 0.0}, epochs=9, patience=2), tmp_path)
    assert trainer.epoch == 3


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(faces: Path, tmp_path: Path) -> None:
    fit(make(faces), tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(LossNotFinite, match=r"lower optimiser\.lr"):
        fit(make(faces, epochs=6, optimiser={"lr": math.inf}), tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path, recipe_ = tmp_path / "last.pt", {"name": "r", "model": {}, "data": {}}
    checkpoints.save({"recipe": recipe_, "n": 1}, path)
    path.with_suffix(".part").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"No space left.*previous one is untouched"):
        checkpoints.save({"recipe": recipe_, "n": 2, "more": torch.zeros(1 << 16)}, path)
    assert checkpoints.read(path)["n"] == 1


def test_a_checkpoint_of_another_architecture_is_refused_by_name(faces: Path, tmp_path: Path) -> None:
    fit(make(faces, epochs=1), tmp_path)
    with pytest.raises(ModelError, match="another architecture"):
        fit(make(faces, model={"channels": [8, 24]}), tmp_path / "x", start=tmp_path / "last.pt")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no recipe"):
        checkpoints.read(tmp_path / "other.pt")


def test_the_command_says_what_is_wrong_in_one_line(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tmp_path / "none.yaml"), "--out", str(tmp_path)]) == 2
    assert "none.yaml" in capsys.readouterr().err
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nmodel: {name: unet_fast}\ndata: {}\nlosses: {l2: 1}\nepochs: 1\n")
    assert main(["train", str(bad), "--out", str(tmp_path)]) == 2
    assert "losses.l2" in capsys.readouterr().err
    bad.write_text("name: x\nmodel: {name: unet_fast}\ndata: {}\nlosses: {l1: 1}\nepochs: 1\n")
    assert main(["train", str(bad), "--out", str(tmp_path)]) == 2
    assert "exactly one of shards, faces and scface" in capsys.readouterr().err


def test_a_recipe_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=r"last\.pt: not YAML: not text"):
        recipe.load(tmp_path / "last.pt")


RECIPES = sorted((ROOT / "configs/train/enhancer").glob("*.yaml"))
OF_IMAGES = [path for path in RECIPES if path.stem != "05_several_frames"]  # that one learns from clips


@pytest.mark.parametrize("path", OF_IMAGES, ids=lambda p: p.stem)
def test_the_recipes_that_come_along_build_a_network_that_gives_faces(path: Path) -> None:
    from train.enhancer.models import build

    read = recipe.load(path)
    assert any(weight > 0 for weight in read.losses.model_dump().values())
    network = build({**read.model, **({"base_channels": 4} if "pix2pix" in path.name else {})}).eval()
    size = read.data.size
    with torch.inference_mode():
        face = network(torch.full((1, 7 if read.data.heatmaps else 3, size, size), 0.5))
    assert face.shape == (1, 3, size, size)
    assert face.isfinite().all()


@pytest.mark.timeout(120)
def test_two_processes_train_one_network(faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(make(faces, epochs=1, optimiser={"ema": 0.5}).model_dump(mode="json")))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29541"]
    done = subprocess.run(
        [*command, "-m", "train.enhancer", "train", str(path), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "last.pt").exists()
    assert sum(row[2] == "total" for row in rows(tmp_path / "run")) == 1


def test_batch_norms_are_brought_to_a_site(faces: Path, tmp_path: Path) -> None:
    import numpy as np

    from train.enhancer.adapt import adapt_batch_norm, read_crops, site_ranges
    from train.enhancer.models import build

    net = build({"name": "pix2pix", "base_channels": 4})
    before = {k: v.clone() for k, v in net.state_dict().items()}
    rng = np.random.default_rng(0)
    shots = [np.clip(portraits.draw(k, 48) * 0.3 + rng.normal(0, 8, (48, 48, 3)), 0, 255) for k in range(8)]
    crops = [np.repeat(shot.mean(2, keepdims=True), 3, 2).astype(np.uint8) for shot in shots]
    assert adapt_batch_norm(net, crops, 256) == 13
    after = net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in after if "running" not in k and "num_batches" not in k)
    assert not torch.equal(before["base.down.1.1.running_mean"], after["base.down.1.1.running_mean"])
    found = site_ranges(crops)
    assert found["chance"]["infrared"] == 1
    assert found["chance"]["night"] > 0.5
    assert found["face_px"][0] == pytest.approx(0.82 * 48)
    with pytest.raises(InputError, match="8 crops are the least"):
        read_crops(tmp_path)


def test_a_trapezoid_keeps_its_rate_and_falls_at_the_end(faces: Path) -> None:
    made = make(faces, optimiser={"schedule": "trapezoid", "fall": 0.5}, epochs=10)
    trainer = Trainer(made, World(), 10)
    rates = [trainer.rate(step) for step in range(101)]
    assert rates[:51] == [1.0] * 51
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[100] == pytest.approx(0.01)
    whole = Trainer(make(faces, optimiser={"schedule": "cosine"}, epochs=5), World(), 10)
    assert rates[75] == pytest.approx(whole.rate(25))
