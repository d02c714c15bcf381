"""The rows of `train.enhancer.evaluate` as tables and a page.

`python -m train.enhancer report rows.csv --out report.html --markdown tables.md`.

Tables with bootstrap 95 % intervals, a plot for each number, and, where `--faces` and `--model` are given too, images
side by side, the worst first.
"""

import base64
import html
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import open_session
from stream_enhance.errors import InputError
from train.common.bootstrap import interval
from train.common.command import FILE, Command
from train.common.images import Image
from train.enhancer.baselines import Sample, network
from train.enhancer.cli import renamed
from train.enhancer.data import read_faces
from train.enhancer.evaluate import Row, column_table, harmed, mean, read_rows, samples

NUMBERS = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS (VGG16)", "identity": "identity cosine (dlib)"}
DIGITS = {"psnr": 2}
STYLE = (
    "body{font:15px/1.5 system-ui;margin:2em auto;max-width:75em;padding:0 1em}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;border-bottom:1px solid #ccc;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    "small{color:#777}img{max-width:100%}"
)


def cell(values: NDArray[np.float64], digits: int = 3) -> str:
    """Mean and interval of a table's cell, or a dash where nothing was measured."""
    middle, around = mean(values), interval(values)
    if middle is None or around is None:
        return "–"
    return f"{middle:.{digits}f} [{around[0]:.{digits}f}, {around[1]:.{digits}f}]"


def methods_of(rows: Sequence[Row]) -> list[str]:
    """The methods in the order in which they were measured."""
    return list(dict.fromkeys(row["method"] for row in rows))


def common(rows: Sequence[Row]) -> list[Row]:
    """The rows of those images that every method was measured on: only these can be compared."""
    seen: dict[tuple[str, int, str], set[str]] = {}
    for row in rows:
        seen.setdefault((row["file"], row["face_px"], row["kind"]), set()).add(row["method"])
    every = set(methods_of(rows))
    return [row for row in rows if seen[row["file"], row["face_px"], row["kind"]] == every]


def table(rows: Sequence[Row], key: str) -> list[list[str]]:
    """One number by method and face size, with a line of heads."""
    sizes = sorted({row["face_px"] for row in rows if row["kind"] == "mixed"})
    lines = [[NUMBERS.get(key, key), *(f"{n} px" for n in sizes)]]
    for method in methods_of(rows):
        tables = [column_table(rows, method, n) for n in sizes]
        lines.append([method, *(cell(t[key], DIGITS.get(key, 3)) for t in tables)])
    return lines


def against_input(rows: Sequence[Row], key: str) -> list[list[str]]:
    """As `table`, of each face's difference from the bicubic input ("harm": the share of faces harmed)."""
    sizes = sorted({row["face_px"] for row in rows if row["kind"] == "mixed"})
    lines = [["harm rate" if key == "harm" else f"{NUMBERS[key]}: gain", *(f"{n} px" for n in sizes)]]
    for method in methods_of(rows):
        if method == "bicubic":
            continue
        cells = []
        for n in sizes:
            ours, theirs = column_table(rows, method, n), column_table(rows, "bicubic", n)
            if key == "harm":
                cells.append(cell(harmed(ours["identity"], theirs["identity"])))
            else:
                cells.append(cell(ours[key] - theirs[key], DIGITS.get(key, 3)))
        lines.append([method, *cells])
    return lines


def by_kind(rows: Sequence[Row], method: str) -> list[list[str]]:
    """Gains of `method` over the input for each defect alone."""
    kinds = [k for k in dict.fromkeys(row["kind"] for row in rows) if k != "mixed"]
    lines = [["defect alone", *NUMBERS.values(), "harm rate"]]
    for kind in kinds:
        ours, theirs = column_table(rows, method, kind=kind), column_table(rows, "bicubic", kind=kind)
        gains = [cell(ours[key] - theirs[key], DIGITS.get(key, 3)) for key in NUMBERS]
        lines.append([kind, *gains, cell(harmed(ours["identity"], theirs["identity"]))])
    return lines if len(lines) > 1 else []


def by_people(rows: Sequence[Row], method: str) -> list[list[str]]:
    """Gains of `method` by group of people, for files named as UTKFace names them: age_gender_origin_...

    The groups are the data set's own labels, guessed by others from images; they describe the data set, not any person.
    """
    names = {
        "0": ["man", "White"],
        "1": ["woman", "Black"],
        "2": ["", "Asian"],
        "3": ["", "Indian"],
        "4": ["", "other"],
    }
    groups: dict[str, list[Row]] = {}
    for row in rows:
        parts = Path(row["file"]).name.split("_")
        if len(parts) < 4 or not all(part.isdigit() for part in parts[:3]) or row["kind"] != "mixed":
            continue
        age = int(parts[0])
        of = [f"age {'under 30' if age < 30 else '30 to 59' if age < 60 else '60 and over'}"]
        for group in [*of, names.get(parts[1], ["?"])[0], names.get(parts[2], ["", "?"])[1]]:
            groups.setdefault(group, []).append(row)
    lines = [["group (UTKFace's labels)", "faces", *NUMBERS.values(), "harm rate"]]
    for group, chosen in sorted(groups.items()):
        ours, theirs = column_table(chosen, method), column_table(chosen, "bicubic")
        gains = [cell(ours[key] - theirs[key], DIGITS.get(key, 3)) for key in NUMBERS]
        people = str(len({row["file"] for row in chosen}))
        lines.append([group, people, *gains, cell(harmed(ours["identity"], theirs["identity"]))])
    return lines if len(lines) > 1 else []


def tables_of(rows: Sequence[Row], method: str) -> list[tuple[str, list[list[str]]]]:
    """(title, lines) of every table; the gains are `method`'s where a table has one method only."""
    found = [(NUMBERS[key], table(rows, key)) for key in NUMBERS]
    found += [("Gain in identity over the input", against_input(rows, "identity"))]
    found += [("Gain in PSNR over the input", against_input(rows, "psnr"))]
    found += [("Faces harmed: identity cosine more than 0.02 under the input's", against_input(rows, "harm"))]
    if any(row["quality"] is not None for row in rows):
        found += [("Score without a reference (LightQNet)", table(rows, "quality"))]
    found += [(f"Each defect alone, gain of {method}", by_kind(rows, method))]
    found += [(f"By group of people, gain of {method}", by_people(rows, method))]
    return [(title, lines) for title, lines in found if lines]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def html_table(lines: Sequence[Sequence[str]]) -> str:
    """A table in HTML."""
    head, *body = lines
    top = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    rest = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in line) + "</tr>" for line in body)
    return f"<table><tr>{top}</tr>{rest}</table>"


