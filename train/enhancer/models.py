"""The networks: pix2pix's generator, refinement and discriminator, and the small U-Net that keeps up with a camera.

All take float32 (n, 3, S, S) RGB. `UNetFast` works on 0..1 and gives 0..1; the pix2pix networks, as their paper has
it, on -1..1. `build` makes any of them from the `model` part of a recipe.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_enhance.errors import ConfigError


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around one leaky ReLU, added to what came in; (n, C, h, w) both ways."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        # starts as the identity, so that a deep stack learns from its first step
        nn.init.zeros_(self.second.weight)
        zero_bias(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) in and out."""
        return x + self.second(F.leaky_relu(self.first(x), 0.1))


class UNetFast(nn.Module):
    """A U-Net for aligned faces that works at a quarter of their size: 0..1 in, 0..1 out, input + residual.

    The image is folded by pixel-unshuffle (Shi et al., CVPR 2016, run backwards), so its first convolution already
    sees 48 channels of a 64 x 64 grid. Each of the four levels is half the size of the one above. Skips are added, not
    joined. Faces come aligned, so each level below the first learns what belongs where: `place`, one value a channel
    and cell. `levelled`: the layers see every face at the same mean and contrast, and what they add is scaled back, so
    that a dark or a hazy face is not taken for a ruined one. `keep_grey`: to a face without colour only grey is added.
    """

    LEVEL, SPREAD, LEAST = 0.53, 0.165, 0.02  # mean and deviation of a face's middle by daylight; the least deviation
    GREY, COLOUR = 0.004, 0.012  # mean distance of R, G and B from their mean: an infra-red image's, an image's

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 80, 144, 192),
        blocks: tuple[int, ...] = (1, 1, 1, 1),
        size: int = 256,
        fold: int = 4,
        levelled: bool = False,
        keep_grey: bool = False,
    ):
        super().__init__()
        self.fold, self.size, self.levelled, self.keep_grey = fold, size, levelled, keep_grey
        folded = 3 * fold * fold
        pairs = list(pairwise(channels))
        self.stem = nn.Conv2d(folded, channels[0], 3, padding=1)
        self.encode = nn.ModuleList([stack(c, n) for c, n in zip(channels, blocks, strict=True)])
        self.down = nn.ModuleList([nn.Conv2d(a, b, 2, stride=2) for a, b in pairs])
        self.place = nn.ParameterList(
            [torch.zeros(1, c, *2 * [size // fold >> level]) for level, c in enumerate(channels) if level > 0]
        )
        self.up = nn.ModuleList([nn.Conv2d(b, 4 * a, 1) for a, b in pairs])
        self.decode = nn.ModuleList([stack(c, n) for c, n in zip(channels, blocks, strict=True)])
        self.head = nn.Conv2d(channels[0], folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        zero_bias(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, S, S) RGB 0..1 in; the same shape out, not yet clipped."""
        if not self.levelled:
            return x + self.coloured(self.residual(x), x)
        s = x.shape[-1]
        face = x[..., s // 4 : s - s // 8, s // 4 : s - s // 4]
        mean = face.mean((1, 2, 3), keepdim=True)
        spread = (face - mean).square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(self.LEAST)
        gain = spread / self.SPREAD
        return x + gain * self.coloured(self.residual((x - mean) / gain + self.LEVEL), x)

    def coloured(self, residual: Tensor, x: Tensor) -> Tensor:
        """`residual`, where `keep_grey` with as much colour as `x` has: none to all."""
        if not self.keep_grey:
            return residual
        few = x[..., ::4, ::4]  # enough to tell grey from colour
        colour = (few - few.mean(1, keepdim=True)).abs().mean((1, 2, 3), keepdim=True)
        share = ((colour - self.GREY) / (self.COLOUR - self.GREY)).clamp(0, 1)
        grey = residual.mean(1, keepdim=True)
        return grey + share * (residual - grey)

    def residual(self, x: Tensor) -> Tensor:
        """What is added to `x`, (n, 3, S, S)."""
        h = self.encode[0](self.stem(F.pixel_unshuffle(x, self.fold)))
        skips = [h]
        for down, place, encode in zip(self.down, self.place, self.encode[1:], strict=True):
            h = encode(down(h) + place)
            skips.append(h)
        h = self.decode[-1](skips.pop())
        for up, decode in zip(reversed(self.up), reversed(self.decode[:-1]), strict=True):
            h = decode(F.pixel_shuffle(up(h), 2) + skips.pop())
        return F.pixel_shuffle(self.head(h), self.fold)


def zero_bias(layer: nn.Conv2d) -> None:
    """Set the bias of `layer` to 0."""
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def stack(channels: int, count: int) -> nn.Sequential:
    """`count` residual blocks of `channels`."""
    return nn.Sequential(*[ResidualBlock(channels) for _ in range(count)])


class Generator(nn.Module):
    """pix2pix's U-Net for 256 x 256 (Isola et al., CVPR 2017): -1..1 in, -1..1 out.

    `channels_in` is 3, or 7 with the four landmark heatmaps of `train.enhancer.data.heatmaps`.
    """

    def __init__(self, base_channels: int = 64, channels_in: int = 3):
        super().__init__()
        c = base_channels
        self.down = nn.ModuleList(
            [
                down_block(channels_in, c, norm=False),  # 256 -> 128
                down_block(c, 2 * c),  # 64
                down_block(2 * c, 4 * c),  # 32
                down_block(4 * c, 8 * c),  # 16
                down_block(8 * c, 8 * c),  # 8
                down_block(8 * c, 8 * c),  # 4
                down_block(8 * c, 8 * c),  # 2
                down_block(8 * c, 8 * c, norm=False),  # 1
            ]
        )
        self.up = nn.ModuleList(
            [
                up_block(8 * c, 8 * c, dropout=True),  # 1 -> 2
                up_block(16 * c, 8 * c, dropout=True),  # 4
                up_block(16 * c, 8 * c, dropout=True),  # 8
                up_block(16 * c, 8 * c),  # 16
                up_block(16 * c, 4 * c),  # 32
                up_block(8 * c, 2 * c),  # 64
                up_block(4 * c, c),  # 128
                nn.Sequential(nn.ConvTranspose2d(2 * c, 3, 4, 2, 1), nn.Tanh()),  # 256
            ]
        )
        self.apply(start_small)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, S, S) RGB -1..1 in and out."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up[:-1]:
            x = torch.cat([up(x), skips.pop()], 1)
        return self.up[-1](x)


def down_block(channels_in: int, channels: int, norm: bool = True) -> nn.Sequential:
    """Leaky ReLU (0.2) after a 4 x 4 convolution that halves the size."""
    layers: list[nn.Module] = [nn.Conv2d(channels_in, channels, 4, 2, 1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(channels))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2))


def up_block(channels_in: int, channels: int, dropout: bool = False) -> nn.Sequential:
    """ReLU after a 4 x 4 transposed convolution that doubles the size; half of it dropped in training if `dropout`."""
    layers = [nn.ConvTranspose2d(channels_in, channels, 4, 2, 1, bias=False), nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers, *([nn.Dropout(0.5)] if dropout else []), nn.ReLU())


def start_small(module: nn.Module) -> None:
    """pix2pix's initial weights: normal, sigma 0.02."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


class Refinement(nn.Module):
    """Three 3 x 3 convolutions of 64 channels that add what the generator missed; -1..1 both ways."""

    def __init__(self, channels: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 3, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, S, S) RGB -1..1 in and out."""
        return (x + self.layers(x)).clamp(-1, 1)


class Pix2Pix(nn.Module):
    """The generator and, where `refined`, the refinement stacked on it. 0..1 in (heatmaps 0..1 too), 0..1 out."""

    def __init__(self, base_channels: int = 64, heatmaps: bool = False, refined: bool = False):
        super().__init__()
        self.base = Generator(base_channels, 7 if heatmaps else 3)
        self.refine = Refinement() if refined else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, S, S) RGB 0..1 in and out."""
        y = self.base(2 * x - 1)
        if self.refine is not None:
            y = self.refine(y)
        return (y + 1) / 2


class Discriminator(nn.Module):
    """The 70 x 70 PatchGAN: (input, output), each (n, 3, S, S) of 0..1, gives one logit a patch, (n, 1, s, s)."""

    def __init__(self, base_channels: int = 64):
        super().__init__()
        c = base_channels
        self.layers = nn.Sequential(
            nn.Conv2d(6, c, 4, 2, 1),
            nn.LeakyReLU(0.2),
            *patch_block(c, 2 * c, 2),
            *patch_block(2 * c, 4 * c, 2),
            *patch_block(4 * c, 8 * c, 1),
            nn.Conv2d(8 * c, 1, 4, 1, 1),
        )
        self.apply(start_small)

    def forward(self, low: Tensor, image: Tensor) -> Tensor:
        """Logits of each receptive field: is `image`, given `low`, a true face?  Both (n, 3, S, S) RGB 0..1."""
        return self.layers(2 * torch.cat([low[:, :3], image], 1) - 1)


def patch_block(channels_in: int, channels: int, stride: int) -> list[nn.Module]:
    """Convolution, batch norm, leaky ReLU."""
    conv = nn.Conv2d(channels_in, channels, 4, stride, 1, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]


class Clipped(nn.Module):
    """What is exported: the network, its image held to 0..1; what follows the three channels stays as it is."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The network's result, its image clipped to 0..1."""
        ours: Tensor = self.network(x)
        return ours.clamp(0, 1) if ours.shape[1] == 3 else torch.cat([ours[:, :3].clamp(0, 1), ours[:, 3:]], 1)


def set_requires_grad(module: nn.Module, flag: bool) -> None:
    """Set whether the weights of `module` learn."""
    for parameter in module.parameters():
        parameter.requires_grad_(flag)


def build(settings: Mapping[str, Any]) -> nn.Module:
    """The network that `settings` names (`name`: unet_fast, unet_several or pix2pix), the rest its arguments.

    Raises ConfigError for an unknown name or argument.
    """
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k != "name"}
    from train.enhancer.several import UNetSeveral

    kinds: dict[str, type[nn.Module]] = {"unet_fast": UNetFast, "unet_several": UNetSeveral, "pix2pix": Pix2Pix}
    name = settings.get("name")
    if not isinstance(name, str) or name not in kinds:
        raise ConfigError(f"model.name: {name!r} is not a network of this project; choose from {', '.join(kinds)}")
    try:
        return kinds[name](**options)
    except TypeError as error:
        raise ConfigError(f"model: {error}") from None
