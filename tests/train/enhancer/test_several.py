"""A network that sees several frames learns from clips, and runs in the product as it was trained."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.train import portraits

pytest.importorskip("torch")
pytest.importorskip("tensorboard")

import torch

from stream_enhance.backends import open_session
from stream_enhance.backends.card import read_card
from stream_enhance.errors import ModelError
from stream_enhance.stages.classical import ClassicalOptions
from stream_enhance.stages.networks import open_enhancement
from stream_enhance.stages.past import Past
from stream_enhance.stages.steady import TrackMemory, motion_of, thumb_of
from train.enhancer.cli import main
from train.enhancer.clip_data import ClipSamples
from train.enhancer.models import UNetFast
from train.enhancer.several import UNetSeveral, mix, packed, single_frame
from train.enhancer.train_clips import Clips
from train.enhancer.weights import network_of

CHANNELS, BLOCKS = (8, 16), (1, 1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    faces = portraits.write_folder(root / "faces", people=6, side=120)
    common = ["clips", "--faces", str(faces), "--held-out", "0.4", "--count", "3"]
    assert main([*common, "--out", str(root / "train")]) == 0
    assert main([*common, "--out", str(root / "other"), "--half", "val", "--other-camera"]) == 0
    return root


@pytest.fixture(scope="module")
def run(clips: Path) -> Path:
    """The folder of a short run."""
    tree = {
        "name": "test",
        "model": {"name": "unet_several", "channels": [8, 16], "blocks": [1, 1], "size": 64},
        "data": {"clips": [str(clips / "train")], "val_clips": str(clips / "other"), "size": 64},
        "steps": 6,
        "batch": 2,
        "chunk": 4,
        "round_batches": 1,
        "warmup_steps": 0,
    }
    recipe = clips / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tree))
    assert main(["train-clips", str(recipe), "--out", str(clips / "run"), "--set", "steps=3"]) == 0
    assert main(["train-clips", str(recipe), "--out", str(clips / "run"), "--resume"]) == 0
    return clips / "run"


def test_it_starts_as_the_single_frame_network() -> None:
    torch.manual_seed(0)
    single = UNetFast(CHANNELS, BLOCKS, 64, levelled=True, keep_grey=True)
    torch.nn.init.normal_(single.head.weight, 0, 0.05)
    several = UNetSeveral(CHANNELS, BLOCKS, 64)
    several.load_state_dict(several.state_dict() | single.state_dict())
    frame, mean = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = several(packed(frame, mean, torch.full((2, 1, 64, 64), 5.0)))
        assert torch.allclose(found[:, :3], single(frame), atol=1e-5)
    assert found.shape == (2, 4, 64, 64)


def test_the_past_is_packed_and_mixed_in_training_as_in_the_product(clips: Path) -> None:
    sample = ClipSamples([clips / "train"], 64).sample(0, np.random.default_rng(0))
    past, memory = Past.of(sample.low[0]), TrackMemory.of(sample.low[0], 0.0)
    memory.mix(sample.clean[0], None)
    shown = torch.from_numpy(sample.clean[:1].transpose(0, 3, 1, 2) / np.float32(255))
    batch = Clips(ClipSamples([clips / "train"], 64), 0, 0, 1)  # shapes of one batch
    assert batch[0]["mean"].shape == (12, 3, 32, 32)
    for t in range(1, 4):
        motion = motion_of(thumb_of(sample.low[t - 1]), thumb_of(sample.low[t]))
        assert motion is not None
        past.add(sample.low[t], motion)
        memory.mix(sample.clean[t], memory.add(sample.low[t], 0.0))
        now = torch.from_numpy(sample.clean[t].transpose(2, 0, 1)[None] / np.float32(255))
        shown = mix(now, shown, torch.from_numpy(sample.flow[t][None]), torch.from_numpy(sample.kept[t][None, None]))
    mean = torch.from_numpy(sample.mean[3].transpose(2, 0, 1)[None] / np.float32(255))
    frame = torch.zeros(1, 3, 64, 64)
    plane = packed(frame, mean, torch.from_numpy(sample.count[3][None, None]))[0, 3:].numpy()
    np.testing.assert_allclose(plane, past.plane(), atol=0.5 / 255 + 1e-4)
    assert memory.result is not None
    apart = np.abs(255 * shown[0].numpy().transpose(1, 2, 0) - memory.result)[4:-4, 4:-4]
    assert apart.mean() < 1.0


def test_it_learns_goes_on_and_runs_in_the_product(run: Path, tmp_path: Path) -> None:
    assert (run / "losses.csv").read_text().count(",charbonnier,") == 2
    path = tmp_path / "several.onnx"
    assert main(["export", str(run / "last.pt"), "--out", str(path)]) == 0
    card = read_card(path)
    assert (card.inputs, card.outputs, card.channels) == (("frame", "past"), ("image", "log_error"), (4, 4))
    network = network_of(run / "last.pt")[0]
    patch = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    pasts = np.stack([Past.of(p).plane() for p in patch])
    with open_session(path, "face-enhancement", "cpu", 1) as session:
        enhancement = open_enhancement("unet", ClassicalOptions(), lambda: session)
        assert enhancement.along is not None
        assert enhancement.network is not None
        ours, errors = enhancement.along(patch, pasts)
        alone = enhancement.network(patch, np.ones(2, np.float32))
    x = torch.from_numpy(np.concatenate([patch.transpose(0, 3, 1, 2) / np.float32(255), pasts], 1))
    with torch.no_grad():
        theirs = (255 * network(x)[:, :3].clamp(0, 1)).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours - theirs).mean() < 1
    assert errors is not None
    assert errors.shape == (2, 64, 64)
    assert errors.min() > 0
    np.testing.assert_array_equal(ours, alone)  # on a track's first frame it sees the same


def test_its_first_frame_is_a_network_of_its_own(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "single.onnx"
    assert main(["export", str(run / "last.pt"), "--single-frame", "--out", str(path)]) == 0
    network = network_of(run / "last.pt")[0]
    assert isinstance(network, UNetSeveral)
    frame = torch.rand(2, 3, 64, 64)
    small = torch.nn.functional.avg_pool2d(frame, 2)
    with torch.no_grad():
        first = network(packed(frame, small, torch.ones(2, 1, 64, 64)))[:, :3]
        assert torch.allclose(single_frame(network)(frame), first, atol=1e-5)
    with open_session(path, "face-enhancement", "cpu", 1) as session:
        assert session.card.channels == (3, 3)
        np.testing.assert_allclose(session(frame.numpy()), first.clamp(0, 1).numpy(), atol=2e-3)


def test_a_network_that_gives_what_its_card_does_not_say_is_refused(run: Path, tmp_path: Path) -> None:
    import onnx

    from stream_enhance.backends.card import write_card

    path = tmp_path / "several.onnx"
    assert main(["export", str(run / "last.pt"), "--out", str(path)]) == 0
    model = onnx.load(str(path))
    write_card(model, read_card(path).model_copy(update={"inputs": ("frame",), "outputs": ("image",)}))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="image of 3 channels"):
        open_session(path, "face-enhancement", "cpu", 1)


def test_it_is_measured_on_clips_of_others(run: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clips / "figures.json"
    models = [f"--model={name}={run / 'last.pt'}{how}" for name, how in (("a", ":mixed"), ("b", ":first"))]
    assert main(["fidelity-clips", "--clips", str(clips / "other"), *models, "--json", str(out)]) == 0
    assert '"over the first"' in out.read_text()
    assert capsys.readouterr().out.startswith("a {")
