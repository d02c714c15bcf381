"""A trained network as the file that the runtime loads.

`python -m train.enhancer export runs/unet/best.pt --out runs/unet/unet.onnx`.

The file takes float32 (n, 3, S, S) RGB in 0..1, any n, and gives the same, clipped; its card says so. Weights may be
stored as float16 (half the size; the arithmetic stays float32). The export fails if the file differs from torch.
"""

import math
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from stream_enhance.backends.card import Card, weights_sha256, write_card
from stream_enhance.errors import InputError, ModelError
from train.common.command import FILE, Command, ExportDiffers, json_object, refuse_existing
from train.common.git import commit
from train.common.onnx_export import store_half, to_onnx
from train.common.recipe import CardText
from train.enhancer import several
from train.enhancer.cli import renamed
from train.enhancer.models import Clipped, UNetFast
from train.enhancer.recipe import card_of
from train.enhancer.several import INPUTS, OUTPUTS, UNetSeveral
from train.enhancer.weights import network_of

LEAST_DB = {"fp32": 60.0, "fp16": 45.0}  # PSNR between torch and the file


def export(network: nn.Module, out: Path, card: Card, precision: str = "fp32", channels: int = 3) -> float:
    """Write `network` with `card` (its hash filled in) to `out`; the PSNR in dB between the file and torch.

    Raises ExportDiffers, and leaves no file, where that is under LEAST_DB.
    """
    clipped = Clipped(network).eval()
    example = torch.rand(1, channels, card.size, card.size)
    beside = out.with_suffix(".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    model = to_onnx(clipped, example, ("input", "output"), axes)
    if precision == "fp16":
        model = store_half(model)
    write_card(model, card.model_copy(update={"weights_sha256": weights_sha256(model)}))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(beside))
    apart = agreement(clipped, beside, card.size, channels)
    if not apart >= LEAST_DB[precision]:  # nan, too
        beside.unlink()
        raise ExportDiffers(
            f"{out}: the {precision} file is only {apart:.1f} dB from torch, under {LEAST_DB[precision]}"
        )
    beside.replace(out)
    return apart


def blend(network: nn.Module, other: nn.Module, share: float) -> None:
    """Move the weights of `network` by `share` of the way to those of `other`, which was trained on from it.

    Between a regression and what perceptual losses made of it, this gives every trade of the two (Wang et al.,
    "Deep Network Interpolation for Continuous Imagery Effect Transition", CVPR 2019). Raises ModelError.
    """
    theirs = other.state_dict()
    if {k: v.shape for k, v in network.state_dict().items()} != {k: v.shape for k, v in theirs.items()}:
        raise ModelError("the two checkpoints are of different architectures and cannot be blended")
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(theirs[name], share)


def agreement(network: nn.Module, path: Path, size: int, channels: int = 3) -> float:
    """PSNR in dB between `network` and the file over batches of 1 and 3: smooth images and noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng, errors = np.random.default_rng(0), []
    for count in (1, 3):
        x = example_images(rng, count, channels, size)
        with torch.inference_mode():
            ours = network(torch.from_numpy(x)).numpy()
        errors.append(float(np.mean((session.run(None, {"input": x})[0] - ours) ** 2)))
    return float(-10 * np.log10(max(np.max(errors), 1e-12)))  # np.max, as Python's passes over a nan


def example_images(rng: np.random.Generator, count: int, channels: int, size: int) -> NDArray[np.float32]:
    """(count, channels, size, size) in 0..1: coarse random shapes with a little noise."""
    coarse = torch.from_numpy(rng.random((count, channels, 8, 8), np.float32))
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").numpy()
    noisy = smooth + 0.05 * rng.standard_normal(smooth.shape, np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32)


@click.command(cls=Command)
@click.argument("checkpoint", type=FILE)
@click.argument("old_out", type=FILE, required=False, metavar="")
@click.option("--out", type=FILE, help="The ONNX file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file where it exists.")
@click.option(
    "--blend",
    "blended",
    type=(FILE, str),
    metavar="CHECKPOINT SHARE",
    help="Move SHARE of the way to the weights of CHECKPOINT.",
)
@click.option(
    "--precision",
    type=click.Choice(sorted(LEAST_DB)),
    default="fp16",
    show_default=True,
    help="How weights are stored.",
)
@click.option("--keep-grey", is_flag=True, help="Add only grey to a face without colour.")
@click.option("--single-frame", is_flag=True, help="Of a network that sees several frames, what it is on the first.")
@click.option("--recipe", type=FILE, help="YAML whose `card` the file carries instead of the checkpoint's.")
@click.option("--metrics", type=FILE, help="JSON of `train.enhancer evaluate`, for the card.")
def command(
    checkpoint: Path,
    old_out: Path | None,
    out: Path | None,
    overwrite: bool,
    blended: tuple[Path, str] | None,
    precision: str,
    keep_grey: bool,
    single_frame: bool,
    recipe: Path | None,
    metrics: Path | None,
) -> None:
    """Write the network in CHECKPOINT as ONNX with its card."""
    if out is None and old_out is not None:
        print("warning: the file to write is now named with --out; this form goes in the next release", file=sys.stderr)
        out = old_out
    if out is None:
        raise click.UsageError("Missing option '--out': name the ONNX file to write.")
    for path in [checkpoint, *(blended[:1] if blended else ())]:
        if path.exists() and out.exists() and out.samefile(path):
            raise InputError(f"{out}: is the checkpoint itself; name another file to write")
    refuse_existing(out, overwrite)
    network, trained_by = network_of(checkpoint)
    if blended:
        other, trained_by = network_of(blended[0])
        blend(network, other, share_of(blended[1]))
    if keep_grey:
        if not isinstance(network, UNetFast):
            raise InputError(f"{checkpoint}: --keep-grey is for unet_fast")
        network.keep_grey = True
    if trained_by["data"]["heatmaps"]:
        raise InputError(f"{checkpoint}: takes heatmaps, which the runtime does not make; train without them")
    known = {} if metrics is None else json_object(metrics, "a JSON document of `train.enhancer evaluate`")
    card = card_for(trained_by, card_of(trained_by, recipe), known)
    if single_frame:
        if not isinstance(network, UNetSeveral):
            raise InputError(f"{checkpoint}: --single-frame is for unet_several")
        network = several.single_frame(network)
    if isinstance(network, UNetSeveral):
        card = card.model_copy(update={"inputs": INPUTS, "outputs": OUTPUTS})
    apart = export(network, out, card, precision, card.channels[0])
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {apart:.1f} dB from torch")


def card_for(recipe: dict[str, Any], text: CardText, metrics: dict[str, Any]) -> Card:
    """The card of a network trained by `recipe` (as a checkpoint holds it); its hash is filled in by `export`."""
    return Card(
        name=recipe["name"],
        task="face-enhancement",
        size=recipe["data"]["size"],
        alignment="five-points",
        points=5,
        license=text.license,
        data=text.data,
        recipe=recipe["name"],
        commit=commit(),
        weights_sha256="",
        weaknesses=text.weaknesses,
        metrics=metrics,
    )


def share_of(text: str) -> float:
    """The number in `text`; above 1 goes on past the other. Raises InputError where it is no number."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not math.isfinite(share):
        raise InputError(f"--blend: {text!r} is not a share; write a number such as 0.75")
    return share


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.export"))
