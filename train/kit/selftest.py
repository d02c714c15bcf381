"""The whole of the kit at toy size: pack drawn faces, train on the CPU, resume, export; in under a minute."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import yaml

from stream_enhance.errors import StreamEnhanceError
from train.common.command import FILE, Command
from train.common.drawn_faces import write_folder
from train.common.journal import read_losses

EPOCHS = 6  # of each call
RECIPE = {
    "name": "toy",
    "model": {"name": "unet_fast", "channels": [8, 16], "blocks": [1, 1], "size": 64},
    "data": {"size": 64, "augment": False, "val_pairs": 4},
    "losses": {"charbonnier": 1},
    "optimiser": {"lr": 2e-3, "betas": [0.9, 0.99], "warmup_steps": 5, "clip": 1, "ema": 0.9},
    "batch": 8,
    "epochs": EPOCHS,
    "epoch_pairs": 80,
    "checkpoint_epochs": 0,
    "sample_epochs": 0,
    "precision": "bf16",
    "threads": 1,
}


class SelftestFailed(StreamEnhanceError):
    """A step of the self-test failed. Exit code 1."""


def kit(folder: Path, *arguments: str) -> None:
    """Run the kit in `folder` as its user will. Raises SelftestFailed with the last line that it printed."""
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = ["sh", str(folder / "run.sh"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        raise SelftestFailed(f"run.sh {' '.join(arguments)}: {(done.stderr.strip() or 'no output').splitlines()[-1]}")


def falls(losses: Path) -> tuple[float, float]:
    """The mean of the first and of the last tenth of the losses' total."""
    values = np.array([value for _, value in read_losses(losses)["total"]])
    tenth = max(1, len(values) // 10)
    return float(values[:tenth].mean()), float(values[-tenth:].mean())


@click.command(cls=Command)
@click.option("--out", type=FILE, help="Folder to work in and keep; a temporary one without.")
def command(out: Path | None) -> None:
    """Pack drawn faces, train on them for some seconds, resume, export; say whether the loss fell."""
    from train.kit.cli import main

    with tempfile.TemporaryDirectory() as temporary:
        root = out or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        (root / "toy.yaml").write_text(yaml.safe_dump(RECIPE))
        people, more = write_folder(root / "people", 20, each=2), write_folder(root / "more", 6)
        packing = ["pack", "--out", str(root / "kit"), "--recipe", str(root / "toy.yaml"), "--faces"]
        if main([*packing, str(people), str(people), str(more)]):
            raise SelftestFailed("pack failed; see above")
        # the epochs end it, not the clock, so that a busy machine gives the same result; one shard a folder
        call = ["train", "--minutes", "4", "--film-seconds", "0", "--frames", "16", "--set"]
        kit(root / "kit", *call, f"epochs={EPOCHS}", "--out", "first")
        kit(root / "kit", *call, f"epochs={2 * EPOCHS}", "--out", "second", "--resume", "first/kit.pt", "--last")
        first, last = falls(root / "kit" / "second" / "losses.csv")
        if not last < first:
            raise SelftestFailed(f"the loss did not fall: {first:.4f} at first, {last:.4f} at last")
        size = (root / "kit" / "second" / "unet.onnx").stat().st_size
        click.echo(f"loss {first:.4f} at first, {last:.4f} at last; unet.onnx of {size / 1e3:.0f} kB")
