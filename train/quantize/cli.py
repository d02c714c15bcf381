"""The commands: `python -m train.quantize enhancer` and `... detector`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from stream_enhance.backends.precision import sibling
from train.common.command import FILE, Command, refuse_existing, run

RECIPE = Path("configs/train/detector/08_crowd.yaml")  # names the images, and the people and places of made scenes
CLIPS = Path("../shared/data/more/cctv_clips")
METHODS = ("minmax", "percentile", "entropy")
DETECTOR, ENHANCER = Path("engines/yolov8n-face.onnx"), Path("engines/unet.onnx")

cli = click.Group(
    name="quantize",
    help="Make the 8-bit file beside a network's fp32 file; run it again whenever that file changes.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def options(model: Path) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that both commands have."""

    def added(function: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--model", type=FILE, default=model, show_default=True, help="The fp32 file."),
            click.option("--out", type=FILE, help="The 8-bit file to write (MODEL with .int8.onnx)."),
            click.option("--overwrite", is_flag=True, help="Replace it where it exists."),
            click.option("--recipe", type=FILE, default=RECIPE, show_default=True, help="Names the training images."),
            click.option("--clips", type=FILE, default=CLIPS, show_default=True, help="Folder of surveillance clips."),
            click.option(
                "--method",
                "methods",
                multiple=True,
                type=click.Choice(METHODS),
                default=METHODS,
                show_default=True,
                help="How ranges are chosen; of several, the one with the least error is taken.",
            ),
        ):
            function = option(function)
        return function

    return added


@cli.command("enhancer", cls=Command)
@options(ENHANCER)
@click.option("--detector", type=FILE, default=DETECTOR, show_default=True, help="Finds the faces in the clips.")
def enhancer(
    model: Path, out: Path | None, overwrite: bool, recipe: Path, clips: Path, methods: tuple[Any, ...], detector: Path
) -> None:
    """Quantise the enhancer."""
    from stream_enhance.backends.card import read_card
    from train.detector.recipe import load_recipe
    from train.quantize.make import ENHANCER as plan
    from train.quantize.make import make
    from train.quantize.material import patches_for_enhancer

    target = out or sibling(model)
    refuse_existing(target, overwrite)
    material = patches_for_enhancer(load_recipe(recipe).faces, clips, detector, read_card(model).size)
    card = make(model, target, material, plan, methods, click.echo)
    click.echo(f"{target}: {card.metrics['int8']}")


@cli.command("detector", cls=Command)
@options(DETECTOR)
def detector(
    model: Path, out: Path | None, overwrite: bool, recipe: Path, clips: Path, methods: tuple[Any, ...]
) -> None:
    """Quantise the detector."""
    from train.detector.recipe import load_recipe
    from train.quantize.make import DETECTOR as plan
    from train.quantize.make import make
    from train.quantize.material import frames_for_detector

    target = out or sibling(model)
    refuse_existing(target, overwrite)
    material = frames_for_detector(load_recipe(recipe), clips, model)
    card = make(model, target, material, plan, methods, click.echo)
    click.echo(f"{target}: {card.metrics['int8']}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 the file would differ, 2 what was given cannot be used, 130 interrupted."""
    return run(cli, list(sys.argv[1:] if arguments is None else arguments), "python -m train.quantize")
