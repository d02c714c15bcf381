"""A trained network as the file that the runtime loads.

`python -m train.enhancer.export runs/unet/best.pt engines/unet.onnx`.

The file takes float32 (n, 3, S, S) RGB in 0..1, any n, and gives the same, clipped; its card says so. Weights may be
stored as float16 (half the size; the arithmetic stays float32). The export fails if the file differs from torch.
"""

import argparse
import logging
import math
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from stream_enhance.backends.card import Card, weights_sha256, write_card
from stream_enhance.errors import InputError, ModelError, StreamEnhanceError
from train.common.checkpoints import network_of
from train.common.command import ended, json_object
from train.enhancer.models import Clipped, UNetFast

OPSET = 17
LEAST_DB = {"fp32": 60.0, "fp16": 45.0}  # PSNR between torch and the file


class ExportDiffers(StreamEnhanceError):
    """The exported file does not give what torch gives."""


def export(network: nn.Module, out: Path, card: Card, precision: str = "fp32", channels: int = 3) -> float:
    """Write `network` with `card` (its hash filled in) to `out`; the PSNR in dB between the file and torch.

    Raises ExportDiffers, and leaves no file, where that is under LEAST_DB.
    """
    clipped = Clipped(network).eval()
    example = torch.rand(1, channels, card.size, card.size)
    beside = out.with_suffix(".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter announces its age; the newer one wants onnxscript
        torch.onnx.export(
            clipped,
            (example,),
            str(beside),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(beside))
    if precision == "fp16":
        store_half(model)
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


def store_half(model: onnx.ModelProto) -> None:
    """Keep every float32 weight as float16 with a Cast behind it: runtimes fold it at load, so nothing gets slower."""
    kept, casts = [], []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            kept.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ModelError(f"{tensor.name}: holds values that float16 cannot; export as fp32")
        kept.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


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


def commit() -> str:
    """The commit that this checkout stands at, or "unknown" outside a checkout."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 where what was given cannot be used, or 1 where the export differs."""
    parser = argparse.ArgumentParser(
        prog="python -m train.enhancer.export", description="Write a network as ONNX with its card."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--blend", nargs=2, metavar=("CHECKPOINT", "SHARE"), help="so far on the way to another checkpoint's weights"
    )
    parser.add_argument("--precision", choices=sorted(LEAST_DB), default="fp16", help="how weights are stored")
    parser.add_argument("--keep-grey", action="store_true", help="to a face without colour only grey is added")
    parser.add_argument("--license", default="AGPL-3.0-or-later")
    parser.add_argument("--data", default="not stated", help="what it was trained on")
    parser.add_argument("--weaknesses", default="", help="what it is bad at")
    parser.add_argument("--metrics", type=Path, help="JSON of `train.enhancer.evaluate`, for the card")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)
    return ended(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """What the command line asks for."""
    for path in [given.checkpoint, *map(Path, given.blend[:1] if given.blend else [])]:
        if path.exists() and given.out.exists() and given.out.samefile(path):
            raise InputError(f"{given.out}: is the checkpoint itself; name another file to write")
    network, recipe = network_of(given.checkpoint)
    if given.blend:
        other, recipe = network_of(Path(given.blend[0]))
        blend(network, other, share_of(given.blend[1]))
    if given.keep_grey:
        if not isinstance(network, UNetFast):
            raise InputError(f"{given.checkpoint}: --keep-grey is for unet_fast")
        network.keep_grey = True
    if recipe["data"]["heatmaps"]:
        raise InputError(f"{given.checkpoint}: takes heatmaps, which the runtime does not make; train without them")
    card = Card(
        name=recipe["name"],
        task="face-enhancement",
        size=recipe["data"]["size"],
        alignment="five-points",
        points=5,
        license=given.license,
        data=given.data,
        recipe=recipe["name"],
        commit=commit(),
        weights_sha256="",
        weaknesses=given.weaknesses,
        metrics=onnx_metrics(given.metrics),
    )
    apart = export(network, given.out, card, given.precision)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB, {apart:.1f} dB from torch")


def share_of(text: str) -> float:
    """The number in `text`; above 1 goes on past the other. Raises InputError where there is none."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not math.isfinite(share):
        raise InputError(f"--blend: {text!r} is not a share; write a number such as 0.75")
    return share


def onnx_metrics(path: Path | None) -> dict[str, object]:
    """The JSON document in `path`; nothing without one. Raises InputError."""
    return {} if path is None else json_object(path, "a JSON document of train.enhancer.evaluate")


if __name__ == "__main__":
    sys.exit(main())
