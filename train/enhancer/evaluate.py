"""How good an enhancer is, on faces that it never saw.

`python -m train.enhancer evaluate --faces DIR --model ONNX --json OUT`.

Every face is degraded by `train.degrade` at each size, cut as the runtime cuts it, enhanced, and
compared with the truth. All measurements go to a table of rows (`--rows CSV`), from which
`python -m train.enhancer report` makes pages.
"""

import csv
import json
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import open_session
from stream_enhance.errors import InputError
from train.common.command import FILE, Command, Several
from train.common.images import read_image
from train.degrade import DEFAULT, KINDS, Ranges, degrade_clip
from train.enhancer.baselines import Method, Sample, bicubic, network, peers
from train.enhancer.cli import renamed
from train.enhancer.data import (
    SMALLEST,
    Portrait,
    detected,
    half_of,
    named,
    pair_of,
    patch_place,
    points_in,
    read_faces,
    split,
    usable,
)
from train.enhancer.metrics import Metrics, open_metrics

log = logging.getLogger("train.enhancer.evaluate")
SIZES = (16, 24, 32, 48, 64, 96)  # pixels: heights of the face in the frame
KIND_SIZE = 32  # the size at which single defects are measured
HARM = 0.02  # a face is harmed where its identity cosine falls by more than this below the bicubic input's
NUMBERS = ("psnr", "ssim", "lpips", "identity", "quality")
COLUMNS = ("method", "file", "group", "face_px", "kind", *NUMBERS)
Row = dict[str, Any]  # method, file, group, face_px, kind, and NUMBERS (None where not measured)


def samples(
    portraits: Sequence[Portrait], sizes: Sequence[int], kinds: Sequence[str], size: int, ranges: Ranges = DEFAULT
) -> Iterator[Sample]:
    """Every portrait at every size with all defects mixed, and with each of `kinds` alone at KIND_SIZE.

    What is drawn depends on the portrait's place in the list, the size and the kind, and on nothing else.
    """
    cases = [(face_px, "mixed") for face_px in sizes] + [(KIND_SIZE, kind) for kind in kinds]
    for index, portrait in enumerate(portraits):
        image = read_image(portrait.path)
        for face_px, kind in cases:
            rng = np.random.default_rng([index, face_px, 0 if kind == "mixed" else 1 + KINDS.index(kind)])
            only = None if kind == "mixed" else (kind,)
            seen = degrade_clip(image, portrait.center, portrait.height, rng, ranges, face_px, only)
            points = detected(points_in(seen.to_clean, portrait.points), face_px, rng)
            pair = pair_of(seen.frame, seen.clean, seen.to_clean, points, size)
            yield Sample(portrait, face_px, kind, seen.frame, patch_place(points, size), pair.low, pair.clean)


def measure(cases: Iterator[Sample], methods: Mapping[str, Method], metrics: Metrics) -> Iterator[Row]:
    """One row for each method and sample, as they come."""
    for sample in cases:
        images = [method(sample) for method in methods.values()]
        numbers = metrics(images, sample.clean)
        for name, values in zip(methods, numbers, strict=True):
            where = {"file": f"{sample.portrait.group}/{sample.portrait.path.name}", "group": sample.portrait.group}
            yield {"method": name, **where, "face_px": sample.face_px, "kind": sample.kind, **values}


def summary(rows: Sequence[Row], model: str = "model") -> dict[str, Any]:
    """The document that `--json` writes: for each size N the means of the input and of `model` over mixed defects."""
    out: dict[str, Any] = {}
    for face_px in sorted({row["face_px"] for row in rows if row["kind"] == "mixed"}):
        ours, theirs = (column_table(rows, name, face_px) for name in (model, "bicubic"))
        out[str(face_px)] = {
            **{key: {"bicubic": mean(theirs[key]), "model": mean(ours[key])} for key in ("psnr", "ssim", "lpips")},
            "identity": {"input": mean(theirs["identity"]), "model": mean(ours["identity"])},
            "harm_rate": mean(harmed(ours["identity"], theirs["identity"])),
        }
    return out


def column_table(
    rows: Sequence[Row], method: str, face_px: int | None = None, kind: str = "mixed"
) -> dict[str, NDArray[np.float64]]:
    """Each of NUMBERS over the faces of one method (all sizes where `face_px` is None), in the order of the rows."""
    chosen = [r for r in rows if r["method"] == method and r["kind"] == kind and face_px in (None, r["face_px"])]
    return {key: np.array([math.nan if r[key] is None else r[key] for r in chosen], np.float64) for key in NUMBERS}


