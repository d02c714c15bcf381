"""Quality against milliseconds: the same short training of several shapes of network, side by side.

`python -m train.enhancer.frontier configs/train/enhancer/unet_frontier.yaml --out DIR
--variant NAME KEY=VALUE ... --variant ...`

Each variant is the recipe with its changes, trained for as many looks as the recipe says, exported, and timed in
onnxruntime, alternately, so that all see the same machine. Quality is judged at 256 pixels whatever a variant's own
size, on the half of the held-out people that choices are made by. Writes DIR/frontier.md; a second call goes on where
the first was stopped.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_enhance.backends.card import Card
from stream_enhance.errors import ConfigError, InputError
from train.common.checkpoints import network_of
from train.common.command import ended
from train.enhancer.data import half_of
from train.enhancer.evaluate import interval
from train.enhancer.export import commit, export
from train.enhancer.metrics import psnr
from train.enhancer.recipe import Recipe, load
from train.enhancer.shards import ShardPairs
from train.enhancer.train import fit

SIDE = 256  # pixels: the patch on which quality is judged


@dataclass(frozen=True)
class Shape:
    """One variant, trained and measured."""

    name: str
    weights: int
    ms: float  # p50 of one face
    gain: NDArray[np.float64]  # (faces,) dB over the input


def trained(recipe: Recipe, out: Path) -> tuple[Path, int]:
    """Train `recipe` in `out`, or go on where that stopped; the exported file, and how many weights it has."""
    fit(recipe, out, resume=(out / "last.pt").exists())
    network, _ = network_of(out / "last.pt")
    card = Card(
        name=recipe.name,
        task="face-enhancement",
        size=recipe.data.size,
        alignment="five-points",
        points=5,
        license="AGPL-3.0-or-later",
        data="a trial of a few looks, for comparison only",
        recipe=recipe.name,
        commit=commit(),
        weights_sha256="",
    )
    export(network, out / "net.onnx", card, "fp32")
    return out / "net.onnx", sum(p.numel() for p in network.parameters())


def gains(path: Path, shards: Path, size: int, limit: int) -> NDArray[np.float64]:
    """(faces,) PSNR in dB over the input's, at SIDE pixels, of up to `limit` frames of the choosing half."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    own, full = ShardPairs(shards, size, augment=False), ShardPairs(shards, SIDE, augment=False)
    people = [full.images[0][int(k)]["person"] for k in full.table["image"]]
    chosen = [k for k, person in enumerate(people) if half_of(person) == 0][:limit]
    if not chosen:
        raise InputError(f"{shards}: shows nobody of the half that choices are made by")
    found = []
    for index in chosen:
        pair, small = full.pair(index, np.random.default_rng(0)), own.pair(index, np.random.default_rng(0)).low
        x = small.transpose(2, 0, 1)[None].astype(np.float32) / 255
        ours = np.clip(session.run(None, {"input": x})[0][0].transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
        large = cv2.resize(ours, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        found.append(psnr(large, pair.clean) - psnr(pair.low, pair.clean))
    return np.array(found)


def timed(files: Mapping[str, tuple[Path, int]], threads: int, rounds: int) -> dict[str, float]:
    """Milliseconds a face (p50 of `rounds`) of each file, (path, side); every round asks each file once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    runs = {}
    for name, (path, size) in files.items():
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        runs[name] = (session, {"input": np.random.default_rng(0).random((1, 3, size, size), np.float32)})
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 5):  # the first five warm up
        for name, (session, x) in runs.items():
            start = time.perf_counter()
            session.run(None, x)
            if turn >= 5:
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in taken.items()}


def table(shapes: Sequence[Shape]) -> str:
    """The shapes as Markdown, each beside the first one."""
    first = shapes[0]
    lines = [
        "| variant | weights | ms a face | PSNR gain, dB | beside the first, dB |",
        "|---|---|---|---|---|",
    ]
    for shape in shapes:
        beside = "" if shape is first else within(shape.gain - first.gain)
        millions = f"{shape.weights / 1e6:.2f} M"
        lines.append(f"| {shape.name} | {millions} | {shape.ms:.1f} | {within(shape.gain)} | {beside} |")
    return "\n".join(lines) + "\n"


def within(values: NDArray[np.float64]) -> str:
    """The mean and its 95 % interval."""
    low, high = interval(values) or (np.nan, np.nan)
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 where what was given cannot be used, or 1 where a run failed."""
    parser = argparse.ArgumentParser(prog="python -m train.enhancer.frontier", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="YAML, see configs/train/enhancer/unet_frontier.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--variant", nargs="+", action="append", required=True, metavar="NAME KEY=VALUE", help="a name and its changes"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe for all")
    parser.add_argument("--threads", type=int, default=2, help="of onnxruntime, where it is timed")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--faces", type=int, default=100, help="at most so many frames to judge by")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    cv2.setNumThreads(1)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """What the command line asks for."""
    recipes = {name: load(given.recipe, [*given.set, *changes]) for name, *changes in given.variant}
    if len(recipes) < len(given.variant):
        raise ConfigError("--variant: two variants have one name")
    files, weights, faces = {}, {}, {}
    for name, recipe in recipes.items():
        if recipe.data.val_shards is None:
            raise ConfigError("data.val_shards: the variants are judged by shards of held-out people; name them")
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        path, weights[name] = trained(recipe, given.out / name)
        files[name] = (path, recipe.data.size)
        faces[name] = gains(path, recipe.data.val_shards, recipe.data.size, given.faces)
    ms = timed(files, given.threads, given.rounds)
    text = table([Shape(name, weights[name], ms[name], faces[name]) for name in recipes])
    (given.out / "frontier.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
