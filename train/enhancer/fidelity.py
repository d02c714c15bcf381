"""Is an enhanced face more recognisable than its input?

`python -m train.enhancer fidelity` enhances what `film` wrote and compares input and output with the truth: PSNR,
LPIPS-Alex, embedders that no loss has seen, rank-1 among the set, expression, clean faces that are only small, and
non-faces on which a detector fires only after enhancement. Figures are means with bootstrap 95 % intervals, for each
face height and each strength: the output's share in a blend with its input, a number, or `table` for the share that the
product takes by the face's size and sharpness.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import Session, open_session
from stream_enhance.backends.preprocessing import to_images, to_input
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import BOX_HEIGHT
from stream_enhance.stages import gates
from train.common.bootstrap import interval
from train.common.command import FILE, Command, Several, refuse_existing
from train.common.images import Image
from train.enhancer.data import half_of
from train.enhancer.film import Faces, load
from train.enhancer.judges import (
    HAPPY,
    SIZE,
    AlexLpips,
    DlibEmbedder,
    Embedder,
    Expression,
    OnnxEmbedder,
    PatchDetector,
)
from train.enhancer.metrics import psnr

CLEAN_SIZES = (64, 96, 128)
STRENGTHS = ("table", "0.5", "1.0")
TABLE = "table"  # the strength that the product takes by size and sharpness
HARM = 0.02  # a face is harmed where its cosine with the truth falls by more than this
FIRES = 0.6  # the detector's score from which it sees a face
SQUARE = 32  # pixels: the face height that a non-face stands for, the middle of those that `film` cuts
SMALL = 64  # pixels: the groups are compared on faces up to this height
FEWEST = 10  # people: a smaller group is left out
BATCH = 8

Enhance = Callable[[Image], Image]  # (n, S, S, 3) both ways
Table = dict[str, NDArray[np.float64]]  # of each measure (n, 1 + strengths): the input, then each strength


def enhancer(session: Session) -> Enhance:
    """`session` on patches of bytes."""

    def enhance(low: Image) -> Image:
        batches = [list(low[k : k + BATCH]) for k in range(0, len(low), BATCH)]
        return np.concatenate([to_images(session(to_input(batch, session.card)), session.card) for batch in batches])

    return enhance


def blend(low: Image, enhanced: Image, strength: str, px: float) -> Image:
    """`strength` of `enhanced` and the rest of `low`; `px` is the height of the face in the frame."""
    share = share_of(low, px) if strength == TABLE else float(strength)
    mixed = cv2.addWeighted(enhanced, share, low, 1 - share, 0).astype(np.uint8)
    return gates.with_mouth_as_seen(mixed, low, px) if strength == TABLE else mixed


def checked(strengths: Sequence[str]) -> tuple[str, ...]:
    """`strengths` as given. Raises InputError where one is neither `table` nor a number from 0 to 1."""
    for strength in strengths:
        try:
            known = strength == TABLE or 0 <= float(strength) <= 1
        except ValueError:
            known = False
        if not known:
            raise InputError(f"--strengths: {strength} is neither `table` nor a number from 0 to 1")
    return tuple(strengths)


def share_of(low: Image, px: float) -> float:
    """0..1: how far the product goes from `low` to the network's result, by its table `STRENGTH`."""
    return gates.strength_of(px, gates.sharpness_of(low, px / BOX_HEIGHT / SIZE))


def measure(
    faces: Faces,
    enhance: Enhance,
    strengths: Sequence[str],
    embedders: Mapping[str, Embedder],
    lpips: AlexLpips | None = None,
    expression: Expression | None = None,
) -> Table:
    """psnr, lpips, happy (0 or 1), each embedder's cosine with the truth, and `rank1 NAME`: 1 where it finds them."""
    found: dict[str, list[Any]] = {"psnr": []}
    vectors: dict[str, list[NDArray[np.float32]]] = {name: [] for name in embedders}
    for low, clean, px, output in zip(faces.low, faces.clean, faces.px, enhance(faces.low), strict=True):
        ours = [low, *(blend(low, output, strength, float(px)) for strength in strengths)]
        found["psnr"].append([psnr(patch, clean) for patch in ours])
        if lpips is not None:
            found.setdefault("lpips", []).append(lpips(ours, clean))
        if expression is not None:
            found.setdefault("happy truth", []).append(expression([clean]) == HAPPY)
            found.setdefault("happy", []).append(expression(ours) == HAPPY)
        for name, embedder in embedders.items():
            vectors[name].append(embedder([clean, *ours]))
    table = {name: np.array(rows, np.float64) for name, rows in found.items()}
    for name, rows in vectors.items():
        stacked = np.stack(rows).astype(np.float64)  # (n, 1 truth + 1 input + strengths, d)
        table[name] = np.einsum("nd,nkd->nk", stacked[:, 0], stacked[:, 1:])
        table[f"rank1 {name}"] = rank_one(faces, stacked)
    return table


