"""What `python -m train.detector eval` and `... calibrate` do."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stream_enhance.errors import InputError
from train.common.images import write_image
from train.detector.boxes import labels
from train.detector.eval import clips, comparison, peers, report, tracks
from train.detector.eval.evaluate import detect, evaluate, load_set, save_summary, summary
from train.detector.recipe import Recipe

BARS = {"ours": 0.4, "teacher": 0.3, "yunet": 0.3}  # thresholds on the clips; ours is the runtime's default


def finders(recipe: Recipe, network: Path) -> dict[str, Callable[[], peers.Finder]]:
    """All five detectors, opened when they are first needed."""
    known: dict[str, Callable[[], peers.Finder]] = {
        "ours": partial(peers.yolo, network),
        "teacher": lambda: peers.yolo(peers.teacher_onnx(recipe.teacher, recipe.cache / "teacher.onnx")),
        "yunet": partial(peers.yunet, recipe.yunet),
        "haar": peers.haar,
    }
    if recipe.start is not None and recipe.start.suffix == ".onnx":
        known["nudenet"] = partial(peers.yolo, recipe.start, recipe.start_classes)
    return known


def measure(recipe: Recipe, network: Path, out: Path, only: tuple[str, ...], names: tuple[str, ...]) -> str:
    """Evaluate, write `summary.json`, `tables.md` and `recall.png` into `out`; the tables."""
    known = finders(recipe, network)
    unknown = set(only) - set(known)
    if unknown:
        raise InputError(f"{', '.join(sorted(unknown))}: no such detector; choose from {', '.join(known)}")
    chosen = {name: known[name] for name in (only or known)}
    pools = evaluate(recipe, out / "detections", chosen, names)
    result = summary(pools)
    save_summary(out / "summary.json", result)
    parts = []
    for name in names:
        parts += [f"### {name}", report.overall(result, name), report.by_size(result, name, "recall")]
        parts += [report.by_size(result, name, "ap50")]
    if {"ours", "teacher"} <= set(chosen):
        parts += ["### ours against the teacher", comparison.table(pools, "teacher")]
    text = "\n\n".join(parts) + "\n"
    (out / "tables.md").write_text(text)
    if "made" in names:
        report.plot(result, out / "recall.png")
    return text


def measure_clips(recipe: Recipe, network: Path, videos: Path, out: Path) -> str:
    """Ours, the teacher and YuNet on the real clips in `videos`; writes `clips.md`, `clips.png`, and images into `out`.

    Ours is shown at its default threshold and at the one that gives the teacher's false alarms.
    """
    known = finders(recipe, network)
    paths = [*sorted(videos.glob("cctv_*.mp4")), videos / "multi_hamilton_short.mp4"]
    tallies: dict[tuple[int, str], dict[str, list[clips.Tally]]] = {}
    chains: dict[tuple[int, str], list[dict[str, float]]] = {}
    for path in paths:
        frames = clips.read_runs(path)
        kept = recipe.cache / "refs" / f"{path.stem}.pickle"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            teacher, yunet = known["teacher"](), known["yunet"]()
            kept.write_bytes(pickle.dumps([clips.refer(frame, teacher, yunet) for frame in frames]))
        references = pickle.loads(kept.read_bytes())
        for side in (320, 640):
            for name in ("ours", "teacher", "yunet"):
                samples = [(frame, labels()) for frame in frames]
                rows = detect(out / "detections", name, path.stem, side, partial(list, samples), known[name])
                tallies.setdefault((side, name), {})[path.stem] = clips.tally(rows, references)
                chains.setdefault((side, name), []).append(tracks.followed(rows, references, BARS[name]))
                if name == "ours":
                    show(out / f"{path.stem}_{side}.jpg", frames, rows, references)
    text = report.clips_table(compare(tallies)) + "\n\n" + report.tracks_table(chains, BARS) + "\n"
    report.plot_clips(tallies, out / "clips.png")
    (out / "clips.md").write_text(text)
    return text


def calibrate(recipe: Recipe, network: Path, out: Path) -> str:
    """The score at which `network` makes as many false alarms as the teacher at its threshold, on the station's and the
    validation images judged like clips (labels miss faces there); the `score_shift` that brings this score to 0.4."""
    known = finders(recipe, network)
    samples = [sample for name in ("station", "val") for sample in load_set(recipe, name)]
    kept = recipe.cache / "refs" / "stills.pickle"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        teacher, yunet = known["teacher"](), known["yunet"]()
        kept.write_bytes(pickle.dumps([clips.refer(image, teacher, yunet) for image, _ in samples]))
    references = pickle.loads(kept.read_bytes())
    lines = []
    for side in (320, 640):
        held = {}
        for name in ("ours", "teacher"):
            rows = detect(out / "detections", name, "stills", side, lambda: samples, known[name])
            held[name] = [tally for i, row in enumerate(rows) for tally in clips.tally([row], references[i : i + 1])]
        theirs = clips.at(held["teacher"], BARS["teacher"])
        bar = clips.score_for(held["ours"], theirs["alarms"])
        ours = clips.at(held["ours"], bar)
        shift = np.log(BARS["ours"] / (1 - BARS["ours"])) - np.log(bar / (1 - bar))
        lines.append(
            f"{side}: teacher at {BARS['teacher']:.2f} recall {theirs['recall']:.3f},"
            f" {theirs['alarms']:.3f} false alarms an image; ours at {bar:.3f} recall {ours['recall']:.3f},"
            f" {ours['alarms']:.3f}; score_shift {shift:+.2f}"
        )
    return "\n".join(lines)


def show(path: Path, frames: list[Any], rows: list[Any], references: list[clips.Reference], score: float = 0.4) -> None:
    """One frame of each run with what was found (green) and the reference faces that were missed (red)."""
    images = []
    for number in range(clips.LENGTH // 2, len(frames), clips.LENGTH):
        tally = clips.tally([rows[number]], [references[number]])[0]
        missed = references[number].faces[tally.found <= score]
        images.append(report.drawn(frames[number], rows[number], score, missed))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.concatenate(images))


def compare(tallies: dict[tuple[int, str], dict[str, list[clips.Tally]]]) -> list[dict[str, Any]]:
    """Rows for the clips' table: all together, all but the clip with most faces, and each clip; every detector at its
    threshold of `BARS`, ours also at the one that gives the teacher's rate of false alarms over the same frames (of
    single clips: over all)."""
    rows = []
    for side in (320, 640):
        names = list(tallies[side, "ours"])
        fullest = max(names, key=lambda name: sum(len(t.found) for t in tallies[side, "ours"][name]))
        bars: dict[str, float] = {}
        groups = {"all": names, f"all but {fullest}": [name for name in names if name != fullest]}
        for title, members in (groups | {name: [name] for name in names}).items():
            mine = {
                who: [t for name in members for t in tallies[side, who][name]] for who in ("ours", "teacher", "yunet")
            }
            if title in groups:
                bars[title] = clips.score_for(mine["ours"], clips.at(mine["teacher"], BARS["teacher"])["alarms"])
            for who, held in mine.items():
                for bar in (BARS[who], bars.get(title, bars["all"])) if who == "ours" else (BARS[who],):
                    row = {"clip": title, "side": side, "detector": who, "score": bar} | clips.at(held, bar)
                    rows.append(row | {"interval": clips.recall_interval(held, bar)})
    return rows
