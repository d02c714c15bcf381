"""The detector's training loop: stages of one image size each, one schedule, resumable at every checkpoint.

The loop is ours because ultralytics' trainer does neither dense distillation nor ready-made shards, and runs at less
than half the speed on a CPU: this one trains in bfloat16 with channels last. Network, loss and yaml are ultralytics'.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stream_enhance.errors import InputError
from train.common import checkpoints
from train.common.command import finite
from train.common.journal import Journal
from train.common.schedule import Limit, cosine, warmup
from train.detector.data.batch import Shards
from train.detector.distillation import FeatureLoss, through
from train.detector.initial_weights import build, load_folded
from train.detector.loss import TaughtPoseLoss
from train.detector.recipe import Recipe, Stage, parse_recipe
from train.detector.teacher import bfloat16_is_fast, load_teacher

FREE = {"threads", "save_every", "cache", "score_shift", "card"}  # what may differ between a run and its resumption

NEEDS = ("network", "stages", "gains")  # keys of the recipe in a checkpoint


@dataclass(frozen=True)
class Step:
    """One step of the schedule."""

    number: int
    stage: Stage
    rate: float


def schedule(recipe: Recipe) -> list[Step]:
    """Every step of the run: linear warm-up, then half a cosine down to a hundredth, over the whole run's pixels."""
    plan = [stage for stage in recipe.stages for _ in range(stage.images // stage.batch)]
    pixels = np.cumsum([stage.batch * stage.side**2 for stage in plan])
    done = pixels / pixels[-1]
    return [
        Step(number, stage, recipe.learning_rate * cosine(float(share)) * warmup(number, recipe.warmup))
        for number, (stage, share) in enumerate(zip(plan, done, strict=True))
    ]


def train(recipe: Recipe, run: Path, resume: bool = False, limit: Limit | None = None) -> Path:
    """Train by `recipe` in the folder `run` and no longer than to `limit`; the path of the last checkpoint.

    Raises InputError where there is nothing to train on or the run to resume was another recipe's, and LossNotFinite
    where the loss is no longer a number (the last good checkpoint stays).
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = schedule(recipe)
    last = run / "last.pt"
    begin = 0
    model = build(recipe.network, gains_of(recipe))
    if resume:
        state = state_to_resume(last, recipe)
        model.load_state_dict(state["model"])
        begin = state["step"]
    elif last.exists():
        raise InputError(f"{run}: holds a run already; add --resume or name another folder with --out")
    else:
        start(model, recipe)
    model = model.to(device).to(memory_format=torch.channels_last)
    average = build(recipe.network).to(device)
    average.load_state_dict(state["average"] if resume else model.state_dict())
    features = feature_loss(recipe, model, device)
    optimizer = torch.optim.AdamW(groups(model, recipe.weight_decay), betas=(0.9, 0.99))
    if features is not None:
        if resume:
            features.load_state_dict(state["features"])
        optimizer.add_param_group({"params": list(features.parameters()), "weight_decay": 0.0})
    if resume:
        optimizer.load_state_dict(state["optimizer"])
    with Journal(run, begin, every=1) as journal:
        learn(recipe, last, steps[begin:], Learner(model, average, features, optimizer), journal, limit)
    return last


@dataclass(frozen=True)
class Learner:
    """What a run changes: the network, the running mean of its weights, the feature adapters, Adam's moments."""

    model: Any  # ultralytics' PoseModel
    average: Any
    features: FeatureLoss | None
    optimizer: torch.optim.Optimizer


def feature_loss(recipe: Recipe, model: nn.Module, device: torch.device) -> FeatureLoss | None:
    """The distance to the teacher's features, its adapters fitted to `model` as it is; None where it weighs nothing."""
    if not recipe.features:
        return None
    batches = Shards(recipe.cache, recipe.stages[0].side).batches(16, np.random.default_rng(recipe.seed))
    model.train()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    pairs = ((batch["img"].to(device), batch["clean"].to(device)) for batch in batches)
    loss = FeatureLoss(load_teacher(recipe.teacher).to(device), model, pairs).to(device)
    model.load_state_dict(kept)  # the fit has moved the batch norms' statistics
    return loss


def gains_of(recipe: Recipe) -> dict[str, float]:
    """The weight of each part of ultralytics' loss, by its name there."""
    return {str(name): value for name, value in recipe.gains.items()}


def start(model: nn.Module, recipe: Recipe) -> None:
    """The weights that the recipe starts from: none, a folded export's, or an earlier run's average."""
    if recipe.start is None:
        return
    if recipe.start.suffix == ".pt":
        checkpoints.fill(model, checkpoints.read(recipe.start, NEEDS)["average"], recipe.start)
        return
    shards = Shards(recipe.cache, recipe.stages[0].side)
    sample = shards.batch(np.arange(32) * (len(shards) // 32), np.zeros(32, bool))["img"]
    load_folded(model, recipe.start, recipe.start_classes, sample)


def learn(
    recipe: Recipe, last: Path, steps: list[Step], learner: Learner, journal: Journal, limit: Limit | None = None
) -> None:
    """Do `steps`, or as many as end by `limit`; every `save_every` of them the checkpoint `last` and the mean of each
    loss since the one before."""
    model, average, features, optimizer = learner.model, learner.average, learner.features, learner.optimizer
    device = next(model.parameters()).device
    criterion = TaughtPoseLoss(model, recipe.teacher_weight, recipe.teacher_scores, recipe.point_sigma)
    feed: Iterator[dict[str, torch.Tensor]] = iter(())
    stage: Stage | None = None
    seen: list[dict[str, float]] = []  # each step's losses since the last checkpoint
    since = time.monotonic()
    for step in tqdm(steps, mininterval=30):
        if step.stage is not stage:
            stage = step.stage
            set_mode(model, stage)
            feed = Shards(recipe.cache, stage.side).batches(
                stage.batch, np.random.default_rng([recipe.seed, step.number]), stage.sheet
            )
        batch = {k: v.to(device) for k, v in next(feed).items()}
        for group in optimizer.param_groups:
            group["lr"] = step.rate * (limit.factor() if limit else 1.0)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast()):
            preds, felt = through(model.model, batch["img"])
            apart = features(felt, batch["clean"], score_map(batch)) if features is not None else None
        total, parts = criterion.loss(preds, batch)
        loss = total.sum() / len(batch["img"])
        if apart is not None:
            loss = loss + recipe.features * apart
            parts = parts | {"features": apart.detach()}
        finite(loss.item(), step.number, "lower learning_rate and start again")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        follow(average, model, min(recipe.average, (step.number + 1) / (step.number + 10)))
        seen.append({name: float(value) for name, value in parts.items()})
        late = limit is not None and limit.left() < 0
        if (step.number + 1) % recipe.save_every == 0 or step is steps[-1] or late:
            checkpoints.save(state_of(recipe, step.number + 1, learner), last)
            means = {name: sum(losses[name] for losses in seen) / len(seen) for name in seen[0]}
            speed = len(seen) * stage.batch / (time.monotonic() - since)
            journal.step(recipe.stages.index(stage), step.number + 1, means, step.rate, speed)
            seen, since = [], time.monotonic()
        if late:
            return


def score_map(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, 1, S/8, S/8), 0 to 1: the largest of the teacher's scores at each place, over all strides."""
    count, side = len(batch["img"]), batch["img"].shape[-1]
    where, cell = batch["t_index"]
    sizes = [(side // stride) ** 2 for stride in (8, 16, 32)]
    flat = torch.zeros(count, sum(sizes), device=cell.device)
    flat[where, cell] = batch["t_score"]
    maps = [part.view(count, 1, int(part.shape[1] ** 0.5), -1) for part in flat.split(sizes, 1)]
    return torch.stack([nn.functional.interpolate(m, maps[0].shape[-2:]) for m in maps]).amax(0)


def set_mode(model: Any, stage: Stage) -> None:
    """Training mode with the stage's first layers frozen, and its batch norms fixed where batches are small."""
    model.train()
    for number, layer in enumerate(model.model):
        frozen = number < stage.frozen
        layer.requires_grad_(not frozen)
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d) and (frozen or stage.batch < 8):
                module.eval()
    model.model[-1].dfl.requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running mean of the weights, batch norms' statistics included, towards the model."""
    ours, theirs = average.state_dict(), model.state_dict()
    floats = [k for k, v in ours.items() if v.is_floating_point()]
    torch._foreach_lerp_([ours[k] for k in floats], [theirs[k] for k in floats], 1 - decay)


def groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Convolutions decay, biases and norms do not."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def state_of(recipe: Recipe, step: int, learner: Learner) -> dict[str, Any]:
    """All that a resumed run needs to go on: tensors and plain values."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "step": step,
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "features": None if learner.features is None else learner.features.state_dict(),
    }


def state_to_resume(path: Path, recipe: Recipe) -> dict[str, Any]:
    """The checkpoint at `path`. Raises InputError where there is none, or where it is not `recipe`'s."""
    state = checkpoints.read(path, NEEDS)
    was, now = parse_recipe(state["recipe"], path), recipe
    other = sorted(k for k in Recipe.model_fields if k not in FREE and getattr(was, k) != getattr(now, k))
    if other:
        raise InputError(f"{path}: is another recipe's ({', '.join(other)} differ); train in a new folder")
    return state


def network_of(path: Path) -> tuple[Any, Recipe]:
    """The network in the checkpoint `path`, the running mean of its weights, in eval mode; and its recipe.

    Raises InputError where there is no checkpoint, ModelError where it is another network's.
    """
    state = checkpoints.read(path, NEEDS)
    recipe = parse_recipe(state["recipe"], path)
    model = build(recipe.network, gains_of(recipe))
    checkpoints.fill(model, state["average"], path)
    return model.eval(), recipe
