"""Does a network that sees several frames give more than one that sees each by itself?

`python -m train.enhancer fidelity-clips --clips DIR --model NAME=FILE` runs each network over the clips of people that
training never saw and compares input and output with the truth on the frames that are asked for: PSNR, LPIPS-Alex and
embedders that no loss has seen. The warping error is of all frames: how far a result differs from the one before,
carried along by the truth's own motion. Figures are means over clips with bootstrap 95 % intervals.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from stream_enhance.errors import InputError
from stream_enhance.stages.steady import TrackMemory, motion_of, thumb_of
from train.common.command import FILE, Command, Several, refuse_existing
from train.common.images import Image
from train.enhancer.clip_data import ClipSamples, Sample
from train.enhancer.data import half_of
from train.enhancer.fidelity import HARM, blend, bracketed, checked
from train.enhancer.judges import SIZE, AlexLpips, DlibEmbedder, Embedder, OnnxEmbedder
from train.enhancer.metrics import psnr
from train.enhancer.several import UNetSeveral, packed
from train.enhancer.weights import network_of

Results = tuple[Image, NDArray[np.float32]]  # (T, S, S, 3) and the expected error (T, S, S) 0..1, or nothing, (0,)
Enhance = Callable[[Sample], Results]
Columns = dict[str, list[Any]]


@torch.inference_mode()
def one_by_one(network: torch.nn.Module, sample: Sample) -> Results:
    """Each frame by itself."""
    x = torch.from_numpy(sample.low.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    return as_bytes(network(x)), np.zeros(0, np.float32)


@torch.inference_mode()
def along(network: UNetSeveral, sample: Sample, first: bool = False) -> Results:
    """The frames in order with what came before; `first`: each as if it were its track's first."""
    found = []
    for t in range(len(sample.low)):
        x, mean = (torch.from_numpy(p[t].transpose(2, 0, 1)[None] / np.float32(255)) for p in (sample.low, sample.mean))
        count = torch.from_numpy(sample.count[t][None, None])
        if first:
            mean, count = F.avg_pool2d(x, 2), torch.ones_like(count)
        found.append(network(packed(x, mean, count)))
    images, errors = torch.cat(found).split((3, 1), 1)
    return as_bytes(images), errors[:, 0].exp().numpy()


def as_bytes(ours: torch.Tensor) -> Image:
    """(n, S, S, 3) uint8 of (n, 3, S, S) 0..1."""
    return (255 * ours.clamp(0, 1) + 0.5).byte().permute(0, 2, 3, 1).numpy()


def warping_error(images: Image, clean: Image) -> float:
    """Mean grey levels between each image's middle and the one before, carried by the motion of `clean`."""
    thumbs, apart = [thumb_of(patch) for patch in clean], []
    for t in range(1, len(images)):
        motion = motion_of(thumbs[t - 1], thumbs[t])
        if motion is not None:
            off = cv2.absdiff(motion.carry(images[t - 1]), images[t])[40:232, 32:224]
            apart.append(float(off.mean()))
    return float(np.mean(apart)) if apart else np.nan


def mixed(low: Image, results: Image) -> Image:
    """`results` of the inputs `low` mixed along the track, as the product shows them."""
    memory, found = TrackMemory.of(low[0], 0.0), []
    for t, (patch, result) in enumerate(zip(low, results, strict=True)):
        motion = memory.add(patch, 0.0) if t else None
        memory.mix(result, motion)
        assert memory.result is not None
        found.append(memory.result)
    return np.stack(found)


@dataclass(frozen=True)
class Opened:
    """A network to measure."""

    name: str
    enhance: Enhance
    size: int  # pixels: side of its patch


def opened(text: str) -> Opened:
    """The network that NAME=FILE[:first][:mixed] names."""
    name, _, path = text.rpartition("=")
    path, *how = path.split(":")
    network = network_of(Path(path))[0]

    def enhance(sample: Sample) -> Results:
        if isinstance(network, UNetSeveral):
            results, errors = along(network, sample, "first" in how)
        else:
            results, errors = one_by_one(network, sample)
        return (mixed(sample.low, results) if "mixed" in how else results), errors

    return Opened(name or path, enhance, int(network.size))  # type: ignore[arg-type]


def measure(
    samples: Sequence[Sample],
    enhance: Enhance,
    strength: str,
    frames: Sequence[int],
    embedders: Mapping[str, Embedder],
    lpips: AlexLpips | None,
) -> dict[str, NDArray[np.float64]]:
    """Of each measure (clips, 2): the input and the result, means over `frames`."""
    found: Columns = {}
    for sample in samples:
        results, errors = enhance(sample)
        output = np.stack([blend(a, b, strength, sample.face_px) for a, b in zip(sample.low, results, strict=True)])
        rows: Columns = {}
        for t in frames:
            if len(errors):
                rows.setdefault("calibration", []).append(calibration(results[t], sample.clean[t], errors[t]))
            ours, clean = [sample.low[t], output[t]], sample.clean[t]
            rows.setdefault("psnr", []).append([psnr(patch, clean) for patch in ours])
            if lpips is not None:
                rows.setdefault("lpips", []).append(lpips(ours, clean))
            for name, embedder in embedders.items():
                vectors = embedder([clean, *ours]).astype(np.float64)
                rows.setdefault(name, []).append(vectors[1:] @ vectors[0])
        for name, values in rows.items():
            found.setdefault(name, []).append(np.mean(values, 0))
        found.setdefault("warping", []).append([warping_error(p, sample.clean) for p in (sample.low, output)])
    return {name: np.array(values) for name, values in found.items()}


