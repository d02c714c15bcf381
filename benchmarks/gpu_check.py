"""One command for a machine with a large GPU and no network: which parts of the GPU path run, are right, and how fast.

    python -m benchmarks.gpu_check --out DIR [--quick] [--only parity,...]

Each step is a row of ``DIR/report.json`` and ``DIR/report.md``, written as soon as it ends; a step that fails is a row
that says why, and the next one runs.  Without CUDA it goes through what a CPU can do, and says what was not run.
``--quick`` makes every step small: under a minute on two cores.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.conditions import conditions
from benchmarks.roofline import CARDS, NETWORKS, Graph, best, floor
from stream_enhance.backends.parity import compare
from stream_enhance.backends.torch_session import TorchSession
from stream_enhance.config import load
from stream_enhance.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests" / "clips" / "demo.mp4"
TASKS = ("face-enhancement", "face-detection")  # in the order of NETWORKS
LIBRARIES = ("libcuda.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1")  # the driver's, of decoders and encoders
Figures = dict[str, Any]


class NotRun(Exception):
    """A step that this machine cannot do; its text says why."""


def cuda() -> bool:
    return torch.cuda.is_available()


def need_cuda() -> None:
    if not cuda():
        raise NotRun("torch sees no CUDA device")


def machine(quick: bool) -> Figures:
    """The GPU, the driver's libraries and what measured."""
    found: Figures = {**conditions(), "torch": torch.__version__, "cuda": torch.version.cuda or "none"}
    if cuda():
        card = torch.cuda.get_device_properties(0)
        found |= {"gpu": card.name, "sm": f"{card.major}{card.minor}", "GiB": round(card.total_memory / 2**30)}
    for library in LIBRARIES:
        try:
            ctypes.CDLL(library)
            found[library] = "loads"
        except OSError as error:
            found[library] = str(error)[:80]
    return found


def timed(run: Callable[[], object], rounds: int) -> float:
    """Seconds of a run, the fastest of ``rounds``; on CUDA by events around ten runs."""
    if not cuda():
        return best(run, rounds)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    times: list[float] = []
    for _ in range(rounds + 1):
        first.record()
        for _ in range(10):
            run()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / 1e4)
    return min(times[1:])


def ceilings(quick: bool) -> Figures:
    """FLOP/s of a matrix product and bytes a second of a copy, read and written."""
    device, kind = ("cuda", torch.half) if cuda() else ("cpu", torch.float)
    side, count = (8192, 2**28) if cuda() else (512, 2**22)
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    x = torch.zeros(count, device=device)
    y = torch.empty_like(x)
    product, copy = timed(lambda: a @ b, 3), timed(lambda: y.copy_(x), 3)
    return {"dtype": str(kind), "TFLOP/s": round(2e-12 * side**3 / product, 3), "GB/s": round(8e-9 * count / copy, 1)}


def parity(number: int) -> Callable[[bool], Figures]:
    """The step that compares a network in half precision on torch with float32 on onnxruntime's CPU."""

    def step(quick: bool) -> Figures:
        count = 1 if quick else 64
        found = compare(NETWORKS[number].file, TASKS[number], count, "cuda" if cuda() else "cpu")
        return {"images": count, "parity": found.text, "good": bool(found.good)}

    return step


def speed(number: int) -> Callable[[bool], Figures]:
    """The step that times a network by batch size: on CUDA a captured graph in half, else float32 on the CPU."""

    def step(quick: bool) -> Figures:
        network = NETWORKS[number]
        found: Figures = {}
        device = "cuda" if cuda() else "cpu"
        precision: Literal["fp16", "fp32"] = "fp16" if cuda() else "fp32"
        shape = (3, network.height, network.width) if cuda() or not quick else (3, 256, 256)
        with TorchSession(network.file, TASKS[number], precision, device) as session, torch.inference_mode():
            for batch in (1, 2, 4, 8, 16, 32, 64) if cuda() else (1,):
                image = torch.zeros(batch, *shape, device=device)
                run = captured(session, image) if cuda() else partial(session.on_device, image)
                found[f"ms an item, batch {batch}"] = round(timed(run, 3) / batch * 1e3, 4)
                if cuda():
                    kernels = list(Graph(network.file, batch, *shape[1:]).kernels())
                    lowest = floor(kernels, CARDS["h100"]) / batch * 1e3
                    found[f"times the H100's floor, batch {batch}"] = round(
                        found[f"ms an item, batch {batch}"] / lowest, 1
                    )
        return found

    return step


