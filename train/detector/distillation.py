"""The teacher's features as targets: our layers learn from the degraded image what its layers hold of the clean one.

Feature distillation as in FitNets (Romero et al., ICLR 2015): both networks are YOLOv8n, so that layers pair off, and a
1x1 convolution between them leaves ours free to order its channels as it likes. Scores and boxes teach only the few
cells that hold a face; features teach every cell, so that far fewer images are needed.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPS = (4, 6, 9, 12, 15, 18, 21)  # backbone at strides 8, 16, 32; neck at 16, 8, 16, 32: the last three feed the head


def through(layers: Any, x: Tensor) -> tuple[Any, list[Tensor]]:
    """What the ultralytics `layers` make of `x` (n, 3, S, S), and the outputs of TAPS, (n, C, s, s) each."""
    kept: list[Any] = []
    out: Any = x
    for layer in layers:
        if layer.f != -1:
            out = kept[layer.f] if isinstance(layer.f, int) else [out if j == -1 else kept[j] for j in layer.f]
        out = layer(out)
        kept.append(out)
    return out, [kept[tap] for tap in TAPS]


class FeatureLoss(nn.Module):
    """Squared distance of adapted features to the teacher's, in variances of each channel; 0 is the same, 1 is what the
    channels' means alone would give."""

    def __init__(self, teacher: nn.Module, network: Any, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The adapters start as the least-squares fit on `batches` of (seen, clean), each (n, 3, S, S) of 0..1."""
        super().__init__()
        # in a list: it is neither saved nor learnt
        self.teacher: list[Any] = [teacher.requires_grad_(False).eval()]
        self.adapters = nn.ModuleList()
        with torch.no_grad():
            pairs = [(through(network.model, seen)[1], self.targets(clean)) for seen, clean in islice(batches, 6)]
        for tap in range(len(TAPS)):
            x, y = (torch.cat([rows(pair[k][tap]) for pair in pairs]) for k in (0, 1))
            mean, spread = y.mean(0), y.var(0).clamp_min(1e-4)
            self.adapters.append(fitted(x, y - mean))
            self.register_buffer(f"mean{tap}", mean.view(1, -1, 1, 1))
            self.register_buffer(f"spread{tap}", spread.view(1, -1, 1, 1))

    @torch.no_grad()
    def targets(self, clean: Tensor) -> list[Tensor]:
        """The teacher's features of the `clean` images."""
        return through(self.teacher[0].model[:-1], clean)[1]

    def forward(self, ours: Sequence[Tensor], clean: Tensor, score: Tensor) -> Tensor:
        """Mean over the taps; half of the weight lies where `score` (n, 1, S/8, S/8), 0..1, says that a face is."""
        total = clean.new_zeros(())
        for tap, (adapter, mine, theirs) in enumerate(zip(self.adapters, ours, self.targets(clean), strict=True)):
            mean, spread = getattr(self, f"mean{tap}"), getattr(self, f"spread{tap}")
            apart = ((adapter(mine) - theirs + mean) ** 2 / spread).mean(1, keepdim=True)  # (n, 1, s, s)
            share = functional.adaptive_max_pool2d(score, apart.shape[-2:])
            faces = (apart * share).sum() / share.sum().clamp_min(1)
            total = total + 0.5 * (apart.mean() + faces)
        return total / len(self.adapters)


def rows(features: Tensor) -> Tensor:
    """(n, C, h, w) as (n h w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def fitted(x: Tensor, y: Tensor, ridge: float = 1e-3) -> nn.Conv2d:
    """The 1x1 convolution that takes `x` (m, C) to `y` (m, D) with the least squared error."""
    middle = x.mean(0)
    centred = x - middle
    gram = centred.T @ centred / len(x)
    weight = torch.linalg.solve(gram + ridge * gram.diagonal().mean() * torch.eye(len(gram)), centred.T @ y / len(x)).T
    layer = nn.Conv2d(x.shape[1], y.shape[1], 1)
    layer.weight.data.copy_(weight[..., None, None])
    assert layer.bias is not None
    layer.bias.data.copy_(y.mean(0) - weight @ middle)
    return layer