def rank_one(faces: Faces, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, k - 1): 1 where, of all clean faces of the same size, the nearest to vector 1 ... k is the same person's."""
    hits = np.zeros((len(vectors), vectors.shape[1] - 1))
    for px in np.unique(faces.px):
        at = np.flatnonzero(faces.px == px)
        for k in range(hits.shape[1]):
            nearest = (vectors[at, 1 + k] @ vectors[at, 0].T).argmax(1)
            hits[at, k] = faces.person[at][nearest] == faces.person[at]
    return hits


def summary(faces: Faces, table: Table, strengths: Sequence[str]) -> dict[str, Any]:
    """For each size and strength what changed, as [mean, low, high]; and the groups over all sizes up to SMALL."""
    embedders = [name.removeprefix("rank1 ") for name in table if name.startswith("rank1 ")]
    out: dict[str, Any] = {}
    for px in sorted(set(faces.px.tolist())):
        at = faces.px == px
        before = {name: round(float(values[at, 0].mean()), 4) for name, values in table.items() if "happy" not in name}
        out[str(px)] = {"faces": int(at.sum()), "input": before}
        for k, strength in enumerate(strengths, 1):
            row: dict[str, Any] = {"psnr": bracketed(table["psnr"][at, k] - table["psnr"][at, 0])}
            if "lpips" in table:
                row["lpips ratio"] = round(float(table["lpips"][at, k].mean() / table["lpips"][at, 0].mean()), 3)
            for name in embedders:
                gain = table[name][at, k] - table[name][at, 0]
                row[name], row[f"harm {name}"] = bracketed(gain), bracketed((gain < -HARM).astype(np.float64))
                row[f"rank1 {name}"] = round(float(table[f"rank1 {name}"][at, k].mean()), 3)
            if "happy" in table:  # where the truth is not happy: how often the input is called so, and the output
                wrong = at & (table["happy truth"][:, 0] == 0)
                row["happy"] = [round(float(table["happy"][wrong, c].mean()), 3) for c in (0, k)]
            out[str(px)][strength] = row
    out["groups"] = {
        label: {
            strength: {name: bracketed((table[name][:, k] - table[name][:, 0])[at]) for name in embedders}
            for k, strength in enumerate(strengths, 1)
        }
        for label, at in groups(faces)
    }
    return out


def bracketed(values: NDArray[np.float64]) -> list[float]:
    """[mean, low, high]: the bootstrap 95 % interval of the mean; NaN where there is no value."""
    low, high = interval(values) or (np.nan, np.nan)
    return [round(float(v), 4) for v in (values.mean() if len(values) else np.nan, low, high)]


def groups(faces: Faces) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each source, and UTKFace's own labels of sex, age and origin (in its file names), of at least FEWEST people."""
    labels: dict[str, NDArray[np.bool_]] = {}
    origins = ("White", "Black", "Asian", "Indian", "other")
    for index, (group, name) in enumerate(zip(faces.group, faces.name, strict=True)):
        mine, parts = [f"source {group}"], str(name).split("_")
        if str(group).startswith("utkface") and len(parts) >= 3:
            age = int(parts[0])
            mine += [f"sex {('man', 'woman')[int(parts[1])]}", f"origin {origins[int(parts[2])]}"]
            mine += ["age under 25" if age < 25 else "age 25 to 44" if age < 45 else "age 45 and over"]
        for label in mine:
            labels.setdefault(label, np.zeros(len(faces.px), bool))[index] = True
    for label, flags in sorted(labels.items()):
        at = flags & (faces.px <= SMALL)
        if len(set(faces.person[at].tolist())) >= FEWEST:
            yield label, at


def clean_faces(faces: Faces, enhance: Enhance, strengths: Sequence[str]) -> dict[str, Any]:
    """PSNR gain in dB, [mean, low, high], on clean faces that were only shrunk to CLEAN_SIZES."""
    truth = faces.clean[np.unique(faces.face, return_index=True)[1]]
    out: dict[str, Any] = {}
    for px in CLEAN_SIZES:
        side = round(px / BOX_HEIGHT)
        low = np.stack([resized(resized(image, side, cv2.INTER_AREA), SIZE, cv2.INTER_CUBIC) for image in truth])
        output = enhance(low)
        out[str(px)] = {
            strength: bracketed(
                np.array(
                    [
                        psnr(blend(a, b, strength, px), c) - psnr(a, c)
                        for a, b, c in zip(low, output, truth, strict=True)
                    ]
                )
            )
            for strength in strengths
        }
    return out


def resized(image: Image, side: int, how: int) -> Image:
    """`image` as a square of `side` pixels."""
    return cv2.resize(image, (side, side), interpolation=how).astype(np.uint8)


def painted(
    squares: Image, enhance: Enhance, strengths: Sequence[str], detector: Callable[[Image], float]
) -> dict[str, Any]:
    """Of the non-faces on which `detector` is silent: how many there are, and on how many it fires afterwards."""
    output = enhance(squares)
    silent = [k for k, square in enumerate(squares) if detector(square) < FIRES]
    fires = {
        strength: sum(detector(blend(squares[k], output[k], strength, SQUARE)) >= FIRES for k in silent)
        for strength in strengths
    }
    return {"squares": len(silent), "painted": fires}


