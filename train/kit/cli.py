"""The kit's commands: `python -m train.kit COMMAND`."""

from collections.abc import Sequence

from train.common.command import Commands, run

PLACES = {
    "pack": ("train.kit.pack", "Pack code, faces and weights for a machine without a network."),
    "train": ("train.kit.train", "Train the enhancer there for some minutes."),
    "detect": ("train.kit.train:detect_command", "Train the detector there for some minutes."),
    "selftest": ("train.kit.selftest", "Pack drawn faces, train on them for seconds, resume, export."),
}
cli = Commands(PLACES, name="kit", help="Train on a GPU without a network, in calls of a few minutes.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 the run failed, 2 what was given cannot be used, 130 interrupted."""
    return run(cli, arguments, "python -m train.kit")
