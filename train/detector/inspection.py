"""How a training run went: figures on the validation images, curves, and images of what was found."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from train.common.images import read_image, write_image
from train.common.journal import read_losses
from train.detector.boxes import read_list, read_yolo
from train.detector.data.batch import Shards
from train.detector.eval import metrics
from train.detector.eval.peers import FLOOR, OVERLAP, Finder, letterbox
from train.detector.eval.report import drawn, sheet
from train.detector.recipe import Recipe
from train.detector.trainer import network_of


def finder(model: nn.Module) -> Finder:
    """The torch network as a `Finder`."""
    from stream_enhance.stages.detect import decode, suppress

    def find(image: np.ndarray, side: int) -> np.ndarray:
        view = letterbox(image, side)
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(view.image.transpose(2, 0, 1)[None])).float() / 255
            return suppress(decode(model(x)[0][0].numpy(), view, FLOOR), OVERLAP)

    return find


def validate(recipe: Recipe, run: Path, side: int = 640) -> str:
    """AP50, AP50-95, recall and point error of the run's network on the validation images, in one line."""
    torch.set_num_threads(recipe.threads)
    find = finder(network_of(run / "last.pt")[0])
    outcomes = []
    for path in read_list(recipe.detect / "val.txt"):
        image = read_image(path)
        truth = read_yolo(recipe.detect / "labels" / f"{path.stem}.txt", image.shape[1], image.shape[0])
        outcomes.append(metrics.judge(find(image, side), truth))
    held = metrics.pool(outcomes)
    figures, ends = metrics.figures(held)["all"], metrics.intervals(held, 200)["all"]
    low, high = ends["ap50"]
    return (
        f"val at {side}: AP50 {figures['ap50']:.3f} ({low:.3f}-{high:.3f}), AP50-95 {figures['ap']:.3f},"
        f" recall at 0.1 false alarms an image {figures['recall']:.3f}, {len(outcomes)} images"
    )


def inspect(recipe: Recipe, run: Path) -> None:
    """Write `curves.png` and `found.jpg` (training images with what the network finds) into the run's folder."""
    curves(run)
    find = finder(network_of(run / "last.pt")[0])
    shards = Shards(recipe.cache, recipe.stages[-1].side)
    images = []
    for number in np.linspace(0, len(shards) - 1, 16).astype(int):
        s, i = shards.index[number]
        image = np.array(shards.shards[s][0][i])
        images.append(drawn(image, find(image, shards.side), 0.3))
    write_image(run / "found.jpg", sheet(images, 4, 320))


def curves(run: Path) -> None:
    """The losses over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    losses = read_losses(run / "losses.csv")
    names = [name for name in losses if name.endswith("_loss") or name == "teacher"]
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 2.6))
    for axis, name in zip(axes, names, strict=True):
        axis.plot([step for step, _ in losses[name]], [value for _, value in losses[name]])
        axis.set_title(name, fontsize=9)
    figure.tight_layout()
    figure.savefig(run / "curves.png", dpi=90)
    plt.close(figure)
