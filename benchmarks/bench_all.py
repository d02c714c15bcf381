"""One report of what this machine does: networks, the line against its baselines, and what other cards should do.

    python -m benchmarks.bench_all --out DIR [--clip CLIP] [--weights yolov8n-face.pt] [--quick]

Writes ``DIR/report.md`` with its conditions, ``DIR/report.json`` with every figure and ``DIR/session.png``.  A part
that fails is a line that says why; the others run.  ``--quick`` takes two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bench_baselines, bench_cameras, bench_session
from benchmarks.conditions import conditions
from benchmarks.roofline import CARDS, table

CLIP = Path(__file__).parents[1] / "tests" / "clips" / "demo.mp4"


@dataclass(frozen=True)
class Part:
    """One part of the report."""

    title: str
    measure: Callable[[], Any]
    lines: Callable[[Any], list[str]]  # Markdown


def parts(clip: Path, weights: str, quick: bool) -> dict[str, Part]:
    """The parts by name, in the report's order."""
    batches, rounds, runs, frames = ([1], 2, 1, 6) if quick else ([1, 2, 4, 8], 5, 3, 100)
    return {
        "session": Part(
            "Networks, one core",
            lambda: bench_session.measure(batches, rounds, 1, quick),
            bench_session.table,
        ),
        "baselines": Part(
            f"The line against its baselines, {frames} frames of {clip.name}",
            lambda: bench_baselines.measure(str(clip), runs, frames, weights, []),
            bench_baselines.table,
        ),
        "cameras": Part(
            f"How many cameras of 640x360 at 25 frames/s, showing {clip.name}",
            lambda: bench_cameras.measure(
                str(clip), "640x360", 25, range(1, 2 if quick else 33), seconds=3 if quick else 15, script=False
            ),
            bench_cameras.table,
        ),
        "cards": Part("Other cards, *predicted*", lambda: [table(card) for card in CARDS.values()], _joined),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for report.md, report.json and session.png")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--weights", default="", help="ultralytics' own .pt for the baselines; ours without")
    parser.add_argument("--quick", action="store_true", help="everything small: shows that it works, not how fast")
    parser.add_argument("--only", default="", help="parts, separated by commas")
    given = parser.parse_args(arguments)
    known = parts(given.clip, given.weights, given.quick)
    chosen = [name.strip() for name in given.only.split(",") if name.strip()] or list(known)
    if unknown := set(chosen) - set(known):
        parser.error(f"--only {', '.join(sorted(unknown))}: no such part; there are {', '.join(known)}")
    given.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"quick": given.quick, "conditions": conditions(), "parts": {}, "failed": {}}
    text = ["# Benchmarks", "", "; ".join(f"{key} {value}" for key, value in report["conditions"].items()), ""]
    if given.quick:
        text += ["Quick: it shows that everything runs; its figures are not to be quoted.", ""]
    for name in chosen:
        text += [f"## {known[name].title}", ""]
        try:
            report["parts"][name] = found = known[name].measure()
            text += [*known[name].lines(found), ""]
        except (Exception, SystemExit) as error:  # a part's failure is a line, not the end of the others
            report["failed"][name] = why = f"{type(error).__name__}: {error}"[:300]
            text += [f"Failed: {why.splitlines()[0]}", ""]
        if name == "session" and name in report["parts"]:
            plot(report["parts"][name], given.out / "session.png")
            text += ["![ms an item by batch size](session.png)", ""]
        (given.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (given.out / "report.md").write_text("\n".join(text))
    return 1 if report["failed"] else 0


def _joined(tables: list[list[str]]) -> list[str]:
    return [line for lines in tables for line in [*lines, ""]][:-1]


def plot(found: dict[str, Any], path: Path) -> None:
    """Milliseconds an item by batch size, each provider beside the roofline."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(9, 3.5), layout="constrained")
    for panel, (network, each) in zip(panels, found.items(), strict=True):
        for provider in dict.fromkeys(row["provider"] for row in each["rows"]):
            points = [(row["batch"], row["ms"]) for row in each["rows"] if row["provider"] == provider]
            panel.plot(*zip(*points, strict=True), marker="o", label=provider)
        expected = sorted({(row["batch"], row["predicted"]) for row in each["rows"]})
        panel.plot(*zip(*expected, strict=True), "k--", marker="x", label="roofline, one core")
        panel.set(title=network, xlabel="batch", ylabel="ms an item", ylim=(0, None))
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
