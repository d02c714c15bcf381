"""Looking at a training run: figures on the validation pictures, curves, and pictures of what was found."""

import csv
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from train import detector_metrics as metrics
from train.boxes import read_list, read_picture, read_yolo
from train.detector_batch import Shards
from train.detector_peers import FLOOR, OVERLAP, Finder, letterbox
from train.detector_recipe import Recipe
from train.detector_report import drawn, sheet
from train.detector_start import build
from train.detector_train import read_checkpoint


def trained(recipe: Recipe, run: Path) -> nn.Module:
    """The run's network: the running mean of its weights. Raises InputError where there is no checkpoint."""
    model = build(recipe.network, dict(recipe.gains))
    model.load_state_dict(read_checkpoint(run / "last.pt", None)["average"])
    return model.eval()


def finder(model: nn.Module) -> Finder:
    """The torch network as a `Finder`."""
    from stream_enhance.detect import decode, suppress

    def find(picture: np.ndarray, side: int) -> np.ndarray:
        view = letterbox(picture, side)
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(view.image.transpose(2, 0, 1)[None])).float() / 255
            return suppress(decode(model(x)[0][0].numpy(), view, FLOOR), OVERLAP)

    return find


def validate(recipe: Recipe, run: Path, side: int = 640) -> str:
    """AP50, AP50-95, recall and point error of the run's network on the validation pictures, in one line."""
    torch.set_num_threads(recipe.threads)
    find = finder(trained(recipe, run))
    outcomes = []
    for path in read_list(recipe.detect / "val.txt"):
        picture = read_picture(path)
        truth = read_yolo(recipe.detect / "labels" / f"{path.stem}.txt", picture.shape[1], picture.shape[0])
        outcomes.append(metrics.judge(find(picture, side), truth))
    held = metrics.pool(outcomes)
    figures, ends = metrics.figures(held)["all"], metrics.intervals(held, 200)["all"]
    low, high = ends["ap50"]
    return (
        f"val at {side}: AP50 {figures['ap50']:.3f} ({low:.3f}-{high:.3f}), AP50-95 {figures['ap']:.3f},"
        f" recall at 0.1 false alarms a picture {figures['recall']:.3f}, {len(outcomes)} pictures"
    )


def look(recipe: Recipe, run: Path) -> None:
    """Write `curves.png` and `found.jpg` (training pictures with what the network finds) into the run's folder."""
    curves(run)
    find = finder(trained(recipe, run))
    shards = Shards(recipe.cache, recipe.stages[-1].side)
    pictures = []
    for number in np.linspace(0, len(shards) - 1, 16).astype(int):
        s, i = shards.index[number]
        picture = np.array(shards.shards[s][0][i])
        pictures.append(drawn(picture, find(picture, shards.side), 0.3))
    cv2.imwrite(str(run / "found.jpg"), sheet(pictures, 4, 320)[:, :, ::-1])


def curves(run: Path) -> None:
    """The losses over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.endswith("_loss") or name == "teacher"]
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 2.6))
    for axis, name in zip(axes, names, strict=True):
        axis.plot([int(row["step"]) for row in rows], [float(row[name]) for row in rows])
        axis.set_title(name, fontsize=9)
    figure.tight_layout()
    figure.savefig(run / "curves.png", dpi=90)
    plt.close(figure)
