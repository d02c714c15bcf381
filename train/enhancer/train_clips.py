"""Training of a network that sees several frames: `python -m train.enhancer train-clips RECIPE --out DIR`.

Each step learns from `chunk` consecutive frames of `batch` tracks. The losses are those of regression, on each result
and on the mixture of the track's results, which is what is shown; and the likelihood of the mixture's errors under the
expected one, whose gradient stays in its own layers.
"""

import copy
import logging
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from train.common import checkpoints, schedule
from train.common import recipe as common
from train.common.command import FILE, Command, finite
from train.common.journal import Journal
from train.common.recipe import CardText, Part
from train.enhancer.clip_data import ClipSamples
from train.enhancer.losses import bels, charbonnier, psnr
from train.enhancer.models import build
from train.enhancer.several import UNetSeveral, mix, packed
from train.enhancer.weights import NEEDS

log = logging.getLogger("train")
Batch = dict[
    str, Tensor
]  # low, clean (n, T, 3, S, S), mean (n, T, 3, S/2, S/2) 0..1; count, kept (n, T, 1, s, s); flow (n, T, s, s, 2)


class ClipData(Part):
    """Where clips come from."""

    clips: list[Path]
    val_clips: Path
    size: int = 256
    heatmaps: bool = False


class ClipWeights(Part):
    """The weight of each loss."""

    charbonnier: float = 0.5
    bels: float = 0.1
    mixed: float = 2  # the same two, on the mixture
    likelihood: float = 0.02


class ClipRecipe(Part):
    """All of one run over clips."""

    name: str
    seed: int = 0
    model: dict[str, Any]
    data: ClipData
    card: CardText = CardText()
    losses: ClipWeights = ClipWeights()
    lr: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 100
    steps: int = Field(ge=1)  # a trapezoid: the whole rate, and over the last 0.4 down to nothing
    clip: float = 0.5
    ema: float = 0.998
    learns: tuple[str, ...] = ()  # parts of the network that learn, as in past, error; all of them without
    batch: int = 8
    chunk: int = 2
    round_batches: int = 10  # then the state is saved
    validate_rounds: int = 4
    val_clips: int = 32
    compile: bool = False
    threads: int = 1


class Clips(Dataset[Batch]):
    """`samples` as tensors, each drawn by its number."""

    def __init__(self, samples: ClipSamples, seed: int, first: int, length: int):
        self.samples, self.seed, self.first, self.length = samples, seed, first, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Batch:
        visit, place = divmod(self.first + number, len(self.samples))
        index = int(np.random.default_rng([self.seed, visit]).permutation(len(self.samples))[place])
        sample = self.samples.sample(index, np.random.default_rng([self.seed, visit, index]))
        images = {name: getattr(sample, name).transpose(0, 3, 1, 2) for name in ("low", "clean", "mean")}
        found = {name: torch.from_numpy(value.astype(np.float32) / 255) for name, value in images.items()}
        found |= {name: torch.from_numpy(getattr(sample, name)[:, None]) for name in ("count", "kept")}
        return found | {"flow": torch.from_numpy(sample.flow), "face_px": torch.tensor(sample.face_px)}