def lines(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """The result of one enhancer as text, the worst group last."""
    yield f"== {name}"
    for px, sizes in ((k, v) for k, v in result.items() if k.isdigit()):
        for strength, row in ((k, v) for k, v in sizes.items() if k not in ("faces", "input")):
            parts = [f"{px:>3} px, strength {strength}: PSNR {row['psnr'][0]:+.2f} dB"]
            parts += [f"LPIPS x{row['lpips ratio']:.2f}"] if "lpips ratio" in row else []
            for judge in (k.removeprefix("rank1 ") for k in row if k.startswith("rank1 ")):
                gain, low, high = row[judge]
                ranks = f"rank-1 {sizes['input'][f'rank1 {judge}']:.2f} to {row[f'rank1 {judge}']:.2f}"
                harm = f"harm {row[f'harm {judge}'][0]:.2f}"
                parts.append(
                    f"{judge} {sizes['input'][judge]:.3f} {gain:+.3f} [{low:+.3f}, {high:+.3f}] {harm} {ranks}"
                )
            parts += [f"happy {row['happy'][0]:.2f} to {row['happy'][1]:.2f}"] if "happy" in row else []
            yield "  ".join(parts)
    yield f"clean: { {px: {s: v[0] for s, v in row.items()} for px, row in result['clean'].items()} }"
    if "non-faces" in result:
        yield f"non-faces: {result['non-faces']}"
    gains = [
        (v[0], label, s, judge)
        for label, each in result["groups"].items()
        for s, row in each.items()
        for judge, v in row.items()
    ]
    if gains:
        gain, label, strength, judge = min(gains)
        yield f"worst group: {label}, {judge} {gain:+.3f} at strength {strength}"


@click.command("fidelity", cls=Command)
@click.option("--faces", type=FILE, required=True, help="The .npz that `film` wrote.")
@click.option("--non-faces", type=FILE, help="The .npy that `film --clips` wrote.")
@click.option("--model", "models", cls=Several, required=True, metavar="[NAME=]ONNX", help="Enhancers to measure.")
@click.option("--embedder", "embedders", cls=Several, metavar="NAME=ONNX", help="Takes (n, 3, 256, 256) RGB of 0-255.")
@click.option("--dlib", is_flag=True, help="dlib's embedder too.")
@click.option("--lpips-alex", type=FILE, help="AlexNet's features and LPIPS's heads, .safetensors.")
@click.option("--expression", type=FILE, help="FER-2013 classifier, ONNX.")
@click.option("--yunet", type=FILE, help="YuNet, ONNX; needed with --non-faces.")
@click.option("--strengths", cls=Several, default=list(STRENGTHS), help="Shares of the output, or `table`.")
@click.option("--sizes", cls=Several, type=int, help="Only these face heights (all).")
@click.option("--half", type=click.IntRange(0, 1), help="Of the people: 0 to choose by, 1 to report on.")
@click.option("--json", "out", type=FILE, help="Where the figures go; they are printed as well.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def command(
    faces: Path,
    non_faces: Path | None,
    models: tuple[str, ...],
    embedders: tuple[str, ...],
    dlib: bool,
    lpips_alex: Path | None,
    expression: Path | None,
    yunet: Path | None,
    strengths: tuple[str, ...],
    sizes: tuple[int, ...],
    half: int | None,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Measure whether enhanced faces are nearer to the person than their inputs."""
    cv2.setNumThreads(1)
    if out is not None:
        refuse_existing(out, overwrite)
    strengths = checked(strengths)
    if non_faces is not None and yunet is None:
        raise InputError("--non-faces: needs --yunet too")
    filmed = load(faces)
    if half is not None:
        filmed = filmed.only(np.array([half_of(str(person)) == half for person in filmed.person]))
    if sizes:
        filmed = filmed.only(np.isin(filmed.px, sizes))
    if not len(filmed.px):
        raise InputError(f"{faces}: no face left; ask for another --half or other --sizes")
    judges: dict[str, Embedder] = {}
    for text in embedders:
        name, _, path = text.rpartition("=")
        judges[name or Path(path).stem] = OnnxEmbedder(Path(path))
    if dlib:
        judges["dlib"] = DlibEmbedder()
    lpips = None if lpips_alex is None else AlexLpips(lpips_alex)
    mood = None if expression is None else Expression(expression)
    results: dict[str, Any] = {}
    for text in models:
        name, _, path = text.rpartition("=")
        with open_session(Path(path), "face-enhancement", "cpu", 1, precision="fp32") as session:
            enhance = enhancer(session)
            result = summary(filmed, measure(filmed, enhance, strengths, judges, lpips, mood), strengths)
            result["clean"] = clean_faces(filmed, enhance, strengths)
            if non_faces is not None and yunet is not None:
                result["non-faces"] = painted(np.load(non_faces), enhance, strengths, PatchDetector(yunet))
        results[name or "model"] = result
        print("\n".join(lines(name or "model", result)), flush=True)
    if out is not None:
        out.write_text(json.dumps(results, indent=1))
