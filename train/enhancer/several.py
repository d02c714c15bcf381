"""`UNetSeveral`: the small U-Net that also sees what its track showed before, and says how far it may be wrong.

Beside the frame it takes the running mean of the track's inputs and how many inputs that mean holds, at half the size
and carried to where the face is now (`stream_enhance.stages.past`). The network sees how the mean differs from the
frame, by a layer that starts at zero: it starts as the single-frame network. The results of a track are mixed as
`stream_enhance.stages.steady` does, in training too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_enhance.stages.past import MOST
from stream_enhance.stages.steady import NEW
from train.enhancer.models import UNetFast, zero_bias

INPUTS = ("frame", "past")  # along the channels, as the card says
OUTPUTS = ("image", "log_error")


class UNetSeveral(UNetFast):
    """`UNetFast` with the past of a track, and an estimate of its own error."""

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 80, 144, 192),
        blocks: tuple[int, ...] = (1, 1, 1, 1),
        size: int = 256,
        fold: int = 4,
    ):
        super().__init__(channels, blocks, size, fold, levelled=True, keep_grey=True)
        wide = channels[0]
        self.past = nn.Conv2d(3 * fold * fold // 4 + 1, wide, 3, padding=1, bias=False)
        nn.init.zeros_(self.past.weight)
        self.error = nn.Sequential(nn.Conv2d(wide, 16, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(16, fold**2, 1))
        last = self.error[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        zero_bias(last)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 4, S, S): RGB 0..1 of the frame, and what `packed` makes of the past.

        Gives (n, 4, S, S): RGB, not yet clipped, and the logarithm of its expected absolute error.
        """
        frame, planes = x[:, :3], F.pixel_unshuffle(x[:, 3:], 2)  # (n, 4, S/2, S/2)
        level, gain = self.level_of(frame)
        other = (planes[:, :3] - F.avg_pool2d(frame, 2)) / gain
        count = (F.avg_pool2d(planes[:, 3:], self.fold // 2) * MOST).clamp_min(1)
        seen = [F.pixel_unshuffle(other, self.fold // 2), 1 - 1 / count]
        past = self.past(torch.cat(seen, 1))
        last = self.trunk(self.stem(F.pixel_unshuffle((frame - level) / gain + self.LEVEL, self.fold)) + past)
        ours = frame + gain * self.coloured(F.pixel_shuffle(self.head(last), self.fold), frame)
        return torch.cat([ours, F.pixel_shuffle(self.error(last.detach()), self.fold) + gain.log() - 3.5], 1)

    def level_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the face's middle, and its deviation over the usual one; each (n, 1, 1, 1)."""
        s = x.shape[-1]
        face = x[..., s // 4 : s - s // 8, s // 4 : s - s // 4]
        mean = face.mean((1, 2, 3), keepdim=True)
        spread = (face - mean).square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(self.LEAST)
        return mean, spread / self.SPREAD

    def trunk(self, stem: Tensor) -> Tensor:
        """The last features, (n, C, S/4, S/4), of the first."""
        h = self.encode[0](stem)
        skips = [h]
        for down, place, encode in zip(self.down, self.place, self.encode[1:], strict=True):
            h = encode(down(h) + place)
            skips.append(h)
        h = self.decode[-1](skips.pop())
        for up, decode in zip(reversed(self.up), reversed(self.decode[:-1]), strict=True):
            h = decode(F.pixel_shuffle(up(h), 2) + skips.pop())
        return h


def single_frame(network: UNetSeveral) -> UNetFast:
    """What `network` is on the first frame of a track, where it sees no past; without the expected error."""
    shape = [part.weight.shape[0] for part in [network.stem, *network.down]]
    blocks = tuple(map(len, network.encode))  # type: ignore[arg-type]
    alone = UNetFast(tuple(shape), blocks, network.size, network.fold, levelled=True, keep_grey=True)
    own = alone.state_dict()
    alone.load_state_dict({name: value for name, value in network.state_dict().items() if name in own})
    return alone.eval()


def packed(frame: Tensor, mean: Tensor, count: Tensor) -> Tensor:
    """What the network takes, (n, 4, S, S), as `stream_enhance.stages.past.Past.plane` packs it.

    `frame` (n, 3, S, S) and `mean` of the inputs (n, 3, S/2, S/2) are RGB 0..1, `count` (n, 1, s, s) the inputs in the
    mean. On a track's first frame the mean is the frame, and the count is 1.
    """
    held = F.interpolate(count / MOST, size=mean.shape[-2:], mode="nearest")
    return torch.cat([frame, F.pixel_shuffle(torch.cat([mean, held], 1), 2)], 1)


def mix(result: Tensor, before: Tensor, flow: Tensor, kept: Tensor) -> Tensor:
    """`result` (n, C, S, S) mixed with what was shown `before`, as `stream_enhance.stages.steady` does.

    `flow` (n, s, s, 2) cells x, y, from this frame to the last; `kept` (n, 1, s, s) 0..1, how much of it still holds.
    """
    side, size = flow.shape[1], result.shape[-1]
    wide = F.interpolate(flow.permute(0, 3, 1, 2), size=(size, size), mode="bilinear") * (size / side)
    axis = torch.arange(size, dtype=flow.dtype, device=flow.device)
    at = torch.stack([wide[:, 0] + axis, wide[:, 1] + axis[:, None]], -1)
    there = F.grid_sample(before, (2 * at + 1) / size - 1, padding_mode="border", align_corners=False)
    new = F.interpolate((1 - kept).clamp_min(NEW), size=(size, size), mode="bilinear")
    return there + new * (result - there)
