"""Our own face detector: `python -m train.detector [backgrounds | data | train | calibrate | export | eval]`; by itself
it trains.

`backgrounds` and `data` make the training images, `train` trains by the recipe (`--resume` goes on, `--eval-only`
measures the run's last checkpoint on the validation images), `export` writes the ONNX with its card, `calibrate`
finds how its scores ought to be shifted, `eval` measures it beside others.
"""

import sys
from pathlib import Path

import click

from stream_enhance.errors import StreamEnhanceError

RECIPE = "configs/train/detector/01_first.yaml"
recipe_option = click.option("--recipe", default=RECIPE, show_default=True, type=click.Path(path_type=Path))
run_option = click.option("--run", default="runs/detector", show_default=True, type=click.Path(path_type=Path))


class WithDefault(click.Group):
    """A group whose default word is `train`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["train", *args]
        return super().parse_args(ctx, args)


@click.group(cls=WithDefault)
def cli() -> None:
    """Train, export and measure the face detector."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def backgrounds(folder: Path, target: Path) -> None:
    """Turn the panoramas in FOLDER (@pmndrs/assets' hdri) into PNGs in TARGET."""
    from train.detector.data.backgrounds import convert

    click.echo(f"{convert(folder, target)} backgrounds in {target}")


@cli.command()
@recipe_option
@click.option("--workers", default=2, show_default=True, help="processes, one core each")
def data(recipe: Path, workers: int) -> None:
    """Make the training images; what is there already is kept."""
    from train.detector.data.make import make_all
    from train.detector.recipe import load_recipe

    for name in make_all(load_recipe(recipe), workers):
        click.echo(f"shard {name}")


@cli.command()
@recipe_option
@run_option
@click.option("--resume", is_flag=True, help="go on from the run's last checkpoint")
@click.option("--eval-only", is_flag=True, help="measure the last checkpoint on the validation images")
def train(recipe: Path, run: Path, resume: bool, eval_only: bool) -> None:
    """Train by the recipe; checkpoints, curves and images of detections land in the run's folder."""
    from train.detector.recipe import load_recipe

    if eval_only:
        from train.detector.inspection import validate

        click.echo(validate(load_recipe(recipe), run))
        return
    from train.detector.inspection import look
    from train.detector.trainer import train as learn

    click.echo(learn(load_recipe(recipe), run, resume))
    look(load_recipe(recipe), run)


@cli.command()
@recipe_option
@run_option
@click.option("--out", default="engines/yolov8n-face.onnx", show_default=True, type=click.Path(path_type=Path))
@click.option("--size", default=640, show_default=True, help="the side used where none is asked for, pixels")
@click.option("--metrics", type=click.Path(path_type=Path, exists=True), help="JSON for the card")
def export(recipe: Path, run: Path, out: Path, size: int, metrics: Path | None) -> None:
    """Write the run's network as ONNX with its card; fails if ONNX and torch differ."""
    from train.detector.commands import write_onnx
    from train.detector.recipe import load_recipe

    card = write_onnx(load_recipe(recipe), run, out, out.stem, size, metrics)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {card.metrics['parity']}")


@cli.command(name="eval")
@recipe_option
@click.option("--network", default="engines/yolov8n-face.onnx", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="runs/detector_eval", show_default=True, type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="a detector; may be given several times")
@click.option("--set", "names", multiple=True, default=("val", "station", "made"), show_default=True)
@click.option("--videos", type=click.Path(path_type=Path, exists=True), help="folder of real clips to measure on too")
def evaluate(
    recipe: Path, network: Path, out: Path, only: tuple[str, ...], names: tuple[str, ...], videos: Path | None
) -> None:
    """Measure the network beside the teacher, YuNet, NudeNet and Haar."""
    from train.detector.commands import measure, measure_clips
    from train.detector.recipe import load_recipe

    settings = load_recipe(recipe)
    click.echo(measure(settings, network, out, only, names))
    if videos is not None:
        click.echo(measure_clips(settings, network, videos, out))


@cli.command()
@recipe_option
@click.option("--network", default="engines/yolov8n-face.onnx", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="runs/detector_eval", show_default=True, type=click.Path(path_type=Path))
def calibrate(recipe: Path, network: Path, out: Path) -> None:
    """The score at which the network makes as many false alarms as the teacher, on images that are no clips."""
    from train.detector.commands import calibrate as find
    from train.detector.recipe import load_recipe

    click.echo(find(load_recipe(recipe), network, out))


def main() -> None:
    """The command line: one clear line and exit code 2 for what the user can mend."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except StreamEnhanceError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
