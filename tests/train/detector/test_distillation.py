"""The distance to a teacher's features: the fit it starts from, what it weighs, and a run that learns by it."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("ultralytics")

import torch

from tests.train.discs import SIDE, recipe, write_shard
from train.common.journal import read_losses
from train.detector import initial_weights as detector_start
from train.detector import trainer as detector_train
from train.detector.distillation import TAPS, FeatureLoss, fitted, through
from train.detector.trainer import score_map


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return detector_start.build("yolov8n-pose.yaml").eval()


def images(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def test_walking_through_the_layers_is_the_network(network: torch.nn.Module) -> None:
    x = images(0)
    with torch.no_grad():
        whole, (out, felt) = network(x), through(network.model, x)
    assert torch.equal(out[0], whole[0])
    assert [f.shape[1] for f in felt] == [64, 128, 256, 128, 64, 128, 256]
    assert [SIDE // f.shape[2] for f in felt] == [8, 16, 32, 16, 8, 16, 32]


def test_the_fit_is_the_linear_map_that_there_is() -> None:
    x = torch.randn(500, 6)
    want = torch.nn.Conv2d(6, 4, 1)
    y = want(x[..., None, None])[..., 0, 0].detach()
    got = fitted(x, y, ridge=1e-6)
    assert torch.allclose(got.weight, want.weight, atol=1e-3)
    assert got.bias is not None
    assert want.bias is not None
    assert torch.allclose(got.bias, want.bias, atol=1e-3)


def test_a_network_is_next_to_itself_and_far_from_another(network: torch.nn.Module) -> None:
    torch.manual_seed(1)
    other = detector_start.build("yolov8n-pose.yaml").eval()
    nowhere = torch.zeros(4, 1, SIDE // 8, SIDE // 8)
    apart = []
    for who in (network, other):
        loss = FeatureLoss(network, who, [(images(n), images(n)) for n in range(6)])
        fresh = images(9)
        with torch.no_grad():
            apart.append(loss(through(who.model, fresh)[1], fresh, nowhere).item())
    assert apart[0] < 0.1
    assert apart[1] > 2 * apart[0]


def test_half_of_the_weight_lies_on_faces(network: torch.nn.Module) -> None:
    loss = FeatureLoss(network, network, [(images(n), images(n)) for n in range(6)])
    x = images(3)
    felt = [f.clone() for f in through(network.model, x)[1]]
    tap = TAPS.index(15)  # stride 8
    felt[tap][:, :, 2, 3] += 5.0
    face, elsewhere = torch.zeros(2, 4, 1, SIDE // 8, SIDE // 8)
    face[:, :, 2, 3], elsewhere[:, :, 6, 6] = 1.0, 1.0
    with torch.no_grad():
        assert loss(felt, x, face) > 5 * loss(felt, x, elsewhere)


def test_the_score_map_shows_every_strides_cells() -> None:
    cells = torch.tensor([8 * 2 + 3, 64 + 4 * 1 + 1, 64 + 16 + 3])
    batch = {
        "img": torch.zeros(2, 3, SIDE, SIDE),
        "t_index": torch.stack([torch.tensor([0, 0, 1]), cells]),
        "t_score": torch.tensor([0.5, 0.7, 0.9]),
    }
    shown = score_map(batch)
    assert shown.shape == (2, 1, 8, 8)
    assert shown[0, 0, 2, 3] == pytest.approx(0.7), "the larger of two"
    assert shown[0, 0, 0, 0] == 0
    assert torch.allclose(shown[1, 0, 4:, 4:], torch.tensor(0.9))


def test_a_run_learns_features_and_goes_on_with_its_adapters(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({"model": network}, tmp_path / "teacher.pt")
    write_shard(tmp_path / "cache")
    settings = recipe(tmp_path, features=2.0, teacher=tmp_path / "teacher.pt", save_every=2)
    last = detector_train.train(settings, tmp_path / "run")
    state = torch.load(last, weights_only=True)
    assert "features" in read_losses(tmp_path / "run" / "losses.csv")
    torch.save(state | {"step": 3}, last)
    detector_train.train(settings, tmp_path / "run", resume=True)
    again = torch.load(last, weights_only=True)
    assert again["step"] == 4
    key = "adapters.4.weight"
    moved = (again["features"][key] - state["features"][key]).abs().max()
    assert 0 < moved < 0.1, "one step on from where it was, not from a new fit"