def captured(session: TorchSession, image: torch.Tensor) -> Callable[[], object]:
    """A replay of the network on ``image``, captured as a CUDA graph."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            session.on_device(image)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        session.on_device(image)
    return graph.replay


def decoding(quick: bool) -> Figures:
    """Frames a second of a clip as host copies, and by NVDEC left on the device and read through DLPack."""
    most, found = 50 if quick else 100_000, {}
    began = time.perf_counter()
    with av.open(str(CLIP)) as source:
        shapes = [f.to_ndarray(format="rgb24").shape for f in islice(source.decode(video=0), most)]
    found["software, host arrays, frames/s"] = round(len(shapes) / (time.perf_counter() - began))
    if not cuda():
        with av.open(str(CLIP)) as source:
            plane = from_dlpack(next(source.decode(video=0)).planes[0])
        return found | {"DLPack on the CPU": list(plane.shape), "NVDEC": "not run: torch sees no CUDA device"}
    from av.codec.hwaccel import HWAccel

    for owned, name in ((False, "NVDEC, host arrays"), (True, "NVDEC, DLPack planes on the device")):
        count, began = 0, time.perf_counter()
        hardware = HWAccel("cuda", allow_software_fallback=False, is_hw_owned=owned)
        with av.open(str(CLIP), hwaccel=hardware) as source:
            for frame in islice(source.decode(video=0), most):
                count += 1
                if owned:
                    luma, chroma = (from_dlpack(plane) for plane in frame.planes[:2])
                    luma.float().mean() + chroma.float().mean()
                else:
                    frame.to_ndarray(format="rgb24")
        torch.cuda.synchronize()
        found[f"{name}, frames/s"] = round(count / (time.perf_counter() - began))
    return found


def beginning(folder: str, frames: int) -> str:
    """A copy of the first ``frames`` frames of the clip, not encoded again."""
    path = f"{folder}/clip.mkv"
    with av.open(str(CLIP)) as source, av.open(path, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in islice((p for p in source.demux(video=0) if p.dts is not None), frames):
            packet.stream = stream
            target.mux(packet)
    return path


def line(quick: bool) -> Figures:
    """The whole line on torch, from a file to a file."""
    frames = 8 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder, Pipeline(load(None, ["provider=torch"])) as pipeline:
        report = pipeline.run(beginning(folder, frames), f"{folder}/out.mp4")
    return {"frames": report.frames_out, "frames/s": round(report.fps, 1), "faces": report.faces_enhanced}


def streams(quick: bool) -> Figures:
    """Several lines at once on shared, batching networks on torch."""
    lines, frames = (2, 4) if quick else (9, 10_000)
    done: list[int] = []
    with tempfile.TemporaryDirectory() as folder, Pipeline(load(None, ["provider=torch"]), shared=True) as shared:
        clip = beginning(folder, frames)

        def run(number: int) -> None:
            done.append(shared.run(clip, f"{folder}/{number}.mp4").frames_out)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(lines)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        sizes = {task: dict(sorted(getattr(s, "sizes", {}).items())) for task, s in shared.sessions.items()}
    if len(done) < lines:
        raise RuntimeError(f"{lines - len(done)} of {lines} lines failed")
    return {"lines": lines, "frames/s together": round(sum(done) / seconds, 1), "batches by rows": sizes}


def tests(quick: bool) -> Figures:
    """The tests that need a GPU."""
    need_cuda()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/backends"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    if done.returncode:
        raise RuntimeError(last)
    return {"pytest": last}


STEPS: dict[str, Callable[[bool], Figures]] = {
    "machine": machine,
    "ceilings": ceilings,
    "unet parity": parity(0),
    "unet speed": speed(0),
    "detector parity": parity(1),
    "detector speed": speed(1),
    "decoding": decoding,
    "line": line,
    "streams": streams,
    "gpu tests": tests,
}


def row_of(name: str, step: Callable[[bool], Figures], quick: bool) -> dict[str, Any]:
    """Run one step; what it found, or why it did not run or failed."""
    began = time.monotonic()
    row: dict[str, Any] = {"step": name, "state": "ran", "figures": {}}
    try:
        row["figures"] = step(quick)
    except NotRun as why:
        row |= {"state": "not run", "why": str(why)}
    except (Exception, SystemExit) as error:  # a step's failure is a row, not the end of the others
        row |= {"state": "failed", "why": f"{type(error).__name__}: {error}"[:300]}
    return row | {"seconds": round(time.monotonic() - began, 1)}


def markdown(rows: list[dict[str, Any]]) -> str:
    """The report as a table."""
    lines = ["| step | state | seconds | found |", "|---|---|---|---|"]
    for row in rows:
        found = row.get("why") or "; ".join(f"{key}: {value}" for key, value in row["figures"].items())
        lines.append(f"| {row['step']} | {row['state']} | {row['seconds']} | {found.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json and report.md")
    parser.add_argument("--quick", action="store_true", help="every step small")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas")
    given = parser.parse_args(arguments)
    chosen = [name.strip() for name in given.only.split(",")]
    if unknown := set(chosen) - set(STEPS):
        parser.error(f"--only {', '.join(sorted(unknown))}: no such step; there are {', '.join(STEPS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    if not cuda():
        torch.set_num_threads(1)  # two threads of a busy machine wait for each other
    rows = []
    for name in chosen:
        rows.append(row_of(name, STEPS[name], given.quick))
        print(json.dumps(rows[-1]), flush=True)
        (given.out / "report.json").write_text(json.dumps({"quick": given.quick, "rows": rows}, indent=1) + "\n")
        (given.out / "report.md").write_text(markdown(rows))
    return 1 if any(row["state"] == "failed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
