"""The maps are made for every level, and point at what they should."""

from pathlib import Path

import pytest

from tests.train import portraits

pytest.importorskip("torch")

import torch

from stream_enhance.imaging.crop import TEMPLATE
from train.common import checkpoints
from train.enhancer import explain, models
from train.enhancer.cli import main


def small(name: str = "unet_fast") -> tuple[torch.nn.Module, dict[str, object]]:
    torch.manual_seed(0)
    settings: dict[str, object] = {"name": "unet_fast", "channels": [8, 16], "blocks": [1, 1], "size": 128}
    net = models.build(settings if name == "unet_fast" else {"name": "pix2pix", "base_channels": 4})
    if name == "unet_fast":
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, 0, 0.1)
    return net.eval(), settings


@pytest.mark.parametrize(("name", "count", "side"), [("unet_fast", 4, 128), ("pix2pix", 16, 256)])
def test_there_is_a_map_of_the_change_for_every_level(name: str, count: int, side: int) -> None:
    maps, out = explain.grad_cam(small(name)[0], torch.rand(1, 3, side, side))
    assert len(maps) == count
    assert out.shape == (1, 3, side, side)
    assert all(m.shape == (side, side) and m.min() >= 0 and m.max() <= 1 + 1e-6 for m in maps.values())


def test_what_a_region_shows_comes_from_that_region() -> None:
    identity = models.UNetFast((8, 16), (1, 1), 128)  # untrained, it gives what it takes
    for name, strength in explain.attribution(identity, torch.rand(1, 3, 128, 128)).items():
        rows = explain.REGIONS[name]
        x, y = TEMPLATE[list(rows)].mean(0) * 128
        assert strength[int(y), int(x)] > 0.9
        assert strength[5, 5] == 0


def test_the_command_writes_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    net, settings = small()
    recipe = {"name": "r", "model": settings, "data": {"size": 128, "heatmaps": False}}
    checkpoints.save({"recipe": recipe, "generator": net.state_dict(), "ema": None}, tmp_path / "a.pt")
    cv2.imwrite(str(tmp_path / "face.png"), portraits.draw(3)[:, :, ::-1])
    order = ["--model", str(tmp_path / "a.pt"), "--patch", "--out", str(tmp_path / "out")]
    assert main(["explain", str(tmp_path / "face.png"), *order]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"cam.png", "attribution.png", "cam_encode1.png"}
    assert main(["explain", str(tmp_path / "none.png"), *order]) == 2
    assert "none.png" in capsys.readouterr().err
