"""Adapt a network to one site, from that site's face crops alone: no clean image of anybody is needed.

`python -m train.enhancer adapt CHECKPOINT --crops DIR --out adapted.pt` fits batch-norm statistics (pix2pix) to the
site's images (Li et al., "Revisiting Batch Normalization", 2017). `--ranges ranges.yaml` writes what the crops show of
the site's sizes, noise and light; training with these as `data.ranges`, from the same checkpoint, is the other half.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
import yaml
from torch import nn

from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import BOX_HEIGHT
from stream_enhance.stages.classical import noise_level
from train.common import checkpoints
from train.common.command import FILE, Command
from train.common.images import SUFFIXES, Image, read_image
from train.degrade import DEFAULT
from train.enhancer.cli import renamed
from train.enhancer.models import build
from train.enhancer.weights import NEEDS

FEWEST = 8  # crops: fewer say nothing of a site


def read_crops(folder: Path) -> list[Image]:
    """Every image in `folder`. Raises InputError where there are fewer than FEWEST."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if len(paths) < FEWEST:
        raise InputError(f"{folder}: {len(paths)} images; {FEWEST} crops are the least that say something of a site")
    return [read_image(path) for path in paths]


def adapt_batch_norm(network: nn.Module, crops: Sequence[Image], size: int) -> int:
    """Replace the running means and variances of every batch norm by those over `crops`; how many layers that were."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    patches = [cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC) for crop in crops]
    batch = torch.from_numpy(np.stack(patches).transpose(0, 3, 1, 2).astype(np.float32) / 255)
    network.train()
    with torch.no_grad():
        for part in batch.split(8):
            if len(part) > 1:  # the innermost level is one pixel: a batch of one has no variance there
                network(part)
    network.eval()
    for norm in norms:
        norm.momentum = 0.1
    return len(norms)


def site_ranges(crops: Sequence[Image]) -> dict[str, Any]:
    """What the crops (patches cut at the frame's resolution) show, as changes to `train.degrade.Ranges`."""
    heights = np.array([BOX_HEIGHT * crop.shape[0] for crop in crops])
    noises = np.array([noise_level(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.uint8)) for crop in crops])
    colour = np.array([np.ptp(crop.astype(np.int16), axis=2).mean() for crop in crops])
    light = np.array([crop.mean() for crop in crops])
    noisy = noises[noises > 1]
    low, high = (float(v) for v in np.percentile(heights, [5, 95]))
    found: dict[str, Any] = {"face_px": [max(8.0, low), max(8.0, low + 1, high)]}
    if len(noisy):
        found["noise_sigma"] = [max(1.0, float(noisy.min())), max(2.0, float(np.percentile(noisy, 95)))]
    shares = {
        "noise": len(noisy) / len(crops),
        "infrared": float((colour < 3).mean()),
        "night": float((light < 50).mean()),
    }
    found["chance"] = {**DEFAULT.chance, **{kind: round(share, 3) for kind, share in shares.items()}}
    return found


@click.command(cls=Command)
@click.argument("checkpoint", type=FILE)
@click.option("--crops", type=FILE, required=True, help="Folder of the site's face crops.")
@click.option("--out", type=FILE, help="Where the adapted checkpoint goes.")
@click.option("--ranges", type=FILE, help="Where the site's ranges go: YAML for data.ranges of a recipe.")
def command(checkpoint: Path, crops: Path, out: Path | None, ranges: Path | None) -> None:
    """Adapt CHECKPOINT to one site's face crops; no clean image is needed."""
    images = read_crops(crops)
    if ranges:
        ranges.write_text(yaml.safe_dump(site_ranges(images)))
        print(f"{ranges}: measured on {len(images)} crops; train with it as data.ranges and --init-from")
    if out:
        state = checkpoints.read(checkpoint, NEEDS)
        network = build(state["recipe"]["model"])
        checkpoints.fill(network, state["ema"] or state["generator"], checkpoint)
        count = adapt_batch_norm(network, images, state["recipe"]["data"]["size"])
        if not count:
            raise InputError(f"{checkpoint}: has no batch norm to adapt; use --ranges and train on")
        checkpoints.save({**state, "generator": network.state_dict(), "ema": None}, out)
        print(f"{out}: {count} batch norms adapted to {len(images)} crops")


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.adapt"))
