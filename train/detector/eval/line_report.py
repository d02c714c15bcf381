"""Tables of `python -m train.detector evaluate-tracks`, as Markdown, and precision and recall by clip as an image."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.detector.eval.line import FrameResult, TrackResult, interval, recall_at

RATES = (0.1, 0.5)  # false detections a frame
Pick = Callable[[FrameResult], NDArray[np.bool_]]


def groups() -> dict[str, Pick]:
    """Kinds of faces whose recall is shown: by height, pose and light."""

    def sized(low: float, high: float) -> Pick:
        return lambda r: (r.height >= low) & (r.height < high)

    def posed(pose: str) -> Pick:
        return lambda r: r.pose == pose

    picks: dict[str, Pick] = {"all": lambda r: np.ones(len(r.best), bool)}
    for low, high in ((0, 12), (12, 16), (16, 24), (24, 40), (40, 1e9)):
        picks[f"{low}-{high} px" if high < 1e9 else f"{low} px and more"] = sized(low, high)
    for pose in ("frontal", "three-quarter", "profile", "bowed"):
        picks[pose] = posed(pose)
    picks["dark (luma below 60)"] = lambda r: r.luma < 60
    return picks


def shown(value: float, bounds: tuple[float, float]) -> str:
    """A figure with its interval."""
    return "–" if np.isnan(value) else f"{value:.3f} ({bounds[0]:.2f}–{bounds[1]:.2f})"


def frames_table(results: Mapping[tuple[str, int], Sequence[FrameResult]]) -> str:
    """Recall at each rate of false detections, for each network and size, by kind of face."""
    keys = list(results)
    lines = ["| faces | n | at false a frame | " + " | ".join(f"{name} {size}" for name, size in keys) + " |"]
    lines.append("|---" * (3 + len(keys)) + "|")
    for title, pick in groups().items():
        count = sum(int(pick(r).sum()) for r in results[keys[0]])
        for rate in RATES if title == "all" else RATES[1:]:
            cells = []
            for key in keys:
                held = results[key]

                def figure(
                    draw: NDArray[np.int64], held: Sequence[FrameResult] = held, rate: float = rate, pick: Pick = pick
                ) -> float:
                    return recall_at([held[i] for i in draw], rate, pick)

                cells.append(shown(recall_at(held, rate, pick), interval(len(held), figure, 200)))
            lines.append(f"| {title} | {count} | {rate} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tracks_table(results: Mapping[tuple[str, int, float], Sequence[TrackResult]]) -> str:
    """Track-level figures, for each network, size and threshold, over all clips but the crowd."""

    def ratio(held: Sequence[TrackResult], above: str, below: str) -> str:
        def figure(draw: NDArray[np.int64] | range) -> float:
            return sum(getattr(held[i], above) for i in draw) / max(sum(getattr(held[i], below) for i in draw), 1e-9)

        low, high = interval(len(held), figure)
        return f"{figure(range(len(held))):.2f} ({low:.2f}–{high:.2f})"

    lines = [
        "| network | size | score | found within 1 s | frames covered | breaks a person | switches a person"
        " | false tracks a minute | of them heads |",
        "|---" * 9 + "|",
    ]
    for (name, size, score), held in results.items():
        heads = sum(r.on_heads for r in held)
        cells = [
            ratio(held, "in_time", "persons"),
            ratio(held, "covered", "instants"),
            ratio(held, "breaks", "persons"),
            ratio(held, "switches", "persons"),
            ratio(held, "false", "minutes"),
        ]
        lines.append(f"| {name} | {size} | {score} | " + " | ".join(cells) + f" | {heads} |")
    return "\n".join(lines)


def plot_clips(results: Mapping[tuple[str, int], Mapping[str, FrameResult]], path: Path) -> None:
    """Precision over recall, one panel a clip, one line a network at the largest size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [n for n, r in next(iter(results.values())).items() if len(r.best)]
    columns = 4
    figure, axes = plt.subplots(-(-len(names) // columns), columns, figsize=(13, 3 * -(-len(names) // columns)))
    for axis in axes.flat:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        axis.axis("on")
        for (network, size), held in results.items():
            order = np.argsort(-held[name].score, kind="stable")
            right = np.cumsum(held[name].right[order])
            recall, precision = right / len(held[name].best), right / np.arange(1, len(right) + 1)
            axis.plot(recall, precision, label=f"{network} {size}", linewidth=1)
        axis.set(title=f"{name} ({len(held[name].best)})", xlim=(0, 1), ylim=(0, 1.02))
        axis.title.set_fontsize(8)
    axes.flat[0].legend(fontsize=7)
    figure.supxlabel("recall")
    figure.supylabel("precision")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