def plot(rows: Sequence[Row], key: str) -> str:
    """One number against the face's size, every method a line with its interval, as an inline SVG image."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = sorted({row["face_px"] for row in rows if row["kind"] == "mixed"})
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for method in methods_of(rows):
        columns = [column_table(rows, method, n)[key] for n in sizes]
        known = [(n, m, interval(c)) for n, c in zip(sizes, columns, strict=True) if (m := mean(c)) is not None]
        if not known:
            continue
        xs = [n for n, _, _ in known]
        line = axes.plot(xs, [m for _, m, _ in known], marker="o", label=method)[0]
        spans = np.array([around for _, _, around in known])
        axes.fill_between(xs, spans[:, 0], spans[:, 1], alpha=0.15, color=line.get_color())
    axes.set(xscale="log", xticks=sizes, xticklabels=[str(n) for n in sizes], xlabel="face height, px")
    axes.set_ylabel(NUMBERS[key])
    axes.legend(fontsize=7)
    memory = io.BytesIO()
    figure.savefig(memory, format="svg", bbox_inches="tight")
    pyplot.close(figure)
    return f'<img alt="{NUMBERS[key]}" src="data:image/svg+xml;base64,{base64.b64encode(memory.getvalue()).decode()}">'


def worst(rows: Sequence[Row], method: str, count: int) -> list[tuple[str, int, float]]:
    """(file, size, gain in identity, else in PSNR) of `method`'s worst results with mixed defects, worst first."""
    ours = {(r["file"], r["face_px"]): r for r in rows if r["method"] == method and r["kind"] == "mixed"}
    theirs = {(r["file"], r["face_px"]): r for r in rows if r["method"] == "bicubic" and r["kind"] == "mixed"}
    key = "identity" if all(r["identity"] is not None for r in ours.values()) else "psnr"
    gains = [(file, size, float(ours[file, size][key] - theirs[file, size][key])) for file, size in ours]
    return sorted(gains, key=lambda gain: gain[2])[:count]


