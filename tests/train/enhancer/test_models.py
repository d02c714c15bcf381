"""The networks have the shapes that their papers give them, start as they should, and refuse what they cannot be."""

import pytest

pytest.importorskip("torch")

import torch

from stream_enhance.errors import ConfigError
from train.enhancer import models


def test_the_fast_net_starts_as_the_identity_and_fits_its_budget() -> None:
    net = models.build({"name": "unet_fast"})
    x = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        assert torch.equal(net(x), x)
    assert sum(p.numel() for p in net.parameters()) * 2 < 8e6  # bytes, stored as float16


def test_the_fast_net_learns_at_any_width_depth_and_fold() -> None:
    torch.manual_seed(0)  # the first weights too
    net = models.build({"name": "unet_fast", "channels": [8, 16, 24], "blocks": [1, 2, 1], "size": 64, "fold": 2})
    rate = torch.optim.Adam(net.parameters(), 3e-3)
    x = torch.rand(2, 3, 64, 64)
    y = 0.5 * x + 0.2
    losses = []
    for _ in range(60):
        loss = (net(x) - y).pow(2).mean()
        rate.zero_grad()
        loss.backward()
        rate.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in net.parameters())


def test_a_levelled_net_sees_no_light_and_no_haze() -> None:
    torch.manual_seed(0)
    net = models.build({"name": "unet_fast", "channels": [8, 16], "blocks": [1, 1], "size": 64, "levelled": True})
    assert isinstance(net, models.UNetFast)
    torch.nn.init.normal_(net.head.weight, 0, 0.1)
    x = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), size=64)
    with torch.no_grad():
        assert (net(x) - x).abs().mean() > 0.01
        assert torch.allclose(net(0.3 * x + 0.2), 0.3 * net(x) + 0.2, atol=1e-4)
        flat = torch.full((1, 3, 64, 64), 0.5)
        assert net(flat).isfinite().all()


@pytest.mark.parametrize("channels_in", [3, 7])
def test_the_generator_is_pix2pixs(channels_in: int) -> None:
    net = models.Generator(8, channels_in).eval()
    assert len(net.down) == len(net.up) == 8
    x = torch.rand(1, channels_in, 256, 256)
    sides = []
    for block in net.down:
        x = block(x)
        sides.append(x.shape[-1])
    assert sides == [128, 64, 32, 16, 8, 4, 2, 1]
    out = net(2 * torch.rand(1, channels_in, 256, 256) - 1)
    assert out.shape == (1, 3, 256, 256)
    assert out.abs().max() <= 1


def test_the_generator_of_the_paper_has_54_million_weights() -> None:
    with torch.device("meta"):
        net = models.Generator(64)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(54.41e6, rel=0.001)


def test_the_discriminator_sees_70_pixels() -> None:
    net = models.Discriminator(8).eval()
    low = torch.rand(1, 3, 256, 256)
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    logits = net(low, image)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_the_refinement_starts_by_changing_nothing_and_ends_within_range() -> None:
    torch.manual_seed(0)
    plain = models.build({"name": "pix2pix", "base_channels": 4}).eval()
    stacked = models.build({"name": "pix2pix", "base_channels": 4, "refined": True}).eval()
    assert isinstance(plain, models.Pix2Pix)
    assert isinstance(stacked, models.Pix2Pix)
    assert stacked.refine is not None
    stacked.base.load_state_dict(plain.base.state_dict())
    x = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert torch.allclose(plain(x), stacked(x), atol=1e-6)
    convolutions = [m for m in stacked.refine.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(c.kernel_size, c.out_channels) for c in convolutions] == [((3, 3), 64), ((3, 3), 64), ((3, 3), 3)]


def test_set_requires_grad() -> None:
    net = models.ResidualBlock(4)
    models.set_requires_grad(net, False)
    assert not any(p.requires_grad for p in net.parameters())
    models.set_requires_grad(net, True)
    assert all(p.requires_grad for p in net.parameters())


def test_an_unknown_network_or_argument_is_named() -> None:
    with pytest.raises(ConfigError, match="'resnet' is not a network"):
        models.build({"name": "resnet"})
    with pytest.raises(ConfigError, match="widths"):
        models.build({"name": "unet_fast", "widths": [1]})
