"""The options of the detector's commands, in the order in which a network is made."""

from pathlib import Path

import click

from stream_enhance.errors import InputError
from train.common.command import FILE, Command, refuse_existing

SHIPPED = Path("engines/yolov8n-face.onnx")


@click.command(cls=Command)
@click.argument("folder", type=FILE)
@click.argument("target", type=FILE)
def backgrounds(folder: Path, target: Path) -> None:
    """Convert the panoramas in FOLDER (@pmndrs/assets' hdri) to PNGs in TARGET."""
    from train.detector.data.backgrounds import convert

    click.echo(f"{convert(folder, target)} backgrounds in {target}")


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@click.option("--workers", default=2, show_default=True, help="Processes, one core each.")
def data(recipe: Path, workers: int) -> None:
    """Make the training images of RECIPE; existing ones are kept."""
    from train.detector.data.make import make_all
    from train.detector.recipe import load_recipe

    for name in make_all(load_recipe(recipe), workers):
        click.echo(f"shard {name}")


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder for the checkpoint, losses and images of detections.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe, e.g. learning_rate=1e-4."
)
@click.option("--resume", is_flag=True, help="Go on from OUT/last.pt.")
@click.option("--eval-only", is_flag=True, help="Measure OUT/last.pt on the validation images.")
def train(recipe: Path, out: Path, changes: tuple[str, ...], resume: bool, eval_only: bool) -> None:
    """Train a network by RECIPE, a YAML file as in configs/train/detector."""
    from train.detector.inspection import inspect, validate
    from train.detector.recipe import load_recipe
    from train.detector.trainer import train as fit

    settings = load_recipe(recipe, changes)
    if eval_only:
        click.echo(validate(settings, out))
        return
    click.echo(fit(settings, out, resume))
    inspect(settings, out)


@click.command(cls=Command)
@click.argument("checkpoint", type=FILE)
@click.option("--out", type=FILE, required=True, help="The ONNX file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file where it exists.")
@click.option("--recipe", type=FILE, help="YAML whose `card` and `score_shift` are used instead of the checkpoint's.")
@click.option("--size", default=640, show_default=True, help="Input side where none is asked for, pixels.")
@click.option("--metrics", type=FILE, help="A summary.json of `eval`, for the card.")
def export(checkpoint: Path, out: Path, overwrite: bool, recipe: Path | None, size: int, metrics: Path | None) -> None:
    """Write the network in CHECKPOINT as ONNX with its card; fails if ONNX and torch differ."""
    from train.detector.export import write_onnx
    from train.detector.recipe import load_recipe

    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise InputError(f"{out}: is the checkpoint itself; name another file to write")
    refuse_existing(out, overwrite)
    card = write_onnx(checkpoint, out, load_recipe(recipe) if recipe else None, metrics, size)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {card.metrics['parity']}")


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@click.option("--model", type=FILE, default=SHIPPED, show_default=True, help="The detector, ONNX.")
@click.option("--out", type=FILE, default=Path("runs/detector_eval"), show_default=True, help="Folder for results.")
def calibrate(recipe: Path, model: Path, out: Path) -> None:
    """Find the score at which a network makes as many false alarms as the teacher, on still images."""
    from train.detector.eval.measure import calibrate as find
    from train.detector.recipe import load_recipe

    click.echo(find(load_recipe(recipe), model, out))


@click.command(cls=Command)
@click.argument("recipe", type=FILE)
@click.option("--model", type=FILE, default=SHIPPED, show_default=True, help="The detector, ONNX.")
@click.option("--out", type=FILE, default=Path("runs/detector_eval"), show_default=True, help="Folder for results.")
@click.option("--only", multiple=True, help="A detector to measure; may be given several times (all).")
@click.option("--set", "names", multiple=True, default=("val", "station", "made"), show_default=True)
@click.option("--videos", type=FILE, help="Folder of real clips to measure on too.")
def evaluate(
    recipe: Path, model: Path, out: Path, only: tuple[str, ...], names: tuple[str, ...], videos: Path | None
) -> None:
    """Measure a network beside the teacher, YuNet, NudeNet and Haar, on the data of RECIPE."""
    from train.detector.eval.measure import measure, measure_clips
    from train.detector.recipe import load_recipe

    settings = load_recipe(recipe)
    if videos is not None and not videos.is_dir():
        raise InputError(f"{videos}: no such folder of clips")
    click.echo(measure(settings, model, out, only, names))
    if videos is not None:
        click.echo(measure_clips(settings, model, videos, out))


@click.command(cls=Command)
@click.option("--model", type=FILE, default=SHIPPED, show_default=True, help="The detector, ONNX.")
@click.option(
    "--clips", type=FILE, multiple=True, required=True, help="Folder of the clips; may be given several times."
)
@click.option("--labels", type=FILE, help="Folder of the labels, *.csv (train/detector/eval/labels).")
@click.option("--public", type=FILE, help="ONNX export of the public YOLOv8n-face, to measure beside it.")
@click.option("--yunet", type=FILE, help="YuNet's ONNX file, to measure beside it.")
@click.option("--size", "sizes", type=int, multiple=True, default=(640, 480), show_default=True, help="Input sizes.")
@click.option("--out", type=FILE, default=Path("runs/detector_tracks"), show_default=True, help="Folder for results.")
def evaluate_tracks(
    model: Path,
    clips: tuple[Path, ...],
    labels: Path | None,
    public: Path | None,
    yunet: Path | None,
    sizes: tuple[int, ...],
    out: Path,
) -> None:
    """Measure a network on clips labelled by eye, frame by frame and as tracks."""
    from train.detector.eval.labelled import FOLDER
    from train.detector.eval.on_clips import sessions
    from train.detector.eval.track_measure import measure_tracks

    click.echo(measure_tracks(sessions(model, public, yunet), clips, labels or FOLDER, sizes, out))


@click.command(cls=Command)
@click.argument("model", type=FILE)
@click.option(
    "--clips", type=FILE, multiple=True, required=True, help="Folder of the clips; may be given several times."
)
@click.option("--labels", type=FILE, help="Folder of the labels, *.csv (train/detector/eval/labels).")
@click.option("--size", default=640, show_default=True, help="Input size.")
@click.option("--out", type=FILE, default=Path("runs/detector_tracks"), show_default=True, help="Folder for results.")
def calibrate_scores(model: Path, clips: tuple[Path, ...], labels: Path | None, size: int, out: Path) -> None:
    """Fit how often MODEL's scores are right on clips labelled by eye, and write it into its card."""
    from train.detector.eval.calibration import calibrate_file
    from train.detector.eval.labelled import FOLDER

    click.echo(calibrate_file(model, clips, labels or FOLDER, size, out))
