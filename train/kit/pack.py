"""Packs a kit: code, JPEG faces and non-faces, weights and recipes, in tar files that each stay under a limit.

`python -m train.kit pack --out kit --faces DIR DIR` writes kit_1.tar, kit_2.tar ... and run.sh. There,
`sh run.sh train --minutes 8.5` unpacks whatever tars lie beside it and runs a command; tars may arrive in several
calls. A face is cut out with what surrounds it and shrunk to what a patch can show.
"""

import csv
import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import yaml
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from stream_enhance.config import read_yaml
from stream_enhance.errors import InputError
from train.common.command import FILE, Command, Several
from train.common.images import Image, list_images, read_image
from train.detector.recipe import load_recipe
from train.enhancer.data import Portrait, read_index, usable
from train.enhancer.occlude import row_of

ROOT = Path(__file__).parents[2]
CODE = ("stream_enhance", "train", "configs/train", "engines")
WEIGHTS = ("vgg", "lpips_heads", "embedder")  # files that an enhancer's recipe names
AROUND, TALLEST = 1.3, 240  # of a face kept: so many heights each way from its middle; its height in pixels at most
WIDEST = 1280  # pixels: longer side of the detector's images
RUN = """#!/bin/sh
# Unpack the kit that lies beside this file and run one of its commands: sh run.sh train --minutes 8.5
set -e
cd "$(dirname "$0")"
for part in kit_*.tar; do tar -xf "$part"; done
if [ -d wheels ]; then
    ${PYTHON:-python3} -m pip install -q --no-index --no-deps --no-compile --upgrade --target site wheels/*.whl
fi
export PYTHONPATH="$PWD:$PWD/site"
exec ${PYTHON:-python3} -m train.kit "$@"
"""
Files = Iterator[tuple[str, bytes]]  # (path in the kit, content)


