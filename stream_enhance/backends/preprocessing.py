"""RGB images to a network's input and its output back to RGB, as the model's card says; stated nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .card import Card

if TYPE_CHECKING:
    import torch

Batch = NDArray[np.float32] | NDArray[np.uint8]  # what a network takes, as its card says


def to_input(images: Sequence[Any], card: Card) -> Any:
    """(H, W, 3) uint8 RGB images of one size as ``card`` says: float32 (n, 3, H, W), or uint8 (n, H, W, 3) as it is.

    Arrays give a ``Batch``, torch's tensors a tensor where they lie.
    """
    if not isinstance(images[0], np.ndarray):
        return _tensors_to_input(images, card)
    if card.input_type == "uint8":
        return images[0][None] if len(images) == 1 else np.stack(images)
    batch = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32, order="C")
    std = np.array(card.std, np.float32).reshape(1, 3, 1, 1)
    batch *= 1 / (np.float32(card.scale) * std)
    if any(card.mean):
        batch -= np.array(card.mean, np.float32).reshape(1, 3, 1, 1) / std
    return batch


def _tensors_to_input(images: Sequence[torch.Tensor], card: Card) -> torch.Tensor:
    import torch

    if card.input_type == "uint8":
        return torch.stack(list(images))
    batch = torch.stack(list(images)).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(v, device=batch.device).reshape(1, 3, 1, 1) for v in (card.mean, card.std))
    return ((batch / card.scale - mean) / std).contiguous()


def to_images(output: Batch, card: Card) -> NDArray[np.uint8]:
    """``to_input``'s inverse: float32 (n, 3, H, W), changed in place, to (n, H, W, 3) uint8 RGB, saturated."""
    if output.dtype == np.uint8:
        return output  # type: ignore[return-value]
    black = -np.array(card.mean, np.float32) / np.array(card.std, np.float32)
    np.maximum(output, black.reshape(1, 3, 1, 1), out=output)  # below, convertScaleAbs would fold it over
    n, _, height, width = output.shape
    images = np.empty((n, height, width, 3), np.uint8)
    for image, planes in zip(images, output, strict=True):
        channels = zip(planes, card.std, card.mean, strict=True)
        # scaled, rounded and saturated in one pass
        cv2.merge([cv2.convertScaleAbs(c, alpha=card.scale * s, beta=card.scale * m) for c, s, m in channels], image)
    return images
