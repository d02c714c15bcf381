"""``host.Host``'s operations in torch, on frames that stay where they are: on a GPU, or in the host's memory.

Planes are read and changed in place through DLPack.  What leaves a GPU is small: the grid of the scene change (2 kB a
frame), each face's patch for the gates and the track's memory (192 kB at 256 x 256), and what the network found; what
comes back is each face's patch before and after.  All work is queued on one CUDA stream.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from . import crop, planes
from .colour import copy_tags
from .host import GREY
from .planes import Layout

_LEFT = 0.25  # chroma samples: how far those of 4:2:0 and 4:2:2 lie left of the middle of their pixels (H.273, type 0)


class Device:
    """``Imaging`` in torch.

    Args:
        name: of the device that frames are brought to: cpu, cuda, cuda:1.
    """

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.queue: int = self.stream.cuda_stream if self.stream else 0  # the stream's address
        self._context: Any = None

    def own(self, image: av.VideoFrame) -> av.VideoFrame:
        """``image`` in the device's memory, in planes of its own: a decoder takes its surfaces back.

        A frame in another format than NV12 or P010 stays in the host's memory, as PyAV knows no other on a GPU.
        """
        form = (image.sw_format or image.format).name
        if self.stream and form in ("yuv420p", "yuvj420p") and not image.sw_format:
            image, form = _with_tags(image.reformat(format="nv12"), image), "nv12"
        if self.stream and form not in ("nv12", "p010le"):
            return image
        with self._queued(image):
            parts = [from_dlpack(plane).to(self.device, copy=True) for plane in image.planes]
            if self.stream:
                self._context = self._context or av.video.frame.CudaContext(
                    self.device.index or 0, cuda_stream=self.stream.cuda_stream
                )
                there = av.VideoFrame.from_dlpack(tuple(parts), format=form, cuda_context=self._context)
            else:
                there = _filled(image, parts)
        return _with_tags(there, image)

    def _queued(self, image: av.VideoFrame) -> AbstractContextManager[object]:
        """Queues what follows on the one stream, where ``image`` lies on a GPU or goes there."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.default_stream(self.device))  # the decoder's
        return torch.cuda.stream(self.stream)

    def grid(self, image: av.VideoFrame, size: tuple[int, int], rows: int) -> NDArray[np.float32]:
        """See ``Imaging``."""
        with self._queued(image):
            first = from_dlpack(image.planes[0]).flatten(1)  # a packed format's samples side by side
            kept = first[:: max(1, len(first) // rows)].to(torch.float32)[None]
            small = _resized(kept, size[1], size[0], "area").round()[0]
            return np.asarray((small * (255 / ((1 << planes.layout_of(image).bits) - 1))).cpu().numpy(), np.float32)

    def shrink(self, image: av.VideoFrame, width: int, height: int, quarters: int) -> Tensor:
        """See ``Imaging``: to a grey level what swscale gives at its full accuracy."""
        with torch.inference_mode(), self._queued(image):
            layout = planes.layout_of(image)
            parts = [_float(part, layout) for part in _parts(image, layout)]
            small = [
                _resized(part[None], height, width, "triangle", _LEFT if i and layout.sx else 0.0)[0]
                for i, part in enumerate(parts[:3])
            ]
            return torch.rot90(_rgb(image, layout, small).to(torch.uint8).permute(1, 2, 0), quarters)

    def letterbox(self, pixels: Any, height: int, width: int, left: int, top: int) -> Tensor:
        """See ``Imaging``."""
        below, right = height - top - pixels.shape[0], width - left - pixels.shape[1]
        return F.pad(pixels, (0, 0, left, right, top, below), value=GREY)

    def cut(self, image: av.VideoFrame, to_frame: NDArray[np.float32], size: int) -> NDArray[np.uint8] | None:
        """See ``Imaging``."""
        region = planes.align(image, *crop.bounds(to_frame, size))
        if region is None:
            return None
        with torch.inference_mode(), self._queued(image):
            pixels = _read(image, *region)
            affine, small = crop.reduced(crop.moved(to_frame, *region[:2]), pixels.shape[2], pixels.shape[1])
            if small != (pixels.shape[2], pixels.shape[1]):
                pixels = _resized(pixels, small[1], small[0], "area").round()
            patch = _warped(pixels, affine, size, size, "bicubic", "border")
            out: NDArray[np.uint8] = patch.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            return np.ascontiguousarray(out)

    def paste(
        self,
        image: av.VideoFrame,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        mask: NDArray[np.float32],
        to_frame: NDArray[np.float32],
    ) -> None:
        """See ``Imaging``."""
        region = planes.align(image, *crop.bounds(to_frame, len(before)))
        if region is None:
            return
        x0, y0, x1, y1 = region
        with torch.inference_mode(), self._queued(image):
            where = from_dlpack(image.planes[0]).device
            old, new, weight = (torch.from_numpy(a.copy()).to(where) for a in (before, after, mask))
            change = ((new.float() - old.float()) * weight[:, :, None]).permute(2, 0, 1)
            affine, small = crop.shrunk_to_place(crop.moved(to_frame, x0, y0), len(before))
            if small != len(before):
                change = _resized(change, small, small, "area")
            back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]
            _add(image, x0, y0, _warped(change, back, x1 - x0, y1 - y0, "bilinear", "zeros"))

    def draw(self, image: av.VideoFrame, x: int, y: int, rgb: NDArray[np.uint8], opacity: NDArray[np.float32]) -> None:
        """See ``Imaging``."""
        height, width = opacity.shape
        region = planes.align(image, x, y, x + width, y + height)
        if region is None:
            return
        x0, y0, x1, y1 = region
        with torch.inference_mode(), self._queued(image):
            before = _read(image, *region)
            change = torch.zeros_like(before)
            part = np.s_[max(0, y - y0) : min(y - y0 + height, y1 - y0), max(0, x - x0) : min(x - x0 + width, x1 - x0)]
            rows, columns = before[:, *part].shape[1:]
            new = torch.from_numpy(rgb[:rows, :columns].copy()).to(before.device).permute(2, 0, 1)
            weight = torch.from_numpy(opacity[:rows, :columns].copy()).to(before.device)
            change[:, *part] = (new.float() - before[:, *part]) * weight
            _add(image, x0, y0, change)


def _with_tags(image: av.VideoFrame, source: av.VideoFrame) -> av.VideoFrame:
    copy_tags(source, image)
    image.pts, image.duration = source.pts, source.duration
    if source.time_base is not None:
        image.time_base = source.time_base
    return image


def _filled(like: av.VideoFrame, parts: list[Tensor]) -> av.VideoFrame:
    """A frame in the host's memory, in ``like``'s size and format, with the planes ``parts``."""
    image = av.VideoFrame(like.width, like.height, like.format.name)
    for plane, part in zip(image.planes, parts, strict=True):
        from_dlpack(plane).copy_(part)
    return image


def _parts(image: av.VideoFrame, layout: Layout) -> list[Tensor]:
    """(rows, samples) views of Y, U, V; of Y alone; or of R, G, B: what is written to them is in the frame."""
    found = [from_dlpack(plane) for plane in image.planes]
    match layout.kind:
        case "rgb":
            return [found[0][..., i] for i in layout.order]
        case "gbr":
            return [found[i] for i in layout.order]
        case "nv":
            return [found[0], *(found[1][..., i] for i in layout.order[:2])]
        case "gray":
            return found[:1]
    return found[:3]


def _rectangle(image: av.VideoFrame, layout: Layout, x0: int, y0: int, x1: int, y1: int) -> list[Tensor]:
    """``_parts`` of an aligned rectangle."""
    chroma = np.s_[y0 >> layout.sy : -(-y1 >> layout.sy), x0 >> layout.sx : -(-x1 >> layout.sx)]
    return [part[y0:y1, x0:x1] if i == 0 else part[chroma] for i, part in enumerate(_parts(image, layout))]


def _read(image: av.VideoFrame, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """``planes.read`` as (3, h, w) float32, whole grey levels."""
    layout = planes.layout_of(image)
    parts = [_float(part, layout) for part in _rectangle(image, layout, x0, y0, x1, y1)]
    size = (y1 - y0, x1 - x0)
    whole = [p if p.shape == size else F.interpolate(p[None, None], size, mode="bilinear")[0, 0] for p in parts]
    return _rgb(image, layout, whole)


def _rgb(image: av.VideoFrame, layout: Layout, parts: list[Tensor]) -> Tensor:
    """(3, h, w) float32 RGB, whole grey levels, of planes of one size."""
    if layout.kind in ("rgb", "gbr"):
        values = torch.stack(parts) * (255 / ((1 << layout.bits) - 1))
    else:
        matrix = torch.from_numpy(planes.to_rgb(*planes.color_key(image, layout))).to(parts[0].device)
        if layout.kind == "gray":
            parts = [parts[0], *[torch.full_like(parts[0], 128 << (layout.bits - 8))] * 2]
        values = torch.tensordot(matrix[:, :3], torch.stack(parts), 1) + matrix[:, 3, None, None]
    return values.round().clamp(0, 255)


def _add(image: av.VideoFrame, x0: int, y0: int, change: Tensor) -> None:
    """``planes.add`` of a (3, h, w) float32 change."""
    layout = planes.layout_of(image)
    parts = _rectangle(image, layout, x0, y0, x0 + change.shape[2], y0 + change.shape[1])
    if layout.kind in ("rgb", "gbr"):
        change = change * (((1 << layout.bits) - 1) / 255)
    else:
        matrix = torch.from_numpy(planes.from_rgb(*planes.color_key(image, layout))).to(change.device)
        change = torch.tensordot(matrix, change, 1)
    for part, channel in zip(parts, change, strict=layout.kind != "gray"):
        if channel.shape != part.shape:
            channel = _resized(channel[None], part.shape[0], part.shape[1], "area")[0]
        steps = channel.round().to(torch.int32)
        old = part.to(torch.int32)
        new = ((old >> layout.shift) + steps).clamp(0, (1 << layout.bits) - 1) << layout.shift
        part.copy_(torch.where(steps != 0, new, old))


def _float(part: Tensor, layout: Layout) -> Tensor:
    return part.to(torch.float32) / (1 << layout.shift)


def _resized(
    planes_: Tensor, height: int, width: int, kernel: Literal["area", "triangle"], shift: float = 0.0
) -> Tensor:
    """(C, H, W) float32 in another size: averaged, or bilinear with the kernel widened where it shrinks."""
    down = _weights(planes_.shape[1], height, kernel, 0.0, planes_.device)
    across = _weights(planes_.shape[2], width, kernel, shift, planes_.device)
    return down @ planes_ @ across.T


@functools.lru_cache(maxsize=256)
def _weights(
    source: int, target: int, kernel: Literal["area", "triangle"], shift: float, device: torch.device
) -> Tensor:
    """(target, source) float32: how much of each sample goes into each, edges repeated."""
    ratio = source / target
    if kernel == "area":
        starts = torch.arange(target, dtype=torch.float64)[:, None] * ratio
        at = torch.arange(source, dtype=torch.float64)
        weights = (torch.minimum(starts + ratio, at + 1) - torch.maximum(starts, at)).clamp(min=0) / ratio
        return weights.to(device, torch.float32)
    reach = max(1.0, ratio)
    beyond = int(reach) + 1
    at = torch.arange(-beyond, source + beyond, dtype=torch.float64)
    centres = (torch.arange(target, dtype=torch.float64)[:, None] + 0.5) * ratio - 0.5 + shift
    spread = (1 - (at - centres).abs() / reach).clamp(min=0)
    spread /= spread.sum(1, keepdim=True)
    weights = torch.zeros(target, source, dtype=torch.float64)
    weights.index_add_(1, at.clamp(0, source - 1).long(), spread)
    return weights.to(device, torch.float32)


def _warped(
    pixels: Tensor,
    affine: NDArray[Any],
    width: int,
    height: int,
    mode: Literal["bicubic", "bilinear"],
    beyond: Literal["border", "zeros"],
) -> Tensor:
    """(C, height, width) of (C, H, W) float32 ``pixels``, at the places that ``affine`` gives for each."""
    columns = torch.arange(width, dtype=torch.float64, device=pixels.device)
    rows = torch.arange(height, dtype=torch.float64, device=pixels.device)[:, None]
    x, y = ((float(a) * columns + float(b) * rows + float(c)) for a, b, c in affine)
    reach_x, reach_y = max(1, pixels.shape[2] - 1), max(1, pixels.shape[1] - 1)
    places = torch.stack([2 * x / reach_x - 1, 2 * y / reach_y - 1], -1).to(torch.float32)
    return F.grid_sample(pixels[None], places[None], mode, beyond, align_corners=True)[0]
