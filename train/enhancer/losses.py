"""What training minimises: LOSSES, by the names that a recipe weighs them by.

A new loss is an entry in LOSSES here and a weight in `train.enhancer.recipe.Weights`. All take float32 (n, 3, S, S)
RGB in 0..1 and give one number. `Vgg` serves the perceptual loss and LPIPS; `Identity` compares face embeddings; both
are frozen. The adversary is not in the table: it learns, so the trainer holds it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_enhance.errors import ConfigError, ModelError
from train.common.checkpoints import load_weights
from train.enhancer.data import arcface_warp

VGG_VARIABLE = "STREAM_ENHANCE_VGG16"
Network = TypeVar("Network", bound=nn.Module)
TAPS = (3, 8, 15, 22, 29)  # of `features`: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def charbonnier(ours: Tensor, target: Tensor, eps: float = 0.03) -> Tensor:
    """Square for errors far below `eps`, absolute far above (Charbonnier et al., ICIP 1994)."""
    return (torch.sqrt((ours - target) ** 2 + eps * eps) - eps).mean()


def adversarial(logits: Tensor, real: bool, kind: str) -> Tensor:
    """Of one logit a patch: binary cross entropy, or least squares (Mao et al., ICCV 2017) for `lsgan`."""
    want = torch.full_like(logits, float(real))
    return F.mse_loss(logits, want) if kind == "lsgan" else F.binary_cross_entropy_with_logits(logits, want)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """(n,) structural similarity (Wang et al., TIP 2004): Gaussian window of 11, sigma 1.5, over grey of 0..1."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=a.device).view(1, 3, 1, 1)
    x, y = (a.float() * weights).sum(1, keepdim=True), (b.float() * weights).sum(1, keepdim=True)
    line = torch.exp(-0.5 * ((torch.arange(11, device=a.device) - 5) / 1.5) ** 2)
    line = line / line.sum()

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(z, line.view(1, 1, 1, 11)), line.view(1, 1, 11, 1))

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean((1, 2, 3))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(n,) peak signal-to-noise ratio in dB over all three channels of 0..1."""
    return -10 * torch.log10(((a.float() - b.float()) ** 2).mean((1, 2, 3)).clamp_min(1e-10))


def bels(ours: Tensor, target: Tensor, floor: float = 1e-4) -> Tensor:
    """Minus the mean PSNR, in tenths of dB: each image's error counts relative to itself (Chen et al., ECCV 2022).

    So a face that is nearly right already weighs as much as a ruined one. `floor` is added to the squared error: above
    40 dB there is little left to gain.
    """
    return torch.log10(((ours - target) ** 2).mean((1, 2, 3)) + floor).mean()


def psnr_ssim(ours: Tensor, target: Tensor) -> Tensor:
    """The refinement stage's loss: (1 - SSIM) + (1 - PSNR / 40 dB)."""
    return (1 - ssim(ours, target)).mean() + (1 - psnr(ours, target) / 40).mean()


class Vgg(nn.Module):
    """The first 31 layers of VGG16's `features` (Simonyan and Zisserman, 2015), frozen, in eval mode.

    Weights: the file `weights`, or the one that STREAM_ENHANCE_VGG16 in the environment names, or torchvision's own.
    """

    def __init__(self, weights: Path | None = None, heads: Path | None = None):
        super().__init__()
        from torchvision.models import VGG16_Weights, vgg16

        path = weights or (Path(os.environ[VGG_VARIABLE]) if os.environ.get(VGG_VARIABLE) else None)
        if path is None:
            self.features = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features[:31]
        else:
            self.features = vgg16(weights=None).features[:31]
            self.features.load_state_dict(vgg_weights(path))
        self.mean: Tensor
        self.std: Tensor
        self.heads = None if heads is None else lpips_heads(heads)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Vgg":
        """Stays in eval mode, whatever the network around it does."""
        return super().train(False)

    def taps(self, image: Tensor, last: int = TAPS[-1]) -> list[Tensor]:
        """Activations at TAPS up to layer `last`."""
        x, found = (image - self.mean) / self.std, []
        for k, layer in enumerate(self.features):
            x = layer(x)
            if k in TAPS:
                found.append(x)
            if k == last:
                break
        return found

    def perceptual(self, ours: Tensor, target: Tensor) -> Tensor:
        """Mean absolute difference after all 31 layers (Johnson et al., ECCV 2016)."""
        a, b = (self.features((p - self.mean) / self.std) for p in (ours, target))
        return F.l1_loss(a, b)

    def lpips(self, ours: Tensor, target: Tensor, last: int = TAPS[-1]) -> Tensor:
        """(n,) LPIPS (Zhang et al., CVPR 2018), or its first terms where `last` is an earlier layer.

        Raises ModelError where no heads were given.
        """
        if self.heads is None:
            raise ModelError("LPIPS needs its five heads: name a .safetensors file with lin0 to lin4 (lpips_heads)")
        # LPIPS scales images of -1..1 by (-.030, -.088, -.188) and (.458, .448, .450): MEAN and STD of 0..1
        with torch.no_grad():
            theirs = self.taps(target, last)
        total = torch.zeros(len(ours), device=ours.device)
        for mine, other, head in zip(self.taps(ours, last), theirs, self.heads, strict=False):
            apart = (unit(mine.float()) - unit(other.float())) ** 2
            total = total + (apart * head.to(apart.device).view(1, -1, 1, 1)).sum(1).mean((1, 2))
        return total


def unit(features: Tensor) -> Tensor:
    """Each position's vector of channels, at length 1."""
    return features / (features.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)


