"""Training, read downwards: `python -m train.enhancer train configs/train/enhancer/01_regression.yaml --out runs/unet`.

One recipe makes one run; the refinement stage of the original method is a second recipe that starts from the first's
checkpoint. The same seed on the same machine gives the same losses, also across a stop and `--resume`. Several GPUs:
`torchrun --nproc-per-node 4 -m train.enhancer train ...`, where `batch` is each GPU's.
"""

import logging
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.distributed import destroy_process_group, init_process_group
from torch.utils.data import DataLoader, Dataset, Sampler

from stream_enhance.errors import ConfigError, InputError
from train.common import checkpoints
from train.common.command import FILE, Command
from train.common.journal import Journal
from train.common.schedule import Limit
from train.enhancer.cli import renamed
from train.enhancer.data import FolderPairs, Pair, heatmaps, named, read_faces, split, usable
from train.enhancer.recipe import Data, Recipe, load
from train.enhancer.shards import ShardPairs
from train.enhancer.trainer import Trainer, World
from train.enhancer.weights import NEEDS

log = logging.getLogger("train")


class Keyed(Dataset[tuple[Tensor, Tensor]]):
    """Pairs by (visit, index): what is drawn for one depends on the seed and these two alone."""

    def __init__(self, pairs: Any, seed: int, with_heatmaps: bool):
        self.pairs, self.seed, self.heatmaps = pairs, seed, with_heatmaps

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return tensors(self.pairs.pair(key[1], np.random.default_rng([self.seed, *key])), self.heatmaps)


def tensors(pair: Pair, with_heatmaps: bool) -> tuple[Tensor, Tensor]:
    """((3 or 7, S, S), (3, S, S)) float32 in 0..1."""
    low, clean = (torch.from_numpy(p.transpose(2, 0, 1).astype(np.float32) / 255) for p in (pair.low, pair.clean))
    if with_heatmaps:
        low = torch.cat([low, torch.from_numpy(heatmaps(pair.points, pair.low.shape[0]))])
    return low, clean


class Stream(Sampler[tuple[int, int]]):
    """Keys `start` to `start + length` of an endless run of shuffled passes, this rank's share of them."""

    def __init__(self, pairs: int, seed: int, start: int, length: int, world: World):
        self.pairs, self.seed, self.start, self.length, self.world = pairs, seed, start, length, world

    def __len__(self) -> int:
        return self.length // self.world.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        visit, order = -1, np.empty(0, np.int64)
        for k in range(len(self)):
            position = self.start + k * self.world.size + self.world.rank
            if position // self.pairs != visit:
                visit = position // self.pairs
                order = np.random.default_rng([self.seed, visit]).permutation(self.pairs)
            yield visit, int(order[position % self.pairs])


def open_data(data: Data) -> tuple[Any, Any]:
    """(training pairs, validation pairs) of the one source that the recipe names."""
    if sum(source is not None for source in (data.shards, data.faces, data.scface)) != 1:
        raise ConfigError("data: name exactly one of shards, faces and scface")
    if data.shards is not None:
        if data.val_shards is None:
            raise ConfigError("data.val_shards: shards need a second folder to validate on (`shards --half val`)")
        pairs = ShardPairs(data.shards, data.size, data.augment, data.keep_small, data.fresh, data.shrunk)
        return pairs, ShardPairs(data.val_shards, data.size, False)
    if data.scface is not None:
        from train.enhancer.scface import ScfacePairs, read_scface

        matches, others = read_scface(data.scface, data.scface_infrared, data.held_out)
        return ScfacePairs(matches, data.size, data.augment), ScfacePairs(others, data.size, False)
    assert data.faces is not None
    portraits = usable(read_faces(data.faces, data.sets))
    if data.people is not None:
        portraits = named(portraits, data.people, data.faces)
    seen, unseen = split(portraits, data.held_out)
    return FolderPairs(seen, data.size, data.ranges, data.augment), FolderPairs(unseen, data.size, data.ranges, False)


