"""The detector's training loop: stages of one image size each, one schedule, resumable at every checkpoint.

The loop is ours because ultralytics' trainer does neither dense distillation nor ready-made shards, and runs at less
than half the speed on a CPU: this one trains in bfloat16 with channels last. Network, loss and yaml are ultralytics'.
"""

import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stream_enhance.errors import InputError, StreamEnhanceError
from train.detector.data.batch import Shards
from train.detector.distillation import FeatureLoss, through
from train.detector.initial_weights import build, load_folded
from train.detector.loss import TaughtPoseLoss
from train.detector.narrow import narrow
from train.detector.recipe import Recipe, Stage
from train.detector.teacher import bfloat16_is_fast, load_teacher

FREE = {"threads", "save_every", "cache", "score_shift"}  # what may differ between a run and its resumption


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
    rates = recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done)))
    return [
        Step(n, s, float(r) * min(1.0, (n + 1) / recipe.warmup))
        for n, (s, r) in enumerate(zip(plan, rates, strict=True))
    ]


def train(recipe: Recipe, run: Path, resume: bool = False) -> Path:
    """Train by `recipe` in the folder `run`; the path of the last checkpoint.

    Raises InputError where there is nothing to train on or the run to resume was another recipe's, and
    StreamEnhanceError where the loss is no longer a number (the last good checkpoint stays).
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = schedule(recipe)
    last = run / "last.pt"
    begin = 0
    model = build(recipe.network, dict(recipe.gains))
    if resume:
        state = read_checkpoint(last, recipe)
        model.load_state_dict(state["model"])
        begin = state["step"]
    elif last.exists():
        raise InputError(f"{run}: holds a run already; add --resume or name another folder with --run")
    else:
        start(model, recipe)
    model = model.to(device, memory_format=torch.channels_last)
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
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.json").write_text(recipe.model_dump_json(indent=1))
    learn(recipe, run, steps[begin:], Learner(model, average, features, optimizer), device)
    return last


@dataclass(frozen=True)
class Learner:
    """What a run changes: the network, the running mean of its weights, the feature adapters, Adam's moments."""

    model: nn.Module
    average: nn.Module
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


def start(model: nn.Module, recipe: Recipe) -> None:
    """The weights that the recipe starts from: none, a folded export's, or an earlier run's average."""
    if recipe.start is None:
        return
    if recipe.start.suffix == ".pt":
        state = read_checkpoint(recipe.start, None)
        network = json.loads(state["recipe"])["network"]
        if network == recipe.network:
            model.load_state_dict(state["average"])
            return
        wide = build(network)
        wide.load_state_dict(state["average"])
        narrow(wide, model)
        return
    shards = Shards(recipe.cache, recipe.stages[0].side)
    sample = shards.batch(np.arange(32) * (len(shards) // 32), np.zeros(32, bool))["img"]
    load_folded(model, recipe.start, recipe.start_classes, sample)


def learn(
    recipe: Recipe,
    run: Path,
    steps: list[Step],
    learner: Learner,
    device: torch.device,
) -> None:
    """Do `steps`, with a checkpoint and a row of `metrics.csv` every so often."""
    model, average, features, optimizer = learner.model, learner.average, learner.features, learner.optimizer
    criterion = TaughtPoseLoss(model, recipe.teacher_weight, recipe.teacher_scores, recipe.point_sigma)
    feed: Iterator[dict[str, torch.Tensor]] = iter(())
    stage: Stage | None = None
    seen: list[dict[str, float]] = []  # each step's losses since the last row
    began = time.monotonic()
    for step in tqdm(steps, mininterval=30):
        if step.stage is not stage:
            stage = step.stage
            set_mode(model, stage)
            feed = Shards(recipe.cache, stage.side).batches(
                stage.batch, np.random.default_rng([recipe.seed, step.number]), stage.sheet
            )
        batch = {k: v.to(device) for k, v in next(feed).items()}
        for group in optimizer.param_groups:
            group["lr"] = step.rate
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast()):
            preds, felt = through(model.model, batch["img"])
            apart = features(felt, batch["clean"], score_map(batch)) if features is not None else None
        total, parts = criterion.loss(preds, batch)
        loss = total.sum() / len(batch["img"])
        if apart is not None:
            loss = loss + recipe.features * apart
            parts = parts | {"features": apart.detach()}
        if not math.isfinite(loss.item()):
            raise StreamEnhanceError(
                f"{run}: the loss is {loss.item()} at step {step.number}; lower `learning_rate` and start again;"
                f" {run / 'last.pt'} is the last good checkpoint"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        follow(average, model, min(recipe.average, (step.number + 1) / (step.number + 10)))
        seen.append({name: float(value) for name, value in parts.items()})
        if (step.number + 1) % recipe.save_every == 0 or step is steps[-1]:
            save_checkpoint(run / "last.pt", recipe, step.number + 1, learner)
            means = {name: sum(losses[name] for losses in seen) / len(seen) for name in seen[0]}
            row = {"step": step.number + 1, "side": stage.side, "rate": step.rate, **means}
            note(run / "metrics.csv", row | {"seconds": round(time.monotonic() - began)})
            seen = []


def score_map(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, 1, S/8, S/8), 0 to 1: the largest of the teacher's scores at each place, over all strides."""
    count, side = len(batch["img"]), batch["img"].shape[-1]
    where, cell = batch["t_index"]
    sizes = [(side // stride) ** 2 for stride in (8, 16, 32)]
    flat = torch.zeros(count, sum(sizes), device=cell.device)
    flat[where, cell] = batch["t_score"]
    maps = [part.view(count, 1, int(part.shape[1] ** 0.5), -1) for part in flat.split(sizes, 1)]
    return torch.stack([nn.functional.interpolate(m, maps[0].shape[-2:]) for m in maps]).amax(0)


def set_mode(model: nn.Module, stage: Stage) -> None:
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


def save_checkpoint(path: Path, recipe: Recipe, step: int, learner: Learner) -> None:
    """Everything that goes on needs, whole or not at all."""
    part = path.with_suffix(".part")
    state = {"recipe": recipe.model_dump_json(), "step": step, "model": learner.model.state_dict()}
    state |= {"average": learner.average.state_dict(), "optimizer": learner.optimizer.state_dict()}
    if learner.features is not None:
        state["features"] = learner.features.state_dict()
    torch.save(state, part)
    part.replace(path)


def read_checkpoint(path: Path, recipe: Recipe | None) -> dict:
    """The checkpoint at `path`. Raises InputError where there is none, or where it is not `recipe`'s."""
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint; train first, or name the run's folder with --run")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if recipe is not None:
        was, now = json.loads(state["recipe"]), json.loads(recipe.model_dump_json())
        other = sorted(k for k in now if k not in FREE and was.get(k) != now[k])
        if other:
            raise InputError(f"{path}: is another recipe's ({', '.join(other)} differ); start a new --run")
    return state


def note(path: Path, row: dict[str, object]) -> None:
    """Append `row` to the CSV at `path`."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})