def vgg_weights(path: Path) -> dict[str, Tensor]:
    """`features.*` of the file without that prefix; the classifier, where there is one, is left out."""
    tensors = load_weights(path)
    return {k.removeprefix("features."): v for k, v in tensors.items() if not k.startswith("classifier.")}


def lpips_heads(path: Path) -> list[Tensor]:
    """The five vectors of weights, (channels,), from lin0 ... lin4 of the file. Raises ModelError."""
    tensors = load_weights(path)
    found = [[value for name, value in tensors.items() if name.split(".")[0] == f"lin{k}"] for k in range(len(TAPS))]
    if any(len(values) != 1 for values in found):
        raise ModelError(f"{path}: not LPIPS's heads: it wants lin0 to lin4")
    return [values[0].flatten().float() for values in found]


class Identity(nn.Module):
    """1 - cosine between the embeddings of two aligned patches, by a frozen face network read from an ONNX file."""

    def __init__(self, path: Path, size: int = 256):
        super().__init__()
        from train.enhancer.from_onnx import OnnxNetwork

        self.grid: Tensor
        self.network = OnnxNetwork(path).eval().requires_grad_(False)
        warp = torch.from_numpy(arcface_warp(size)).float()
        # grid_sample's -1..1 of the patch, for each pixel of the 112-pixel alignment
        x, y = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="xy")
        at = torch.stack([x, y, torch.ones_like(x)], -1) @ warp.T  # (112, 112, 2) pixels of the patch
        self.register_buffer("grid", ((2 * at + 1) / size - 1)[None])
        scale = float(warp[0, 0])
        self.soften = 0.5 * max(0.0, scale**2 - 1) ** 0.5  # sigma of the blur that shrinking by `scale` wants

    def train(self, mode: bool = True) -> "Identity":
        """Stays in eval mode, whatever the network around it does."""
        return super().train(False)

    def embed(self, patches: Tensor) -> Tensor:
        """(n, d) unit embeddings of (n, 3, S, S) in 0..1."""
        size = patches.shape[-1]
        if self.soften > 0.1:
            near = F.avg_pool2d(F.pad(patches, (1, 1, 1, 1), mode="replicate"), 3, 1)
            share = min(1.0, self.soften**2 / 0.667)  # a 3 x 3 mean has a variance of 2/3
            patches = share * near + (1 - share) * patches
        face = F.grid_sample(patches, self.grid.expand(len(patches), -1, -1, -1), align_corners=False)
        assert size == patches.shape[-1]
        return F.normalize(self.network(255 * face).float(), dim=1)

    def forward(self, ours: Tensor, target: Tensor) -> Tensor:
        """(n,) 1 - cosine; no gradient goes to `target`."""
        with torch.no_grad():
            wanted = self.embed(target)
        return 1 - (self.embed(ours) * wanted).sum(1)


@dataclass(frozen=True)
class Frozen:
    """The networks that losses compare with; None where no loss of the recipe needs it."""

    vgg: Vgg | None = None
    identity: Identity | None = None


@dataclass(frozen=True)
class Loss:
    """One entry of LOSSES: its value for (ours, target), and what of the batch it sees."""

    value: Callable[[Tensor, Tensor, Frozen], Tensor]
    sees: Literal["image", "some", "crops"] = "image"  # all; `costly_images` of them; their `perceptual_crop` squares
    needs: Literal["", "vgg", "identity"] = ""


def perceptual(ours: Tensor, target: Tensor, frozen: Frozen) -> Tensor:
    """Distance of VGG-19's features, a scalar."""
    assert frozen.vgg is not None
    return frozen.vgg.perceptual(ours, target)


def lpips(ours: Tensor, target: Tensor, frozen: Frozen) -> Tensor:
    """LPIPS, the mean over the batch."""
    assert frozen.vgg is not None
    return frozen.vgg.lpips(ours, target).mean()


def identity(ours: Tensor, target: Tensor, frozen: Frozen) -> Tensor:
    """Distance of the face embeddings, the mean over the batch."""
    assert frozen.identity is not None
    found: Tensor = frozen.identity(ours, target)
    return found.mean()


LOSSES: dict[str, Loss] = {
    "l1": Loss(lambda ours, target, _: (ours - target).abs().mean()),
    "charbonnier": Loss(lambda ours, target, _: charbonnier(ours, target)),
    "bels": Loss(lambda ours, target, _: bels(ours, target)),
    "psnr_ssim": Loss(lambda ours, target, _: psnr_ssim(ours, target)),
    "perceptual": Loss(perceptual, "crops", "vgg"),
    "lpips": Loss(lpips, "crops", "vgg"),
    "identity": Loss(identity, "some", "identity"),
}


def channels_last(network: Network, device: torch.device) -> Network:
    """`network` on `device`, laid out as convolutions are fastest."""
    network.to(device).to(memory_format=torch.channels_last)
    return network


def open_frozen(
    losses: Sequence[Loss],
    vgg: Path | None,
    lpips_heads: Path | None,
    embedder: Path | None,
    size: int,
    device: torch.device,
) -> Frozen:
    """The networks that `losses` need, for patches of `size` pixels. Raises ConfigError where a file is not named."""
    needs = {loss.needs for loss in losses}
    judge = None
    if "vgg" in needs:
        judge = channels_last(Vgg(vgg, lpips_heads), device)
    if "identity" not in needs:
        return Frozen(judge)
    if embedder is None:
        raise ConfigError("embedder: the identity loss needs a face embedding, an ONNX file")
    return Frozen(judge, Identity(embedder, size).to(device))
