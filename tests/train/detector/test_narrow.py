"""Narrower networks out of wider ones; real networks with random weights."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ultralytics")

from stream_enhance.errors import ModelError  # noqa: E402
from tests.train.discs import SIDE, recipe, write_shard  # noqa: E402
from train.detector import trainer as detector_train  # noqa: E402
from train.detector.initial_weights import PICO, build  # noqa: E402
from train.detector.narrow import narrow  # noqa: E402


@pytest.fixture
def wide() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build("yolov8n-pose.yaml").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
    return model


def test_a_network_of_the_same_width_is_taken_over_whole(wide: torch.nn.Module) -> None:
    same = build("yolov8n-pose.yaml").eval()
    image = torch.rand(1, 3, SIDE, SIDE)
    narrow(wide, same)
    with torch.no_grad():
        assert torch.equal(same(image)[0], wide(image)[0])


def test_what_is_left_out_is_what_counts_for_nothing(wide: torch.nn.Module) -> None:
    """Where every channel left out is zero, the narrow network gives what the wide one gives."""
    small = build(PICO).eval()
    narrow(wide, small)  # fills the narrow one; then the wide one's other channels are silenced
    layers = dict(wide.named_modules())
    for name, module in small.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            theirs = layers[name]
            kept = torch.isin(theirs.running_mean, module.running_mean)  # random numbers: they tell channels apart
            assert kept.sum() == module.num_features
            theirs.weight.data[~kept] = 0
            theirs.bias.data[~kept] = 0
    image = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(small(image)[0], wide(image)[0], rtol=1e-3, atol=1e-3)


def test_another_kind_of_network_is_refused(wide: torch.nn.Module) -> None:
    with pytest.raises(ModelError, match="another width of the same YOLOv8"):
        narrow(wide, build("yolov8m-pose.yaml"))
    with pytest.raises(ModelError, match="is narrower"):
        narrow(wide, build("yolov8s-pose.yaml"))


def test_a_narrow_run_starts_from_a_wide_one(tmp_path: Path) -> None:
    write_shard(tmp_path / "cache")
    first = detector_train.train(recipe(tmp_path, stages=[{"side": SIDE, "images": 8, "batch": 4}]), tmp_path / "n")
    changes = {"network": PICO, "start": first, "learning_rate": 1e-9}
    last = detector_train.train(recipe(tmp_path, **changes), tmp_path / "p")
    theirs, ours = (detector_train.read_checkpoint(path, None)["average"] for path in (first, last))
    kernel = ours["model.0.conv.weight"]
    apart = (kernel[:, None] - theirs["model.0.conv.weight"]).abs().flatten(2).amax(2)  # of each pair of kernels
    assert kernel.shape[0] == 8
    assert apart.amin(1).max() < 1e-4
