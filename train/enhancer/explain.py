"""Why an enhanced face is as it is: `python -m train.enhancer explain IMAGE --out DIR`.

Writes Grad-CAM (Selvaraju et al., ICCV 2017) over every level of the generator, for what the network changed, and
`attribution.png`: for each region of the output, where in the input it came from (gradients of the region's values).
"""

import sys
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_enhance.backends import open_session
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import TEMPLATE, cut
from stream_enhance.shipped import DETECTOR, UNET, default_model
from stream_enhance.stages.detect import Detector
from train.common.command import FILE, Command
from train.common.images import Image, read_image, write_image
from train.enhancer.cli import renamed
from train.enhancer.data import patch_place
from train.enhancer.find_faces import OPTIONS, largest_face
from train.enhancer.weights import network_of

REGIONS = {"eye left": (0,), "eye right": (1,), "nose": (2,), "mouth": (3, 4)}  # rows of TEMPLATE
RADIUS = 0.09  # of the patch's side: half the side of a region


def levels(network: nn.Module) -> dict[str, nn.Module]:
    """The generator's levels from the input to the output, by name."""
    holder = getattr(network, "base", network)
    ways = [(name, getattr(holder, name)) for name in ("encode", "down", "decode", "up") if hasattr(holder, name)]
    if hasattr(holder, "encode"):  # there, `down` and `up` only change the size
        ways = [(name, part) for name, part in ways if name in ("encode", "decode")]
    return {f"{name}{k + 1}": block for name, part in ways for k, block in enumerate(part)}


def grad_cam(network: nn.Module, x: Tensor) -> tuple[dict[str, NDArray[np.float32]], Tensor]:
    """({level: (S, S) map in 0..1}, output (1, 3, S, S)) for the size of the change that the network makes to `x`."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, block in levels(network).items():

        def keep(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
            out.retain_grad()
            seen[name] = out

        hooks.append(block.register_forward_hook(keep))
    x = x.clone().requires_grad_(True)
    out = network(x)
    (out - x[:, :3].detach()).abs().sum().backward()
    for hook in hooks:
        hook.remove()
    maps = {}
    for name, activation in seen.items():
        assert activation.grad is not None
        weights = activation.grad.mean((2, 3), keepdim=True)
        cam = (weights * activation).sum(1, keepdim=True).clamp_min(0)
        cam = nn.functional.interpolate(cam, size=x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
        maps[name] = (cam / cam.max().clamp_min(1e-12)).detach().numpy().astype(np.float32)
    return maps, out.detach()


def attribution(network: nn.Module, x: Tensor) -> dict[str, NDArray[np.float32]]:
    """{region of the output: (S, S) map in 0..1 of the input}: sizes of the gradients of the region's mean values."""
    side = x.shape[-1]
    maps = {}
    for name, rows in REGIONS.items():
        cx, cy = TEMPLATE[list(rows)].mean(0) * side
        r = RADIUS * side
        box = (slice(int(cy - r), int(cy + r)), slice(int(cx - r), int(cx + r)))
        probe = x.clone().requires_grad_(True)
        network(probe)[..., box[0], box[1]].mean().backward()
        assert probe.grad is not None
        size = probe.grad[0, :3].abs().sum(0).numpy()
        smooth = cv2.GaussianBlur(size, (0, 0), side / 128)
        maps[name] = (smooth / max(float(smooth.max()), 1e-12)).astype(np.float32)
    return maps


def heat(image: Image, strength: NDArray[np.float32], label: str) -> Image:
    """`image` with `strength` (S, S) in 0..1 laid over it in colours, and its label."""
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = 0.25 + 0.5 * strength[:, :, None]
    mixed = (image * (1 - share) + colours * share).astype(np.uint8)
    return cv2.putText(
        np.ascontiguousarray(mixed), label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255)
    ).astype(np.uint8)


def aligned(path: Path, size: int) -> Image:
    """The patch of the largest face in the image. Raises InputError where there is none."""
    image = read_image(path)
    with open_session(default_model(DETECTOR), "face-detection", "cpu") as session:
        found = largest_face(Detector(session, OPTIONS), image)
    if found is None:
        raise InputError(f"{path}: no face found in it; give an aligned patch with --patch")
    return cut(image, patch_place(found[1], size), size)


def explain(network: nn.Module, patch: Image, out: Path) -> list[Path]:
    """Write cam_LEVEL.png for every level, cam.png of all, attribution.png and faces.png; the paths."""
    x = torch.from_numpy(patch.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    cams, result = grad_cam(network, x)
    enhanced = (result[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    images = {f"cam_{name}": heat(enhanced, cam, name) for name, cam in cams.items()}
    tiles = list(images.values())
    rows = [np.hstack((tiles[k : k + 4] + [np.zeros_like(patch)] * 3)[:4]) for k in range(0, len(tiles), 4)]
    images["cam"] = np.vstack(rows)
    images["attribution"] = np.hstack([heat(patch, m, name) for name, m in attribution(network, x).items()])
    images["faces"] = np.hstack([patch, enhanced])
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, image in images.items():
        written.append(out / f"{name}.png")
        write_image(written[-1], image)
    return written


@click.command(cls=Command)
@click.argument("image", type=FILE)
@click.option("--model", type=FILE, help="Checkpoint, or an ONNX file of unet_fast. Default: the engine that ships.")
@click.option("--patch", is_flag=True, help="IMAGE is an aligned face already.")
@click.option("--out", type=FILE, default=Path("explained"), show_default=True, help="Folder for the images.")
def command(image: Path, model: Path | None, patch: bool, out: Path) -> None:
    """Show what in the face of IMAGE each part of the result comes from."""
    network, recipe = network_of(model or default_model(UNET))
    size = recipe["data"]["size"]
    if patch:
        face = cv2.resize(read_image(image), (size, size), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    else:
        face = aligned(image, size)
    for path in explain(network, face, out):
        print(path)


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.explain"))
