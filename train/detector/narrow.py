"""A narrower YOLOv8 out of a wider one: of each convolution the channels that its batch norm scales most.

As in network slimming (Liu et al., ICCV 2017). What comes out is a start for training that has seen faces, no detector.
"""

from itertools import accumulate

import torch
from torch import Tensor, nn

from stream_enhance.errors import ModelError

Kept = tuple[Tensor, int]  # which of the wide network's channels are the narrow one's, and how many the wide one has


@torch.no_grad()
def narrow(wide: nn.Module, small: nn.Module) -> None:
    """Give `small` weights of `wide`, both ultralytics' YOLOv8-pose, of different widths and else alike.

    Raises ModelError where the two are not of one kind.
    """
    if [type(layer) for layer in wide.model.modules()] != [type(layer) for layer in small.model.modules()]:
        raise ModelError("the network to start from has other layers; start from another width of the same YOLOv8")
    if any(len(ours) > len(theirs) for ours, theirs in zip(small.parameters(), wide.parameters(), strict=True)):
        raise ModelError("the network to start from is narrower; start from a wider one")
    outs: list[Kept] = []
    last: Kept = (torch.arange(3), 3)
    for theirs, mine in zip(wide.model[:-1], small.model[:-1], strict=True):
        given = [last if j == -1 else outs[j] for j in ([theirs.f] if isinstance(theirs.f, int) else theirs.f)]
        match type(theirs).__name__:
            case "Conv":
                last = convolved(theirs, mine, given[0])
            case "C2f":
                last = split(theirs, mine, given[0])
            case "SPPF":
                pooled = convolved(theirs.cv1, mine.cv1, given[0])
                last = convolved(theirs.cv2, mine.cv2, joined([pooled] * 4))
            case "Upsample":
                last = given[0]
            case "Concat":
                last = joined(given)
            case other:
                raise ModelError(f"{other}: no layer of a YOLOv8; start from another width of the same YOLOv8")
        outs.append(last)
    theirs, mine = wide.model[-1], small.model[-1]
    for branch in ("cv2", "cv3", "cv4"):
        for j, (one, other) in enumerate(zip(getattr(theirs, branch), getattr(mine, branch), strict=True)):
            hidden = outs[theirs.f[j]]
            for k in (0, 1):
                hidden = convolved(one[k], other[k], hidden)
            other[2].weight.copy_(one[2].weight[:, hidden[0]])
            other[2].bias.copy_(one[2].bias)


def convolved(wide: nn.Module, small: nn.Module, given: Kept, chosen: Tensor | None = None) -> Kept:
    """Fill one convolution with its batch norm; `chosen` are the output channels to keep, if they are not free."""
    if chosen is None:
        chosen = best(wide.bn.weight, small.conv.out_channels)
    small.conv.weight.copy_(wide.conv.weight[chosen][:, given[0]])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(small.bn, name).copy_(getattr(wide.bn, name)[chosen])
    return chosen, wide.conv.out_channels


def split(wide: nn.Module, small: nn.Module, given: Kept) -> Kept:
    """Fill a C2f: half of what its first convolution gives goes on through the blocks, all of it is joined again."""
    halves = [best(part, small.c) for part in wide.cv1.bn.weight.chunk(2)]
    convolved(wide.cv1, small.cv1, given, torch.cat([halves[0], halves[1] + wide.c]))
    parts: list[Kept] = [(half, wide.c) for half in halves]
    for theirs, mine in zip(wide.m, small.m, strict=True):
        hidden = convolved(theirs.cv1, mine.cv1, parts[-1])
        parts.append(convolved(theirs.cv2, mine.cv2, hidden, parts[-1][0] if theirs.add else None))
    return convolved(wide.cv2, small.cv2, joined(parts))


def joined(parts: list[Kept]) -> Kept:
    """The channels of `parts` one after the other."""
    starts = [0, *accumulate(width for _, width in parts)]
    return torch.cat([chosen + start for (chosen, _), start in zip(parts, starts, strict=False)]), starts[-1]


def best(scale: Tensor, count: int) -> Tensor:
    """The `count` channels of the largest scale, in their order."""
    return scale.abs().topk(count).indices.sort().values