def jpeg(image: Image, quality: int) -> bytes:
    """`image` (H, W, 3) uint8 RGB as a JPEG file."""
    return bytes(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def cut_out(portrait: Portrait) -> tuple[Image, Portrait]:
    """The face with its surroundings, (H, W, 3) uint8 RGB, at most TALLEST pixels high, and its place there."""
    image = read_image(portrait.path)
    (x, y), reach = portrait.center, AROUND * portrait.height
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    part = image[top : int(y + reach) + 1, left : int(x + reach) + 1]
    scale = min(1.0, TALLEST / portrait.height)
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    corner = np.array([left, top], np.float32)
    x1, y1, x2, y2 = ((np.array(portrait.xyxy) - np.tile(corner, 2)) * scale).tolist()
    return part, replace(portrait, xyxy=(x1, y1, x2, y2), points=(portrait.points - corner) * scale)


def face_files(folder: Path, name: str, quality: int) -> Files:
    """The usable faces of `folder`, as `name`/NNNNN.jpg and `name`/index.csv."""
    table = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for number, portrait in enumerate(usable(read_index(folder))):
        image, moved = cut_out(portrait)
        row: dict[str, Any] = row_of(moved, f"{number:05d}.jpg") | {"set": portrait.group}
        if writer is None:
            writer = csv.DictWriter(table, list(row))
            writer.writeheader()
        writer.writerow(row)
        yield f"{name}/{row['file']}", jpeg(image, quality)
    yield f"{name}/index.csv", table.getvalue().encode()


def code_files() -> Files:
    """The files of CODE that git knows; without git, all but caches."""
    git = subprocess.run(["git", "ls-files", "-z", *CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in git.stdout.split("\0") if name]
    if git.returncode or not paths:
        paths = [path for part in CODE for path in (ROOT / part).rglob("*") if "__pycache__" not in path.parts]
    for path in paths:
        if path.is_file():
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def weight_bytes(path: Path) -> bytes:
    """The file `path`; the tensors of a .safetensors file in half precision, which is enough for a frozen network."""
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights; correct the recipe")
    if path.suffix != ".safetensors":
        return path.read_bytes()
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in load_file(path).items()}
    return to_bytes(tensors)


def enhancer_files(recipe: Path, faces: Sequence[Path], start: Path | None, quality: int) -> Files:
    """The recipe, its frozen networks, where to start from, and the faces. A folder named twice is filmed twice."""
    tree: dict[str, Any] = read_yaml(recipe)
    for key in WEIGHTS:
        if tree.get(key):
            path = Path(tree[key])
            tree[key] = f"weights/{path.name}"
            yield tree[key], weight_bytes(path)
    names = {folder: f"faces/{number}_{folder.name}" for number, folder in enumerate(dict.fromkeys(faces))}
    for folder, name in names.items():
        yield from face_files(folder, name, quality)
    started = f"start{start.suffix}" if start else None
    if start and started:
        yield started, start.read_bytes()
    plan = {"faces": [names[folder] for folder in faces], "start": started}
    yield "plan.yaml", yaml.safe_dump(plan).encode()
    yield "enhancer.yaml", yaml.safe_dump(tree).encode()


def detector_files(path: Path, quality: int) -> Files:
    """The detector's recipe and all that its `data` and `train` read, images as JPEG of at most WIDEST pixels."""
    recipe, tree = load_recipe(path), read_yaml(path)
    for key in ("start", "teacher", "yunet", "hard_negative_model"):
        file: Path | None = getattr(recipe, key)
        if file is not None:
            if not file.is_file():
                raise InputError(f"{file}: no such file; correct `{key}` in {path}")
            tree[key] = f"detect/weights/{key}{file.suffix}"
            yield tree[key], file.read_bytes()
    for source in sorted(p for p in recipe.detect.rglob("*") if p.suffix == ".txt"):
        yield f"detect/sets/{source.relative_to(recipe.detect).as_posix()}", source.read_bytes()
    for folder, name in ((recipe.detect / "images", "detect/sets/images"), (recipe.backgrounds, "detect/places")):
        for source in list_images(folder):
            yield (
                f"{name}/{source.relative_to(folder).as_posix()}",
                small_jpeg(source, quality),
            )  # readers go by the content, not the suffix
    with open(recipe.faces / "index.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["set"] in recipe.face_sets]
    for row in rows:
        yield f"detect/faces/{row['file']}", jpeg(read_image(recipe.faces / row["file"]), quality)
    yield "detect/faces/index.csv", (recipe.faces / "index.csv").read_bytes()
    tree |= {"detect": "detect/sets", "faces": "detect/faces", "backgrounds": "detect/places", "cache": "detect/cache"}
    yield "detector.yaml", yaml.safe_dump(tree).encode()


def small_jpeg(path: Path, quality: int) -> bytes:
    """The image as a JPEG of at most WIDEST pixels; boxes in shares of the image stay true."""
    image = read_image(path)
    scale = min(1.0, WIDEST / max(image.shape[:2]))
    shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return jpeg(shrunk.astype(np.uint8, copy=False), quality)


def write_parts(out: Path, files: Mapping[str, bytes], most: int) -> list[Path]:
    """Tars of at most `most` bytes with `files`, in their order. Raises InputError for a file that is larger alone."""
    parts: list[tarfile.TarFile] = []
    size = most
    for name, content in files.items():
        room = 512 + -(-len(content) // 512) * 512  # header and whole blocks
        if room + 10240 > most:
            raise InputError(f"{name}: {len(content) / 1e6:.1f} MB does not fit a part; raise --most-mb")
        if size + room + 10240 > most:
            parts.append(tarfile.open(out / f"kit_{len(parts) + 1}.tar", "w"))  # noqa: SIM115  closed below
            size = 0
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o644
        parts[-1].addfile(entry, io.BytesIO(content))
        size += room
    for part in parts:
        part.close()
    return [Path(str(part.name)) for part in parts]


@click.command(cls=Command)
@click.option("--out", type=FILE, required=True, help="Folder for the tars and run.sh.")
@click.option("--faces", cls=Several, type=FILE, help="Folders with index.csv: faces, occluded ones, non-faces.")
@click.option("--recipe", type=FILE, default=ROOT / "configs/train/kit/enhancer.yaml", help="The enhancer's recipe.")
@click.option("--start", type=FILE, help="Weights that the enhancer starts from: a checkpoint or an exported file.")
@click.option("--detector", type=FILE, help="The detector's recipe; its images are packed too.")
@click.option("--wheels", type=FILE, help="Folder of wheels that the machine lacks, e.g. av and pydantic.")
@click.option("--quality", type=click.IntRange(1, 100), default=90, show_default=True, help="Of the JPEGs.")
@click.option("--most-mb", type=float, default=45, show_default=True, help="Size of a tar at most, MB.")
def command(
    out: Path,
    faces: tuple[Path, ...],
    recipe: Path,
    start: Path | None,
    detector: Path | None,
    wheels: Path | None,
    quality: int,
    most_mb: float,
) -> None:
    """Pack all that a training run on another machine needs.

    Name a folder of faces twice to film it twice as often. A tenth of the people of the first folder validate, and
    train under no name in the others.
    """
    if not faces and detector is None:
        raise InputError("nothing to train on; name folders with --faces or a recipe with --detector")
    if any(out.glob("kit_*.tar")):
        raise InputError(f"{out}: holds a kit already; name another folder")
    files = dict(code_files())
    for wheel in sorted(wheels.glob("*.whl")) if wheels else []:
        files[f"wheels/{wheel.name}"] = wheel.read_bytes()
    if faces:
        files |= dict(enhancer_files(recipe, faces, start, quality))
    if detector is not None:
        files |= dict(detector_files(detector, quality))
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.sh").write_text(RUN)
    for part in write_parts(out, files, round(most_mb * 1e6)):
        click.echo(f"{part}: {part.stat().st_size / 1e6:.1f} MB")
