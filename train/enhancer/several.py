"""`UNetSeveral`: the small U-Net that also sees what its track showed before, and says how far it may be wrong.

Beside the frame it takes the running mean of the track's inputs, how many inputs that mean holds, and its own last
result, all carried to where the face is now (`stream_enhance.stages.past`). The past is given as its difference from the
frame, and its first layer starts at zero: on a track's first frame it is the single-frame network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_enhance.stages.past import MOST
from train.enhancer.models import UNetFast, zero_bias

CHANNELS = 10  # RGB of the frame, of the mean of the inputs and of the last result; the count



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
        folded, wide = 3 * fold * fold, channels[0]
        self.past = nn.Conv2d(2 * folded + 1, wide, 3, padding=1, bias=False)
        nn.init.zeros_(self.past.weight)
        self.error = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(wide, fold**2, 1))
        last = self.error[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        zero_bias(last)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 10, S, S): RGB 0..1 of the frame, of the mean of the inputs and of the last result, each as it lies on this
        frame, and the count of inputs in the mean over MOST; on a track's first frame three times the frame, and
        1 / MOST. Gives (n, 4, S, S): RGB, not yet clipped, and the logarithm of its expected absolute error.
        """
        frame, mean, before, count = x[:, :3], x[:, 3:6], x[:, 6:9], x[:, 9:]
        level, gain = self.level_of(frame)
        folded = [F.pixel_unshuffle((past - frame) / gain, self.fold) for past in (mean, before)]
        count = F.avg_pool2d(count, self.fold) * MOST
        past = self.past(torch.cat([folded[0], 1 - 1 / count, folded[1]], 1))
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


def carried(image: Tensor, flow: Tensor, kept: Tensor, now: Tensor) -> Tensor:
    """`image` (n, C, S, S) of the last frame as it lies on this one, and `now` where it holds no more.

    `flow` (n, s, s, 2) cells x, y, from this frame to the last; `kept` (n, 1, s, s) 0..1, how much of it still holds.
    """
    side, size = flow.shape[1], image.shape[-1]
    wide = F.interpolate(flow.permute(0, 3, 1, 2), size=(size, size), mode="bilinear") * (size / side)
    axis = torch.arange(size, dtype=flow.dtype, device=flow.device)
    at = torch.stack([wide[:, 0] + axis, wide[:, 1] + axis[:, None]], -1)
    before = F.grid_sample(image, (2 * at + 1) / size - 1, padding_mode="border", align_corners=False)
    return now + F.interpolate(kept, size=(size, size), mode="bilinear") * (before - now)
