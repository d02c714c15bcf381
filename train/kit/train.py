"""Trains in the kit's folder for some minutes; `sh run.sh train` and `sh run.sh detect` come here.

The enhancer: all cores film the faces into shards for a while, then the network learns from them until the time is
over. What goes home is a small checkpoint (`train.kit.checkpoint`), the losses and the network as ONNX. The next call
goes on from that checkpoint on a machine that knows nothing of the first, with newly filmed faces.
"""

import itertools
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import cv2
import torch

from stream_enhance.config import read_yaml
from stream_enhance.errors import InputError
from train.common import checkpoints
from train.common.command import FILE, Command
from train.common.schedule import Limit
from train.degrade import DEFAULT
from train.enhancer.cli import main as enhancer
from train.enhancer.data import Portrait, read_index, split
from train.enhancer.recipe import load
from train.enhancer.shards import write_images, write_shard
from train.enhancer.train import fit, open_world
from train.kit.checkpoint import grow, slim

SENSOR = 0.5  # share of the frames by train.degrade_sensor, the second kind of camera
HOME = 20  # seconds at the end, for the checkpoint and the export


@dataclass(frozen=True)
class Filming:
    """One folder's faces and the folder of shards that they are filmed into."""

    portraits: list[Portrait]
    out: Path


def plan_filming(folders: Sequence[Path], out: Path) -> tuple[list[Filming], Filming]:
    """What to film to learn from, in turn, and to validate on: a tenth of the people of the first folder."""
    unseen = split(read_index(folders[0]))[1]
    hidden = {portrait.person for portrait in unseen}
    once = {
        folder: Filming([p for p in read_index(folder) if p.person not in hidden], out / folder.name)
        for folder in dict.fromkeys(folders)
    }
    return [once[folder] for folder in folders], Filming(unseen, out / "val")


def film(turns: Sequence[Filming], val: Filming, seconds: float, frames: int, seed: int, cores: int) -> int:
    """Shards of `frames` frames from each of `turns` in turn, at least one each, for `seconds`; how many in all."""
    for each in {each.out: each for each in [*turns, val]}.values():
        each.out.mkdir(parents=True, exist_ok=True)
        write_images(each.portraits, each.out)
    until = time.monotonic() + seconds
    tasks: Iterator[tuple[int, Filming]] = enumerate(itertools.chain([val], itertools.cycle(turns)))
    waiting: set[Future[None]] = set()
    begun = 0
    # spawned, since a fork of a process that holds a GPU may hang
    with ProcessPoolExecutor(cores, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        while begun <= len(turns) or time.monotonic() < until:
            number, each = next(tasks)
            waiting.add(pool.submit(write_shard, each.portraits, each.out, number, frames, seed, DEFAULT, SENSOR))
            begun += 1
            if len(waiting) >= 2 * cores:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        for future in waiting:
            future.result()
    return begun


def resumed(checkpoint: Path, last: Path) -> int:
    """Put the small `checkpoint` where the trainer looks for its own; the step that it is of."""
    state = grow(checkpoints.read(checkpoint))
    last.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(state, last)
    return int(state["progress"][1] if "progress" in state else state["step"])


def take_home(run: Path, out: Path) -> Path:
    """The small checkpoint of the run and its losses, in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoints.save(slim(checkpoints.read(run / "last.pt")), out / "kit.pt")
    shutil.copy(run / "losses.csv", out / "losses.csv")
    return out / "kit.pt"


@click.command(cls=Command)
@click.option("--minutes", type=float, default=8.5, show_default=True, help="Of the whole call, filming included.")
@click.option("--out", type=FILE, required=True, help="Folder for kit.pt, losses.csv and unet.onnx.")
@click.option("--resume", type=FILE, metavar="CHECKPOINT", help="Go on from the kit.pt of an earlier call.")
@click.option("--last", is_flag=True, help="The last call: the rate falls to nothing over its last third.")
@click.option("--film-seconds", type=float, default=75, show_default=True, help="Of the time, for filming faces.")
@click.option("--frames", type=int, default=200, show_default=True, help="Frames a shard.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe, e.g. batch=64.")
def command(
    minutes: float,
    out: Path,
    resume: Path | None,
    last: bool,
    film_seconds: float,
    frames: int,
    changes: tuple[str, ...],
) -> None:
    """Train the enhancer by the kit's enhancer.yaml for some minutes."""
    began = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    plan = read_plan(Path("plan.yaml"))
    run, shards = Path("runs/enhancer"), Path("runs/shards")
    step = resumed(resume, run / "last.pt") if resume else 0
    shutil.rmtree(shards, ignore_errors=True)
    turns, val = plan_filming([Path(folder) for folder in plan["faces"]], shards)
    count = film(turns, val, film_seconds, frames, step, cores)
    click.echo(f"filmed {count * frames} frames on {cores} cores in {time.monotonic() - began:.0f} s")
    folders = ", ".join(dict.fromkeys(str(each.out) for each in turns))
    data = [f"data.shards=[{folders}]", f"data.val_shards={val.out}", f"data.workers={cores if cores > 4 else 0}"]
    recipe = load(Path("enhancer.yaml"), [*data, *changes])
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    until = began + 60 * minutes - min(HOME, 6 * minutes)
    limit = Limit(until, (until - time.monotonic()) / 3 if last else 0)
    start = Path(plan["start"]) if plan["start"] and not resume else None
    trainer = fit(recipe, run, resume is not None, start, open_world(), limit)
    kept = take_home(run, out)
    click.echo(f"{kept}: step {trainer.step}, {kept.stat().st_size / 1e6:.1f} MB")
    code = enhancer(["export", str(run / "last.pt"), "--out", str(out / "unet.onnx"), "--overwrite"])
    if code:
        raise InputError(f"{out / 'unet.onnx'}: the export failed; see above")


@click.command(cls=Command)
@click.option("--minutes", type=float, default=8.5, show_default=True, help="Of the whole call.")
@click.option("--out", type=FILE, required=True, help="Folder for kit.pt and losses.csv.")
@click.option("--resume", type=FILE, metavar="CHECKPOINT", help="Go on from the kit.pt of an earlier call.")
@click.option("--last", is_flag=True, help="The last call: the rate falls to nothing over its last third.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe, e.g. threads=8.")
def detect_command(minutes: float, out: Path, resume: Path | None, last: bool, changes: tuple[str, ...]) -> None:
    """Train the detector by the kit's detector.yaml: make its images on all cores, then learn in bfloat16."""
    from train.detector.data.make import make_all
    from train.detector.recipe import load_recipe
    from train.detector.trainer import train

    began = time.monotonic()
    recipe = load_recipe(Path("detector.yaml"), changes)
    run = Path("runs/detector")
    if resume:
        resumed(resume, run / "last.pt")
    count = sum(1 for _ in make_all(recipe, len(os.sched_getaffinity(0))))
    click.echo(f"{count} shards after {time.monotonic() - began:.0f} s")
    until = began + 60 * minutes - min(HOME, 6 * minutes)
    train(recipe, run, resume is not None, Limit(until, (until - time.monotonic()) / 3 if last else 0))
    kept = take_home(run, out)
    click.echo(f"{kept}: {kept.stat().st_size / 1e6:.1f} MB; export it with `python -m train.detector export`")


def read_plan(path: Path) -> dict[str, Any]:
    """The kit's plan: `faces`, folders in turn, and `start`, a file or nothing. Raises InputError outside a kit."""
    if not path.is_file():
        raise InputError("no plan.yaml here; run `sh run.sh` of a kit that was packed with --faces")
    return read_yaml(path)