def calibration(result: Image, clean: Image, expected: NDArray[np.float32]) -> list[float]:
    """How good the `expected` error (S, S) is on the middle of a face: Spearman's rank correlation with the true error
    over blocks of 8 x 8 pixels; and the shares of pixels whose error is below the median and the ninth decile of the
    Laplace distribution that it stands for, 0.5 and 0.9 where it is right."""
    true = np.abs(result.astype(np.float32) - clean).mean(2) / np.float32(255)
    middle = np.s_[40:232, 32:224] if len(true) == SIZE else np.s_[:, :]
    blocks = [cv2.resize(p[middle], None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA) for p in (true, expected)]
    ranks = [np.argsort(np.argsort(block.ravel())) for block in blocks]
    below = [float((true < np.log(share) * expected)[middle].mean()) for share in (2, 10)]
    return [float(np.corrcoef(ranks[0], ranks[1])[0, 1]), *below]


def summary(table: Mapping[str, NDArray[np.float64]], embedders: Sequence[str]) -> dict[str, Any]:
    """What changed, as [mean, low, high]."""
    out: dict[str, Any] = {"clips": len(table["psnr"]), "psnr": bracketed(table["psnr"][:, 1] - table["psnr"][:, 0])}
    for name in embedders:
        gain = table[name][:, 1] - table[name][:, 0]
        out[name], out[f"harm {name}"] = bracketed(gain), round(float((gain < -HARM).mean()), 3)
    if "calibration" in table:
        names = ("rank correlation", "below the median", "below the ninth decile")
        out["expected error"] = dict(zip(names, map(bracketed, table["calibration"].T), strict=True))
    for name in ("lpips", "warping"):
        if name in table:
            both = table[name][~np.isnan(table[name]).any(1)]
            out[f"{name} ratio"] = round(float(both[:, 1].mean() / both[:, 0].mean()), 3)
    return out


def between(ours: Mapping[str, NDArray[np.float64]], theirs: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """How much more the first network gives than the second on the same clips, as [mean, low, high]."""
    return {name: bracketed(ours[name][:, 1] - theirs[name][:, 1]) for name in ours if name != "calibration"}


@click.command("fidelity-clips", cls=Command)
@click.option("--clips", cls=Several, type=FILE, required=True, help="Folders that `clips` wrote of other people.")
@click.option(
    "--model",
    "models",
    cls=Several,
    required=True,
    help="NAME=FILE, a checkpoint or an ONNX file; FILE:first takes every frame as its track's first, FILE:mixed mixes"
    " results as the product does, FILE:first:mixed both. The others are compared with the first.",
)
@click.option("--embedder", "embedders", cls=Several, help="NAME=ONNX, as `fidelity` takes them.")
@click.option("--dlib/--no-dlib", default=False, show_default=True, help="dlib's embedder too.")
@click.option("--lpips-alex", type=FILE, help="LPIPS-Alex weights, .safetensors.")
@click.option("--strength", default="table", show_default=True, help="A number, or `table`: as the product does.")
@click.option("--frames", cls=Several, type=int, default=[8, 11], help="Frames of a clip to judge (8, 11).")
@click.option("--half", type=click.IntRange(0, 1), help="Of the people: 0 to choose by, 1 to report on.")
@click.option("--sizes", type=(float, float), default=(0, 1000), help="Least and largest height of a face.")
@click.option("--json", "out", type=FILE, help="Where the figures go; they are printed as well.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def command(
    clips: tuple[Path, ...],
    models: tuple[str, ...],
    embedders: tuple[str, ...],
    dlib: bool,
    lpips_alex: Path | None,
    strength: str,
    frames: tuple[int, ...],
    half: int | None,
    sizes: tuple[float, float],
    out: Path | None,
    overwrite: bool,
) -> None:
    """Measure what several frames give over one, on clips of people that training never saw."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if out is not None:
        refuse_existing(out, overwrite)
    networks = [opened(text) for text in models]
    checked([strength])
    samples = held_out(clips, half, sizes, networks[0].size)
    judges: dict[str, Embedder] = {}
    for text in embedders:
        name, _, path = text.rpartition("=")
        judges[name or Path(path).stem] = OnnxEmbedder(Path(path))
    if dlib:
        judges["dlib"] = DlibEmbedder()
    lpips = None if lpips_alex is None else AlexLpips(lpips_alex)
    results: dict[str, Any] = {}
    first: dict[str, NDArray[np.float64]] | None = None
    for network in networks:
        table = measure(samples, network.enhance, strength, frames, judges, lpips)
        name, results[network.name] = network.name, summary(table, list(judges))
        if first is None:
            first = table
        else:
            results[name]["over the first"] = between(table, first)
        print(name, json.dumps(results[name]), flush=True)
    if out is not None:
        out.write_text(json.dumps(results, indent=1))


def held_out(folders: Sequence[Path], half: int | None, sizes: tuple[float, float], size: int = 256) -> list[Sample]:
    """The clips of that half of the people, with faces of that height. Raises InputError where there is none."""
    clips, found = ClipSamples(folders, size, augment=False), []
    for index, (home, _, row) in enumerate(clips.rows):
        person = str(clips.images[home][int(row["images"][0])]["person"])
        if (half is None or half_of(person) == half) and sizes[0] <= row["face_px"] < sizes[1]:
            found.append(clips.sample(index, np.random.default_rng([7, index])))
    if not found:
        raise InputError(f"{folders[0]}: no clip left; ask for another --half or other --sizes")
    return found