def fit(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    start: Path | None = None,
    world: World | None = None,
    limit: Limit | None = None,
) -> Trainer:
    """Train `recipe` and leave in `out`: last.pt, best.pt, every tenth epoch, samples/, losses.csv, TensorBoard.

    Stops before an epoch that would probably end after `limit`.
    """
    world = world or World()
    seed_all(recipe.seed, world)
    pairs, unseen = open_data(recipe.data)
    epoch_pairs = recipe.epoch_pairs or len(pairs)
    micro = epoch_pairs // (recipe.batch * world.size)  # batches an epoch, on each rank
    if micro < recipe.optimiser.accumulate:
        raise InputError(f"{len(pairs)} pairs do not fill one step of {recipe.batch} x {recipe.optimiser.accumulate}")
    trainer = Trainer(recipe, world, micro // recipe.optimiser.accumulate, start)
    last = out / "last.pt"
    if resume:
        trainer.restore(checkpoints.read(last, NEEDS), last)
    trainer.limit = limit
    out.mkdir(parents=True, exist_ok=True)
    held = Keyed(unseen, recipe.seed, recipe.data.heatmaps)
    checked = [held[0, int(k)] for k in np.linspace(0, len(unseen) - 1, min(len(unseen), recipe.data.val_pairs))]
    with Journal(out, trainer.step, enabled=world.rank == 0) as journal:
        while trainer.epoch < recipe.epochs:
            began = time.monotonic()
            one_epoch(trainer, Keyed(pairs, recipe.seed, recipe.data.heatmaps), len(pairs), micro, journal)
            scores, shown = trainer.validate(checked)
            trainer.since_best = 0 if scores["val_loss"] < trainer.best else trainer.since_best + 1
            trainer.best = min(trainer.best, scores["val_loss"])
            if world.rank == 0:
                samples = shown if due(trainer, recipe.sample_epochs) else []
                journal.validation(trainer.epoch, trainer.step, scores, samples)
                state = trainer.state()
                checkpoints.save(state, last)
                if trainer.since_best == 0:
                    checkpoints.save(state, out / "best.pt")
                if due(trainer, recipe.checkpoint_epochs):
                    checkpoints.save(state, out / f"epoch_{trainer.epoch:04d}.pt")
            if recipe.patience and trainer.since_best >= recipe.patience:
                log.info("stopped: no better validation for %d epochs", trainer.since_best)
                break
            if limit is not None and limit.left() < time.monotonic() - began:
                log.info("stopped: no time for another epoch")
                break
    return trainer


def due(trainer: Trainer, every: int) -> bool:
    """Whether something done every `every` epochs is due now."""
    return bool(every) and trainer.epoch % every == 0


def one_epoch(trainer: Trainer, keyed: Keyed, pairs: int, micro: int, journal: Journal) -> None:
    """Learn from `micro` batches, from the current position in the stream of pairs."""
    recipe, world = trainer.recipe, trainer.world
    length = micro * recipe.batch * world.size
    stream = Stream(pairs, recipe.seed, trainer.position, length, world)
    batches = DataLoader(keyed, recipe.batch, sampler=stream, num_workers=recipe.data.workers, drop_last=True)
    trainer.generator.train()
    held: list[tuple[Tensor, Tensor]] = []
    since = time.monotonic()
    for low, target in batches:
        held.append((low, target))
        if len(held) == recipe.optimiser.accumulate:
            losses = trainer.learn(held)
            speed = len(held) * len(low) * world.size / (time.monotonic() - since)
            journal.step(trainer.epoch, trainer.step, losses, trainer.optimisers[0].param_groups[-1]["lr"], speed)
            held, since = [], time.monotonic()
    trainer.position += length
    trainer.epoch += 1
    if recipe.freeze and trainer.epoch == recipe.freeze_epochs:
        trainer.apply_freezing()


def seed_all(seed: int, world: World) -> None:
    """Python's, NumPy's and torch's generators, each rank its own."""
    random.seed(seed + world.rank)
    np.random.seed(seed + world.rank)
    torch.manual_seed(seed)  # the same on every rank: the networks start equal
    torch.backends.cudnn.benchmark = False


def open_world() -> World:
    """The process group that torchrun describes in the environment, or one process."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2:
        return World(device=torch.device("cuda", 0) if cuda else torch.device("cpu"))
    init_process_group("nccl" if cuda else "gloo")
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), device)


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder for checkpoints, losses and samples.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe, e.g. optimiser.lr=1e-4.")
@click.option("--resume", is_flag=True, help="Go on from OUT/last.pt.")
@click.option("--init-from", type=FILE, metavar="WEIGHTS", help="Start from a checkpoint, .safetensors or .onnx.")
@click.option("--freeze", help="Parts that do not learn, as in down1,down2.")
def command(
    recipe: Path, out: Path, changes: tuple[str, ...], resume: bool, init_from: Path | None, freeze: str | None
) -> None:
    """Train a network by RECIPE, a YAML file as in configs/train/enhancer."""
    cv2.setNumThreads(1)
    settings = load(recipe, [*changes, *([f"freeze=[{freeze}]"] if freeze else [])])
    if settings.threads:
        torch.set_num_threads(settings.threads)
    world = open_world()
    try:
        fit(settings, out, resume, init_from, world)
    finally:
        if world.size > 1:
            destroy_process_group()


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.train"))
