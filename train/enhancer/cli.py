"""The enhancer's commands: `python -m train.enhancer COMMAND`."""

import sys
from collections.abc import Sequence

from train.common.command import Commands, run

PLACES = {
    "gather": ("train.enhancer.gather", "Collect good faces from images and videos."),
    "people": ("train.enhancer.people", "Find which images show one person."),
    "shards": ("train.enhancer.shards", "Degrade good faces once, for training to read."),
    "clips": ("train.enhancer.clips", "Film good faces over several frames, for a network that sees them all."),
    "train": ("train.enhancer.train", "Train a network by a recipe."),
    "train-clips": ("train.enhancer.train_clips", "Train a network that sees several frames."),
    "adapt": ("train.enhancer.adapt", "Adapt a network to one site's face crops."),
    "export": ("train.enhancer.export", "Write a network as ONNX with its card."),
    "evaluate": ("train.enhancer.evaluate", "Measure enhancers on faces that they never saw."),
    "non-faces": ("train.enhancer.non_faces", "Cut squares without a face, to train and to measure on."),
    "occlude": ("train.enhancer.occlude", "Put masks, hands and other things before good faces."),
    "film": ("train.enhancer.film", "Film held-out faces with a second camera."),
    "fidelity": ("train.enhancer.fidelity", "Measure whether enhanced faces are nearer to the person."),
    "fidelity-clips": ("train.enhancer.fidelity_clips", "Measure what several frames give over one."),
    "report": ("train.enhancer.report", "Make tables and a page of measurements."),
    "real": ("train.enhancer.real", "Measure an enhancer on real poor faces, without a truth."),
    "explain": ("train.enhancer.explain", "Show what in the input each part of a result comes from."),
}
cli = Commands(PLACES, name="enhancer", help="Train, export and measure the face enhancer.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 the run failed, 2 what was given cannot be used, 130 interrupted."""
    return run(cli, arguments, "python -m train.enhancer")


def renamed(old: str, arguments: Sequence[str] | None = None) -> int:
    """Run the command that replaced `python -m OLD`, with a warning; for one release."""
    name = old.rpartition(".")[2]
    new = f"python -m train.enhancer {name}"
    print(f"warning: `python -m {old}` is now `{new}`; the old name goes in the next release", file=sys.stderr)
    return main([name, *(sys.argv[1:] if arguments is None else arguments)])
