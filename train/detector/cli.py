"""The detector's commands: `python -m train.detector COMMAND`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from train.common.command import Commands, run

PLACES = {
    "backgrounds": ("train.detector.commands:backgrounds", "Convert CC0 panoramas to the scenes' backgrounds."),
    "data": ("train.detector.commands:data", "Make the training images."),
    "train": ("train.detector.commands:train", "Train a network by a recipe."),
    "export": ("train.detector.commands:export", "Write a network as ONNX with its card."),
    "calibrate": ("train.detector.commands:calibrate", "Find the score that matches the teacher's false alarms."),
    "eval": ("train.detector.commands:evaluate", "Measure a network beside other detectors."),
    "calibrate-scores": ("train.detector.commands:calibrate_scores", "Write into a card how often scores are right."),
    "evaluate-tracks": ("train.detector.commands:evaluate_tracks", "Measure a network on clips labelled by eye."),
}
cli = Commands(PLACES, name="detector", help="Train, export and measure the face detector.")
FIRST, RUN = "configs/train/detector/01_first.yaml", "runs/detector"  # defaults of the old form of the commands


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 the run failed, 2 what was given cannot be used, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run(cli, with_new_form(given), "python -m train.detector")


def with_new_form(given: list[str]) -> list[str]:
    """`given` with `--recipe`, `--run` and `--network` as they are written now, with a warning; for one release.

    Without a command it trained, so it still does.
    """
    old = not given or (given[0] not in PLACES and given[0] not in ("-h", "--help") and given[0].startswith("-"))
    command, *rest = ["train", *given] if old else given
    values: dict[str, str] = {}
    for name in ("--recipe", "--run", "--network"):
        if name in rest[:-1] and not (command == "export" and name == "--recipe" and "--run" not in rest):
            at = rest.index(name)
            values[name], rest = rest[at + 1], rest[:at] + rest[at + 2 :]
    if not old and not values:
        return given
    recipe, folder = values.get("--recipe", FIRST), values.get("--run", RUN)
    match command:
        case "train":
            new = ["train", recipe, "--out", folder, *rest]
        case "export":
            new = ["export", str(Path(folder) / "last.pt"), "--recipe", recipe, *rest]
        case _:
            new = [command, recipe, *(["--model", values["--network"]] if "--network" in values else []), *rest]
    print(
        f"warning: write `python -m train.detector {' '.join(new)}`; the old form goes in the next release",
        file=sys.stderr,
    )
    return new