def images(rows: Sequence[Row], measured: Sequence[str], method: str, faces: Path, model: Path, count: int = 24) -> str:
    """The worst cases as input | output | truth, worst first.

    `measured` are all files of the evaluation in its order, on which what the camera does to each depends, and `faces`
    is the folder that they are in.
    """
    by_name = {f"{p.group}/{p.path.name}": p for p in read_faces(faces)}
    missing = [name for name in measured if name not in by_name]
    if missing:
        raise InputError(f"{faces}: does not hold {missing[0]}, which the rows were measured on")
    wanted = {(file, size): gain for file, size, gain in worst(rows, method, count)}
    found: dict[tuple[str, int], Sample] = {}
    sizes = sorted({size for _, size in wanted})
    for sample in samples([by_name[name] for name in measured], sizes, (), 256):
        at = (f"{sample.portrait.group}/{sample.portrait.path.name}", sample.face_px)
        if at in wanted:
            found[at] = sample
    parts = []
    with open_session(model, "face-enhancement", "cpu", precision="fp32") as session:
        enhance = network(session)
        for at, gain in wanted.items():
            trio = np.hstack([found[at].low, enhance(found[at]), found[at].clean])
            parts.append(f"<p>{html.escape(at[0])}, {at[1]} px, {gain:+.3f}<br>{inline(trio)}</p>")
    return "".join(parts)


def inline(image: Image) -> str:
    """An <img> that carries its JPEG."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def page(rows: Sequence[Row], method: str, shown: str = "") -> str:
    """The whole HTML page."""
    parts = ["<!doctype html><meta charset=utf-8><title>Enhancers compared</title>", f"<style>{STYLE}</style>"]
    parts.append("<h1>Enhancers compared</h1><p>Means over faces, bootstrap 95 % intervals in brackets.</p>")
    if shown:
        parts.append(f"<h2>Worst cases first</h2><p>input | {html.escape(method)} | truth</p>{shown}")
    parts += [plot(rows, key) for key in NUMBERS if any(row[key] is not None for row in rows)]
    parts += [f"<h2>{html.escape(title)}</h2>{html_table(lines)}" for title, lines in tables_of(rows, method)]
    return "\n".join(parts)


@click.command(cls=Command)
@click.argument("rows", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="The HTML page.")
@click.option("--markdown", "tables", type=FILE, help="A file for the tables alone.")
@click.option("--method", default="model", show_default=True, help="Whose gains and worst cases are shown.")
@click.option("--faces", type=FILE, help="Folder of the faces measured, to show images.")
@click.option("--model", type=FILE, help="ONNX of the method, to show images.")
def command(
    rows: tuple[Path, ...], out: Path, tables: Path | None, method: str, faces: Path | None, model: Path | None
) -> None:
    """Make a page of ROWS, the CSVs that `evaluate --rows` wrote; where several hold one method, the first counts."""
    found: list[Row] = []
    for path in rows:
        have = set(methods_of(found))
        found += [row for row in read_rows(path) if row["method"] not in have]
    if method not in methods_of(found):
        raise InputError(f"--method {method}: not among {', '.join(methods_of(found))}")
    measured = list(dict.fromkeys(row["file"] for row in found))
    compared = common(found)
    if not compared:
        raise InputError("no image was measured by all methods; evaluate them on the same faces, sizes and limit")
    if len(compared) < len(found):
        print(f"{len(found) - len(compared)} rows left out: not every method was measured on their images")
    shown = images(compared, measured, method, faces, model) if faces and model else ""
    out.write_text(page(compared, method, shown))
    if tables:
        parts = [f"### {title}\n\n{markdown(lines)}" for title, lines in tables_of(compared, method)]
        tables.write_text("\n\n".join(parts) + "\n")
    print(out)


if __name__ == "__main__":
    sys.exit(renamed("train.enhancer.report"))
