"""The networks of a recipe, their optimisers, and the state from which a stopped run goes on."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stream_enhance.errors import ConfigError
from train.common import checkpoints, schedule
from train.common.command import finite
from train.enhancer.losses import LOSSES, adversarial, channels_last, open_frozen, psnr
from train.enhancer.models import Discriminator, build, set_requires_grad
from train.enhancer.recipe import Recipe
from train.enhancer.weights import start_from


@dataclass
class World:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Trainer:
    """The networks, their optimisers and their progress; `state` and `restore` are each other's inverse."""

    def __init__(self, recipe: Recipe, world: World, steps_per_epoch: int, start: Path | None = None):
        self.recipe, self.world, self.steps_per_epoch = recipe, world, steps_per_epoch
        self.epoch, self.step, self.position, self.best, self.since_best = 0, 0, 0, math.inf, 0
        self.limit: schedule.Limit | None = None
        self.generator = channels_last(build(recipe.model), world.device)
        if start is not None:
            start_from(self.generator, start)
        self.discriminator: nn.Module | None = None
        if recipe.losses.adversarial:
            self.discriminator = Discriminator(recipe.discriminator_channels).to(world.device)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False) if recipe.optimiser.ema else None
        self.losses = {name: loss for name, loss in LOSSES.items() if getattr(recipe.losses, name)}
        paths = (recipe.vgg, recipe.lpips_heads, recipe.embedder)
        self.frozen = open_frozen(list(self.losses.values()), *paths, recipe.data.size, world.device)
        self.make_optimisers()
        self.apply_freezing()

    def make_optimisers(self) -> None:
        """Adam for each network, and the schedule; a stacked refinement may learn faster than its base."""
        o = self.recipe.optimiser
        base, refine = (getattr(self.generator, part, None) for part in ("base", "refine"))
        groups: list[dict[str, Any]] = [{"params": list(self.generator.parameters()), "lr": o.lr}]
        if o.base_lr is not None and base is not None and refine is not None:
            groups = [{"params": list(base.parameters()), "lr": o.base_lr}]
            groups.append({"params": list(refine.parameters()), "lr": o.lr})
        self.optimisers = [torch.optim.Adam(groups, betas=o.betas)]
        if self.discriminator is not None:
            self.optimisers.append(torch.optim.Adam(self.discriminator.parameters(), o.discriminator_lr, o.betas))
        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(each, self.rate) for each in self.optimisers]
        on_cuda = self.world.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.world.device.type, enabled=self.recipe.precision == "fp16" and on_cuda)

    def rate(self, step: int) -> float:
        """The factor on the learning rates at an optimiser step."""
        o, total = self.recipe.optimiser, self.recipe.epochs * self.steps_per_epoch
        warm = schedule.warmup(step, o.warmup_steps) * (self.limit.factor() if self.limit else 1.0)
        match o.schedule:
            case "step":
                return warm * float(o.gamma ** (step // (o.step_epochs * self.steps_per_epoch)))
            case "cosine":
                return warm * schedule.cosine(step / total)
            case "trapezoid":
                return warm * schedule.cosine(step / total, o.fall)
            case "constant":
                return warm

    def apply_freezing(self) -> None:
        """Freeze what the recipe freezes at this epoch, free the rest, and wrap the networks again for several GPUs."""
        set_requires_grad(self.generator, True)
        if self.recipe.train_only == "refinement":
            set_requires_grad(self.generator, False)
            set_requires_grad(getattr(self.generator, "refine", None) or nn.Identity(), True)
        if not self.recipe.freeze_epochs or self.epoch < self.recipe.freeze_epochs:
            for name in self.recipe.freeze:
                set_requires_grad(level(self.generator, name), False)
        self.forward = torch.compile(self.generator) if self.recipe.compile else self.generator
        self.judge = self.discriminator
        if self.world.size > 1:
            devices = [self.world.device.index] if self.world.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.forward, devices)
            if self.discriminator is not None:
                self.judge = DistributedDataParallel(self.discriminator, devices)

    def autocast(self) -> torch.autocast:
        """Mixed precision as the recipe has it."""
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.recipe.precision]
        return torch.autocast(self.world.device.type, kind, enabled=self.recipe.precision != "fp32")

    def terms(self, ours: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Every loss of the generator that the recipe weighs, each by itself, before its weight."""
        few = slice(self.recipe.costly_images or None)
        some = (ours[few], target[few])
        wanted = any(loss.sees == "crops" for loss in self.losses.values())
        crops = self.crops(*some) if wanted and self.step % self.recipe.perceptual_every == 0 else None
        terms: dict[str, Tensor] = {}
        for name, loss in self.losses.items():
            match loss.sees:
                case "image":
                    terms[name] = loss.value(ours, target, self.frozen)
                case "some":
                    terms[name] = loss.value(*some, self.frozen)
                case "crops" if crops is not None:
                    with self.autocast():
                        terms[name] = loss.value(*crops, self.frozen)
        return terms

    def crops(self, ours: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same random square of both, another for each image; whole images where the recipe does not crop."""
        side, full = self.recipe.perceptual_crop, ours.shape[-1]
        if not side or side >= full:
            return ours, target
        corners = torch.randint(0, full - side + 1, (len(ours), 2)).tolist()
        a, b = (
            torch.stack([p[:, y : y + side, x : x + side] for p, (y, x) in zip(images, corners, strict=True)])
            for images in (ours, target)
        )
        return a, b

    def learn(self, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """One step of each optimiser over `batches` (gradient accumulation); every loss term's mean."""
        totals = self.backward(batches)
        self.move()
        return totals

    def backward(self, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Add the gradients of the mean loss over `batches`; every loss term's mean. Raises LossNotFinite."""
        totals: dict[str, float] = {}
        for low, target in batches:
            low = low.to(self.world.device, memory_format=torch.channels_last)
            target = target.to(self.world.device, memory_format=torch.channels_last)
            with self.autocast():
                ours = self.forward(low)
            ours = ours.float()
            if self.judge is not None:
                set_requires_grad(self.judge, True)
                with self.autocast():
                    real = adversarial(self.judge(low, target), True, self.recipe.adversarial)
                    fake = adversarial(self.judge(low, ours.detach()), False, self.recipe.adversarial)
                both = 0.5 * (real + fake)
                self.scaler.scale(both / len(batches)).backward()
                totals["discriminator"] = totals.get("discriminator", 0) + both.item() / len(batches)
                set_requires_grad(self.judge, False)
            terms = self.terms(ours, target)
            if self.judge is not None:
                with self.autocast():
                    terms["adversarial"] = adversarial(self.judge(low, ours), True, self.recipe.adversarial)
            loss = sum((getattr(self.recipe.losses, k) * v for k, v in terms.items()), torch.zeros(()))
            finite(loss.item(), self.step, "lower optimiser.lr or set optimiser.clip")
            self.scaler.scale(loss / len(batches)).backward()
            for name, value in terms.items():
                totals[name] = totals.get(name, 0) + value.item() / len(batches)
            totals["total"] = totals.get("total", 0) + loss.item() / len(batches)
        return totals

    def move(self) -> None:
        """Clip, step, schedule, average."""
        for optimiser, scheduler in zip(self.optimisers, self.schedulers, strict=True):
            if self.recipe.optimiser.clip:
                self.scaler.unscale_(optimiser)
                weights = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
                nn.utils.clip_grad_norm_(weights, self.recipe.optimiser.clip)
            self.scaler.step(optimiser)
            optimiser.zero_grad(set_to_none=True)
            scheduler.step()
        self.scaler.update()
        self.step += 1
        if self.ema is not None:
            decay = min(self.recipe.optimiser.ema, (1 + self.step) / (10 + self.step))
            for mean, now in zip(self.ema.state_dict().values(), self.generator.state_dict().values(), strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - decay)
                else:
                    mean.copy_(now)

    @torch.no_grad()
    def validate(self, pairs: list[tuple[Tensor, Tensor]]) -> tuple[dict[str, float], list[Tensor]]:
        """Mean PSNR and weighted loss (without the adversary) over `pairs`; a few (3, S, 3S) input|output|target."""
        network = (self.ema or self.generator).eval()
        sums = {"val_psnr": 0.0, "val_psnr_input": 0.0, "val_loss": 0.0}
        shown: list[Tensor] = []
        state, self.step = self.step, 0  # so that no term is skipped
        randomness = torch.get_rng_state()
        torch.manual_seed(0)
        for low, target in pairs:
            low, target = (t[None].to(self.world.device, memory_format=torch.channels_last) for t in (low, target))
            with self.autocast():
                ours = network(low)
            ours = ours.float().clamp(0, 1)
            terms = self.terms(ours, target)
            sums["val_loss"] += float(sum(getattr(self.recipe.losses, k) * v for k, v in terms.items()))
            sums["val_psnr"] += float(psnr(ours, target).mean())
            sums["val_psnr_input"] += float(psnr(low[:, :3], target).mean())
            if len(shown) < 8:
                shown.append(torch.cat([low[0, :3], ours[0], target[0]], 2).cpu())
        self.step = state
        torch.set_rng_state(randomness)
        self.generator.train()
        return {key: value / len(pairs) for key, value in sums.items()}, shown

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had never stopped: tensors and plain values."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "generator": self.generator.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "discriminator": None if self.discriminator is None else self.discriminator.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "schedulers": [{"last_epoch": each.last_epoch} for each in self.schedulers],
            "scaler": self.scaler.state_dict(),
            "progress": [self.epoch, self.step, self.position, self.best, self.since_best],
            "random": checkpoints.random_state(),
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from `state`. Raises ModelError where it is of another architecture."""
        checkpoints.fill(self.generator, state["generator"], path)
        if self.ema is not None and state["ema"] is not None:
            checkpoints.fill(self.ema, state["ema"], path)
        if self.discriminator is not None:
            checkpoints.fill(self.discriminator, state["discriminator"] or {}, path)
        self.epoch, self.step, self.position, self.best, self.since_best = state["progress"]
        self.make_optimisers()
        for optimiser, scheduler, old, when in zip(
            self.optimisers, self.schedulers, state["optimisers"], state["schedulers"], strict=True
        ):
            optimiser.load_state_dict(old)
            scheduler.last_epoch = when["last_epoch"]
        self.scaler.load_state_dict(state["scaler"])
        self.apply_freezing()
        checkpoints.set_random_state(state["random"])


def level(network: nn.Module, name: str) -> nn.Module:
    """The block that a recipe calls down1, up3 ... (counted from 1), or the network's own part of that name."""
    holder = getattr(network, "base", network)
    word, number = name.rstrip("0123456789"), name[len(name.rstrip("0123456789")) :]
    part = getattr(holder, word, None)
    if number and isinstance(part, nn.ModuleList) and 1 <= int(number) <= len(part):
        return part[int(number) - 1]
    if not number and isinstance(part, nn.Module):
        return part
    raise ConfigError(f"freeze: {name} is no part of {type(network).__name__}; try down1")