class Run:
    """The network, its averaged weights and its optimiser."""

    def __init__(self, recipe: ClipRecipe, start: Path | None):
        self.recipe, self.step, self.position = recipe, 0, 0
        network = build(recipe.model)
        assert isinstance(network, UNetSeveral)
        self.network = network
        if start is not None:
            start_several(network, start)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not recipe.learns or name.split(".")[0] in recipe.learns)
        self.ema = copy.deepcopy(network).requires_grad_(False)
        self.forward = torch.compile(network) if recipe.compile else network
        self.optimiser = torch.optim.Adam(network.parameters(), recipe.lr, recipe.betas)

    def rate(self) -> float:
        """The learning rate of this step."""
        r = self.recipe
        return r.lr * schedule.warmup(self.step, r.warmup_steps) * schedule.cosine(self.step / r.steps, 0.4)

    def learn(self, batch: Batch) -> dict[str, float]:
        """A step for every chunk of the clips in `batch`; the mean of each loss."""
        shown: Tensor | None = None
        totals: dict[str, float] = {}
        frames = batch["low"].shape[1]
        for start in range(0, frames, self.recipe.chunk):
            steps = range(start, min(frames, start + self.recipe.chunk))
            terms, shown = self.chunk(batch, steps, shown)
            loss = sum((getattr(self.recipe.losses, k) * v for k, v in terms.items()), torch.zeros(()))
            finite(loss.item(), self.step, "lower lr or set clip")
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.move()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0) + value.item() * len(steps) / frames
        return totals

    def chunk(self, batch: Batch, steps: range, shown: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """The losses over the frames `steps`, and what is shown after them, without gradient."""
        terms: dict[str, Tensor] = {}
        weights = self.recipe.losses
        for t in steps:
            clean = batch["clean"][:, t]
            ours, error = self.forward(inputs(batch, t)).split((3, 1), 1)
            shown = ours if shown is None else mix(ours, shown, batch["flow"][:, t], batch["kept"][:, t])
            found = {"charbonnier": charbonnier(ours, clean), "bels": bels(ours, clean)}
            found["mixed"] = weights.charbonnier * charbonnier(shown, clean) + weights.bels * bels(shown, clean)
            shown = shown.detach()
            found["likelihood"] = laplace((shown - clean).abs().mean(1, keepdim=True), error)
            for name, value in found.items():
                terms[name] = terms.get(name, torch.zeros(())) + value / len(steps)
        assert shown is not None
        return terms, shown

    def move(self) -> None:
        """Clip, step, average."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        apart = ("error.",)  # the likelihood's gradient is of another size
        others = [p for name, p in self.network.named_parameters() if not name.startswith(apart)]
        nn.utils.clip_grad_norm_(others, self.recipe.clip)
        self.optimiser.step()
        self.step += 1
        decay = min(self.recipe.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "generator": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": [self.step, self.position],
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = checkpoints.read(path, NEEDS)
        checkpoints.fill(self.network, state["generator"], path)
        checkpoints.fill(self.ema, state["ema"], path)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.position = state["progress"]


def inputs(batch: Batch, t: int) -> Tensor:
    """What the network takes for frame `t`, (n, 4, S, S)."""
    return packed(batch["low"][:, t], batch["mean"][:, t], batch["count"][:, t])


def laplace(absolute: Tensor, logarithm: Tensor) -> Tensor:
    """Minus the logarithm of the likelihood of the errors `absolute` under Laplace distributions of mean absolute
    deviation exp(`logarithm`), up to a constant (Kendall and Gal, NeurIPS 2017)."""
    return (absolute * torch.exp(-logarithm) + logarithm).mean()


def start_several(network: UNetSeveral, path: Path) -> None:
    """Fill `network` from a single-frame network or from one of its own kind; what that lacks stays as it is."""
    if path.suffix == ".onnx":
        from train.enhancer.weights import network_of_onnx

        theirs = network_of_onnx(path)[0].state_dict()
    else:
        state = checkpoints.load_weights(path)
        theirs = state.get("ema") or state["generator"]
    checkpoints.fill(network, network.state_dict() | theirs, path)


@torch.inference_mode()
def validate(network: UNetSeveral, batches: list[Batch]) -> tuple[dict[str, float], list[Tensor]]:
    """PSNR gain in dB of what is shown at the first frame, the middle and the last; the likelihood; and samples."""
    gains, likelihood, shown = [], [], []
    for batch in batches:
        result: Tensor | None = None
        for t in range(batch["low"].shape[1]):
            low, clean = batch["low"][:, t], batch["clean"][:, t]
            ours, error = network(inputs(batch, t)).split((3, 1), 1)
            result = ours if result is None else mix(ours, result, batch["flow"][:, t], batch["kept"][:, t])
            ours = result.clamp(0, 1)
            gains.append(psnr(ours, clean) - psnr(low, clean))
            likelihood.append(laplace((ours - clean).abs().mean(1, keepdim=True), error))
        shown.append(torch.cat([low[0], ours[0], clean[0]], 2))
    frames = batches[0]["low"].shape[1]
    found = torch.stack([torch.cat(gains[t::frames]).mean() for t in range(frames)])
    scores = {f"gain_{t}": float(found[t]) for t in (0, len(found) // 2, len(found) - 1)}
    return scores | {"likelihood": float(torch.stack(likelihood).mean())}, shown[:8]


def fit(recipe: ClipRecipe, out: Path, resume: bool = False, start: Path | None = None) -> None:
    """Train `recipe` into `out`: last.pt, losses.csv, samples/."""
    torch.manual_seed(recipe.seed)
    samples = ClipSamples(recipe.data.clips, recipe.data.size)
    unseen = ClipSamples([recipe.data.val_clips], recipe.data.size, False)
    held = Clips(unseen, 0, 0, min(recipe.val_clips, len(unseen)))
    checked = list(DataLoader(held, 4))
    run, last, rounds = Run(recipe, start), out / "last.pt", 0
    if resume:
        run.restore(last)
    out.mkdir(parents=True, exist_ok=True)
    with Journal(out, run.step, every=1) as journal:
        while run.step < recipe.steps:
            data = Clips(samples, recipe.seed, run.position, recipe.batch * recipe.round_batches)
            for batch in DataLoader(data, recipe.batch):
                since = time.monotonic()
                losses = run.learn(batch)
                frames = batch["low"].shape[0] * batch["low"].shape[1]
                journal.step(
                    run.position // len(samples), run.step, losses, run.rate(), frames / (time.monotonic() - since)
                )
                run.position += recipe.batch
            checkpoints.save(run.state(), last)
            rounds += 1
            if rounds % recipe.validate_rounds == 0 or run.step >= recipe.steps:
                journal.validation(run.position // len(samples), run.step, *validate(run.ema, checked))


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder for checkpoints, losses and samples.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe, e.g. lr=1e-4.")
@click.option("--resume", is_flag=True, help="Go on from OUT/last.pt.")
@click.option("--init-from", type=FILE, metavar="WEIGHTS", help="Start from a checkpoint or an exported unet_fast.")
def command(recipe: Path, out: Path, changes: tuple[str, ...], resume: bool, init_from: Path | None) -> None:
    """Train a network that sees several frames by RECIPE, as configs/train/enhancer/05_several_frames.yaml."""
    cv2.setNumThreads(1)
    settings = common.load(ClipRecipe, recipe, changes)
    torch.set_num_threads(settings.threads)
    fit(settings, out, resume, init_from)
