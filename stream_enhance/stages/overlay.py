"""Enhanced faces put back into the frame, or shown beside it.

``inplace`` blends each patch into the frame's own planes under a feathered mask; ``panel`` leaves the frame as it was
and adds a strip below with faces before and after, magnified: the largest, as many as fit; ``side_by_side`` shows
original and enhanced frame next to each other.  Unless ``watermark`` is off, each frame carries a small "ENHANCED"
watermark.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from pydantic import Field

from ..imaging import planes
from ..imaging.frames import blank_like
from ..imaging.host import Host, Imaging
from ..options import Options, OverlayMode
from ..types import Enhanced, Rendered

_STRIP = 1 / 3  # the panel's height, as a part of the frame's
_FEATHER = 0.22  # of the patch's half side, where the mask falls from 1 to 0


class OverlayOptions(Options):
    """How enhanced faces are shown."""

    mode: OverlayMode = Field(
        default="inplace",
        description="Faces put back into the frame, in a panel below it, or the original beside the enhanced frame.",
    )
    watermark: bool = Field(default=True, description='The word "ENHANCED" in a corner of every frame.')
    scale: int = Field(
        default=1,
        ge=1,
        le=4,
        description="Enlarge the output by this factor; faces then show the network's full resolution.",
    )


class Overlay:
    """Draws ``Enhanced`` scenes.

    Args:
        options: where the enhanced faces go.
        imaging: draws into the frame; None: in the host's memory, which modes other than ``inplace`` need.
    """

    def __init__(self, options: OverlayOptions = OverlayOptions(), imaging: Imaging | None = None) -> None:
        self._imaging = imaging or Host()
        self._mode, self._watermark, self._scale = options.mode, options.watermark, options.scale
        self._slots: list[int] = []  # tracks shown in the panel, left to right; -1 where free

    def __call__(self, items: Iterable[Enhanced]) -> Generator[Rendered, None, None]:
        """Each frame with its enhanced faces drawn into it."""
        for item in items:
            yield Rendered(self.draw(item), item)

    def draw(self, item: Enhanced) -> av.VideoFrame:
        """The finished frame, with the frame's pts, time base and colour tags.  May change ``item``'s frame."""
        frame = item.scene.frame
        image = frame.image
        if self._scale > 1:
            item, image = self._enlarged(item, image)
        match self._mode:
            case "inplace":
                result = image
                if len(item.patches) or self._watermark:
                    result.make_writable()
                self._paste_all(result, item)
            case "side_by_side":
                result = _canvas(image, 2 * image.width, image.height)
                _copy(image, result, 0, 0)
                if len(item.patches):
                    image.make_writable()
                    self._paste_all(image, item)
                _copy(image, result, image.width, 0)
            case "panel":
                strip = max(64, round(image.height * _STRIP / 16) * 16)
                result = _canvas(image, image.width, image.height + strip)
                _copy(image, result, 0, 0)
                self._draw_panel(result, item, image.height, strip)
        if self._watermark:
            _stamp(self._imaging, result, frame.rotation if self._mode == "inplace" else 0)
        result.pts, result.time_base = frame.pts, frame.time_base
        return result

    def _enlarged(self, item: Enhanced, image: av.VideoFrame) -> tuple[Enhanced, av.VideoFrame]:
        factor = self._scale
        large = image.reformat(image.width * factor, image.height * factor, interpolation=Interpolation.LANCZOS)
        to_frame = item.to_frame * np.float32(factor)
        to_frame[:, :, 2] += (factor - 1) / 2  # pixel centres are at integers
        return replace(item, to_frame=to_frame), large

    def _paste_all(self, image: av.VideoFrame, item: Enhanced) -> None:
        for before, after, to_frame in zip(item.originals, item.patches, item.to_frame, strict=True):
            self._imaging.paste(image, before, after, mask_of(len(before)), to_frame)

    def _draw_panel(self, image: av.VideoFrame, item: Enhanced, top: int, strip: int) -> None:
        """Before and after of as many faces as fit, each track keeping its place while it is there."""
        side = strip - 16
        count = max(1, image.width // (2 * side + 12))
        tracks = [int(t) for t in item.scene.faces.track[item.faces]]
        self._slots = [t if t in tracks else -1 for t in (self._slots + [-1] * count)[:count]]
        heights = item.scene.faces.xyxy[item.faces, 3] - item.scene.faces.xyxy[item.faces, 1]
        for i in np.argsort(-heights):
            if tracks[i] not in self._slots and -1 in self._slots:
                self._slots[self._slots.index(-1)] = tracks[i]
        canvas = np.full((strip, image.width, 3), 24, np.uint8)
        for slot, track in enumerate(self._slots):
            if track < 0:
                continue
            i = tracks.index(track)
            x = 4 + slot * (2 * side + 12)
            for patch, left in ((item.originals[i], x), (item.patches[i], x + side + 2)):
                tile = cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA)[:, : max(0, image.width - left)]
                canvas[14 : 14 + side, left : left + tile.shape[1]] = tile
            label = f"#{track} {heights[i]:.0f}px  original | enhanced"
            cv2.putText(canvas, label, (x, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (230, 230, 230), 1, cv2.LINE_AA)
        planes.write(image, 0, top, canvas)


@lru_cache
def mask_of(size: int) -> NDArray[np.float32]:
    """(size, size) float32: 1 over the face, 0 at the patch's edge, smooth between (a squircle with smoothstep)."""
    axis = np.abs((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)
    radius = (axis[:, None] ** 4 + axis[None, :] ** 4) ** 0.25
    ramp = np.clip((0.96 - radius) / _FEATHER, 0, 1)
    mask: NDArray[np.float32] = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    mask.setflags(write=False)
    return mask


def _canvas(like: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    return blank_like(like, width, height)


def _copy(source: av.VideoFrame, target: av.VideoFrame, x: int, y: int) -> None:
    """Copy all of ``source`` into ``target`` at (x, y), plane by plane."""
    for i in range(len(source.planes)):
        pixels: NDArray[Any] = planes.samples(source, i)
        plane = planes.samples(target, i)
        left = x * pixels.shape[1] // source.width
        down = y * pixels.shape[0] // source.height
        plane[down : down + pixels.shape[0], left : left + pixels.shape[1]] = pixels[:, : plane.shape[1] - left]


@lru_cache(maxsize=16)
def _watermark_of(height: int, rotation: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The watermark for frames ``height`` pixels high: (h, w, 3) RGB, and its (h, w) opacity."""
    scale = max(0.3, height / 1080)
    (width, tall), base = cv2.getTextSize("ENHANCED", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    frame = np.zeros((tall + base + 2, width + 6, 3), np.uint8)
    cv2.putText(frame, "ENHANCED", (3, tall + 1), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    frame = np.ascontiguousarray(np.rot90(frame, -(rotation // 90)))
    return frame, (0.45 + 0.55 * frame[:, :, 0] / 255.0).astype(np.float32)


def _stamp(imaging: Imaging, image: av.VideoFrame, rotation: int) -> None:
    """Put the watermark into the corner that a viewer sees at the lower right, away from names and clocks."""
    frame, opacity = _watermark_of(image.width if rotation % 180 else image.height, rotation)
    height, width = opacity.shape
    right, low = image.width - width - 4, image.height - height - 4
    x, y = {0: (right, low), 90: (4, low), 180: (4, 4)}.get(rotation, (right, 4))
    imaging.draw(image, x, y, frame, opacity)