def harmed(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where a face lost more than HARM of its identity cosine, 0 where not, NaN where it was not measured."""
    lost = (ours < theirs - HARM).astype(np.float64)
    lost[np.isnan(ours) | np.isnan(theirs)] = math.nan
    return lost


def mean(values: NDArray[np.float64]) -> float | None:
    """The mean, or None where nothing was measured."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def read_rows(path: Path) -> list[Row]:
    """What `written` wrote. Raises InputError where there is no such file."""
    try:
        with open(path, newline="") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    for row in rows:
        row["face_px"] = int(row["face_px"])
        row.update({key: float(row[key]) if row[key] else None for key in NUMBERS})
    return rows


@dataclass(frozen=True)
class Options:
    """The command line's options; see its help."""

    faces: Path
    model: tuple[str, ...] = ()
    json: Path | None = None
    rows: Path | None = None
    sizes: tuple[int, ...] = SIZES
    kinds: bool = False
    sets: tuple[str, ...] = ()
    people: Path | None = None
    held_out: float = 0
    half: int | None = None
    limit: int = 0
    peers: bool = False
    peer_models: Path | None = None
    ncnn_models: Path | None = None
    vgg: Path | None = None
    lpips_heads: Path | None = None
    dlib: Path | None = None
    quality: Path | None = None
    without: tuple[str, ...] = ()
    threads: int = 0


def choose(given: Options) -> list[Portrait]:
    """The faces that `given` names: held out where asked, no more than `limit`, and of these the usable ones."""
    portraits = read_faces(given.faces, given.sets or None)
    if given.people:
        portraits = named(portraits, given.people, given.faces)
    if given.held_out:
        portraits = split(portraits, given.held_out)[1]
    if given.half is not None:
        portraits = [portrait for portrait in portraits if half_of(portrait.person) == given.half]
        if not portraits:
            raise InputError(f"--half {given.half}: holds none of these people")
    if given.limit and given.limit < len(portraits):
        picks = np.random.default_rng(0).permutation(len(portraits))[: given.limit]
        portraits = [portraits[int(k)] for k in np.sort(picks)]
    return usable(portraits, SMALLEST)


def run(given: Options) -> list[Row]:
    """Measure what `given` asks for; the rows."""
    for path in (given.json, given.rows):  # now: a measurement takes hours
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise InputError(f"{path}: cannot be written; name a file in an existing folder")
    if min(given.sizes) < 1:
        raise InputError(f"--sizes {min(given.sizes)}: not a height of a face; name pixels, 1 or more")
    metrics = open_metrics(given.vgg, given.lpips_heads, given.dlib, given.quality, given.without)
    for name, why in metrics.missing.items():
        log.warning("%s is left out (null in the results): %s", name, why)
    if given.threads and "torch" in sys.modules:  # LPIPS has imported it
        sys.modules["torch"].set_num_threads(given.threads)
    portraits = choose(given)
    with ExitStack() as held:
        methods: dict[str, Method] = {"bicubic": bicubic}
        if given.peers:
            methods |= peers(given.peer_models, given.ncnn_models)
        size = 256
        for item in given.model:
            name, equals, file = item.rpartition("=")
            opened = open_session(Path(file), "face-enhancement", "cpu", given.threads, precision="fp32")
            session = held.enter_context(opened)
            methods[name if equals else "model"] = network(session)
            size = session.card.size
        log.info("%d faces, sizes %s: %s", len(portraits), given.sizes, ", ".join(methods))
        cases = samples(portraits, given.sizes, KINDS if given.kinds else (), size)
        measured = measure(cases, methods, metrics)
        return list(measured if given.rows is None else written(measured, given.rows))


def written(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    """`rows` as they come, each put into the CSV first: what was measured before a stop is kept."""
    with open(path, "w", newline="", buffering=1) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            yield row


@click.command(cls=Command)
@click.option("--faces", type=FILE, required=True, help="Folder of good faces, with or without an index.csv.")
@click.option("--model", multiple=True, metavar="[NAME=]ONNX", help="An enhancer; may be given more than once.")
@click.option("--json", type=FILE, help="Where the summary goes; without, it is printed.")
@click.option("--rows", type=FILE, help="Where every single measurement goes, as CSV.")
@click.option("--sizes", cls=Several, type=int, default=SIZES, show_default=True, help="Face heights in pixels.")
@click.option("--kinds", is_flag=True, help=f"Each defect alone too, at {KIND_SIZE} pixels.")
@click.option("--sets", cls=Several, help="Sets of the index to use (all).")
@click.option("--people", type=FILE, help="JSON {file: person}.")
@click.option("--held-out", type=float, default=0, help="Only the share of people that training held out.")
@click.option("--half", type=click.IntRange(0, 1), help="Of these people: 0 to choose by, 1 to report on.")
@click.option("--limit", type=int, default=0, help="At most so many faces, always the same random ones.")
@click.option("--peers", is_flag=True, help="Lanczos and the classical chain too.")
@click.option("--peer-models", type=FILE, help="Folder with ESPCN_x4.pb and FSRCNN_x4.pb.")
@click.option("--ncnn-models", type=FILE, help="Folder with SPAN's and Real-ESRGAN's .param and .bin.")
@click.option("--vgg", type=FILE, help="VGG16's weights (.pth or .safetensors) instead of torchvision's download.")
@click.option("--lpips-heads", type=FILE, help="LPIPS's heads instead of the lpips package's.")
@click.option("--dlib", type=FILE, help="Folder of dlib's models instead of face-recognition-models'.")
@click.option("--quality", type=FILE, help="LightQNet, ONNX, for the score without a reference.")
@click.option("--without", cls=Several, type=click.Choice(["lpips", "identity"]), help="Measures to skip.")
@click.option("--threads", type=int, default=0, help="CPU threads; 0: one a core.")
def command(**options: Any) -> None:
    """Measure enhancers on faces that they never saw."""
    given = Options(**options)
    cv2.setNumThreads(given.threads or -1)
    write_summary(run(given), given.json)


def write_summary(rows: Sequence[Row], path: Path | None) -> None:
    """Write the summary of `rows` to `path`, or print it."""
    name = "model" if any(row["method"] == "model" for row in rows) else rows[-1]["method"]
    text = json.dumps(summary(rows, name), indent=1)
    if path:
        path.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.evaluate"))
