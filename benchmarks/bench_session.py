"""Milliseconds of each shipped network by batch size and provider, beside the roofline, and what our session adds.

    python -m benchmarks.bench_session [--batches 1,2,4,8] [--rounds 5] [--quick]

Rounds of all providers are interleaved.  ``overhead`` compares our session on the CPU with a bare ``session.run`` of
onnxruntime with the same options, in the same rounds: the ratio of the medians.  The roofline is for one core of this
CPU, measured here; it is a prediction, and its error is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.conditions import conditions, save
from benchmarks.roofline import MEMORY, NETWORKS, Graph, Network, predict, this_cpu
from stream_enhance.backends import ProviderName, open_session
from stream_enhance.backends.onnx import OnnxSession, available
from stream_enhance.errors import ModelError

TASKS = ("face-enhancement", "face-detection")  # in the order of NETWORKS
Run = Callable[[NDArray[np.float32]], object]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="batch 1, two rounds, small inputs")
    given = parser.parse_args(arguments)
    batches = [1] if given.quick else [int(n) for n in given.batches.split(",")]
    print(json.dumps(conditions()))
    found = measure(batches, 2 if given.quick else given.rounds, given.threads, given.quick)
    print("\n".join(table(found)))
    save("session", found)


def measure(batches: list[int], rounds: int, threads: int, small: bool = False) -> dict[str, Any]:
    """{network: rows of provider, batch, ms an item and predicted ms; and the overhead of our session}."""
    found: dict[str, Any] = {}
    core = this_cpu()
    for network, task in zip(NETWORKS, TASKS, strict=True):
        size = (256, 256) if small else (network.height, network.width)
        with ExitStack() as opened:
            runs = _runs(network, task, threads, opened)
            rows = []
            for batch in batches:
                image = np.random.default_rng(0).random((batch, 3, *size), dtype=np.float32)
                kernels = list(Graph(network.file, batch, *size).kernels())
                predicted = predict(kernels, core, MEMORY, MEMORY) / batch * 1e3
                for name, times in interleaved(runs, image, rounds).items():
                    ms = statistics.median(times) / batch * 1e3
                    rows.append(
                        {"provider": name, "batch": batch, "ms": round(ms, 2), "predicted": round(predicted, 2)}
                    )
            found[network.name] = {"rows": rows, "overhead": _overhead(rows)}
    return found


def _runs(network: Network, task: str, threads: int, opened: ExitStack) -> dict[str, Run]:
    """What is timed, by name: every provider that is there, and onnxruntime without our session."""
    names: list[ProviderName] = [*available(), "torch"]  # type: ignore[list-item]
    runs: dict[str, Run] = {}
    for name in names:
        try:
            session = opened.enter_context(open_session(network.file, task, name, threads, precision="fp32"))
        except ModelError as error:
            print(f"{name}: {error}")
            continue
        runs[name] = session
        if name == "cpu" and isinstance(session, OnnxSession):
            bare, given = session._session, session._input
            runs["bare session.run"] = lambda image, bare=bare, given=given: bare.run(None, {given: image})  # type: ignore[misc]
    return runs


def interleaved(runs: dict[str, Run], image: NDArray[np.float32], rounds: int) -> dict[str, list[float]]:
    """Seconds of each of ``runs`` in ``rounds`` rounds after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run(image)
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def _overhead(rows: list[dict[str, Any]]) -> float | None:
    """Our session over the bare one, the median over the batch sizes."""
    by = {(row["provider"], row["batch"]): row["ms"] for row in rows}
    ratios = [by["cpu", n] / by["bare session.run", n] for p, n in by if p == "cpu"]
    return round(statistics.median(ratios), 3) if ratios else None


def table(found: dict[str, Any]) -> list[str]:
    """Markdown."""
    lines = [
        "| network | provider | batch | ms an item | roofline of one core, ms | error |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        for row in each["rows"]:
            error = f"{row['predicted'] / row['ms'] - 1:+.0%}" if row["provider"] in ("cpu", "torch") else ""
            lines.append(
                f"| {name} | {row['provider']} | {row['batch']} | {row['ms']} | {row['predicted']} | {error} |"
            )
        lines.append(f"| {name} | our session over `session.run` | | {each['overhead']} | | |")
    return lines


if __name__ == "__main__":
    main()
