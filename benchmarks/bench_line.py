"""The line against the script a user would otherwise write with the same weights, interleaved, in one run.

    python -m benchmarks.bench_line CLIP [--runs 3] [--frames 300]

The script: ultralytics' predict at 640 on every frame, crop, U-Net a face at a time in torch, ``cv2.VideoWriter``.
Each measurement has a process of its own and counts from the first frame to the closed file, models loaded.  Also
given: the efficiency of the threads (frames a second over what the stages' own core-seconds would allow on these
cores), and a bare transcode.  Needs the ``train`` extra for the script.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import av

from benchmarks.conditions import conditions, interleaved, median, save
from stream_enhance.config import Config, load, read_yaml
from stream_enhance.pipeline import Pipeline
from stream_enhance.report import Report
from stream_enhance.shipped import DETECTOR, UNET, default_model
from stream_enhance.sources.open import open_source

VARIANTS = {
    "script": ["--one", "script"],
    "line": ["--one", "line"],
    "line, as the script": [
        *("--one", "line", "--set", "detector.size=640"),
        *("--set", "detector.every=1", "--set", "enhancer.cache_tolerance=0"),
    ],
    "transcode": ["--one", "transcode"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--one", choices=["script", "line", "transcode", "stages"], help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    if given.one:
        measure = {"script": script, "line": line, "transcode": transcode, "stages": stages}[given.one]
        print(json.dumps(measure(given.clip, given.frames, load(None, given.set))))
        return
    print(json.dumps(conditions()))
    common = [given.clip, "--frames", str(given.frames)]
    variants = {name: [*common, *arguments] for name, arguments in VARIANTS.items()}
    variants["stages"] = [*common, "--one", "stages"]
    results = interleaved("benchmarks.bench_line", given.runs, variants)
    base = median(results["script"], "fps")
    table = {}
    for name in VARIANTS:
        fps = median(results[name], "fps")
        table[name] = {"fps": round(fps, 1), "times the script": round(fps / base, 2)}
        print(f"{name:22s} {fps:7.1f} frames/s   {fps / base:5.2f} x the script")
    limit = median(results["stages"], "limit_fps")
    efficiency = median(results["line"], "fps") / limit
    print(f"the stages' own core-seconds allow {limit:.1f} frames/s; efficiency {efficiency:.2f}")
    save("line", {"clip": Path(given.clip).name, "frames": given.frames, "runs": given.runs, "table": table}
         | {"limit_fps": round(limit, 1), "efficiency": round(efficiency, 3), "raw": results})  # fmt: skip


def enhanced(pipeline: Pipeline, clip: str, frames: int, out: str) -> Report:
    """The first ``frames`` frames of ``clip`` through the line into ``out``."""
    source = open_source(clip)
    assert source.info.rate
    return pipeline.run(source, out, duration=(frames - 0.5) / float(source.info.rate))


def line(clip: str, frames: int, config: Config) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Pipeline(config) as pipeline:
        report = enhanced(pipeline, clip, frames, f"{folder}/out.mp4")
    return {"fps": report.fps, "frames": report.frames_out, "faces": report.faces_enhanced} | {
        "cached": report.faces_from_cache
    }


def script(clip: str, frames: int, config: Config, weights: str = "", network: Any = None) -> dict[str, Any]:
    """What one would write in an hour: clear, sequential, and with the same weights.

    Args:
        weights: of ultralytics' detector; "": ours.
        network: the enhancer as a torch module; None: ours.
    """
    import cv2
    import torch
    from ultralytics.models import YOLO

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    detector = YOLO(weights or ultralytics_copy(Path(config.detector.model or default_model(DETECTOR))), task="pose")
    unet = network or torch_unet(Path(config.enhancer.model or default_model(UNET)))
    capture = cv2.VideoCapture(clip)
    width, height = int(capture.get(3)), int(capture.get(4))
    faces = done = 0
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        writer = cv2.VideoWriter(f"{folder}/o.mp4", cv2.VideoWriter.fourcc(*"mp4v"), capture.get(5), (width, height))
        started = 0.0
        while done < frames:
            ok, frame = capture.read()
            if not ok:
                break
            results: Any = detector.predict(frame, imgsz=640, verbose=False)
            found = results[0].boxes.xyxy.int().tolist()
            for x0, y0, x1, y1 in found:
                x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
                if x1 <= x0 or y1 <= y0:
                    continue
                face = cv2.resize(frame[y0:y1, x0:x1], (256, 256), interpolation=cv2.INTER_CUBIC)
                tensor = torch.from_numpy(face[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
                patch = (unet(tensor)[0].permute(1, 2, 0) * 255).byte().numpy()[:, :, ::-1]
                frame[y0:y1, x0:x1] = cv2.resize(patch, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
                faces += 1
            writer.write(frame)
            done += 1
            started = started or time.perf_counter()  # the first frame loads the models
        writer.release()
        seconds = time.perf_counter() - started
    return {"fps": (done - 1) / seconds, "frames": done, "faces": faces}


def ultralytics_copy(path: Path) -> str:
    """Our detector with the metadata that ultralytics wants of an ONNX file."""
    import onnx

    model = onnx.load(str(path))
    wanted = {"task": "pose", "stride": "32", "batch": "1", "imgsz": "[640, 640]", "names": "{0: 'face'}"}
    for key, value in {**wanted, "kpt_shape": "[5, 3]", "dynamic": "True"}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    copy = f"{tempfile.mkdtemp()}/detector.onnx"
    onnx.save(model, copy)
    return copy


def torch_unet(path: Path) -> Any:
    """The network in our ONNX file as the torch module it was exported from, with the same weights."""
    import onnx
    import torch
    from onnx import numpy_helper

    from train.enhancer.models import build

    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    weights = {name.removeprefix("network.").removesuffix(".half"): value for name, value in weights.items()}
    network = build(read_yaml("configs/train/enhancer/01_regression.yaml")["model"])
    network.load_state_dict({name: torch.from_numpy(weights[name].astype("float32")) for name in network.state_dict()})
    return network.eval()


def transcode(clip: str, frames: int, config: Config) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, av.open(clip) as source, av.open(f"{folder}/o.mp4", "w") as sink:
        video = source.streams.video[0]
        video.thread_type = "AUTO"
        options = {"crf": str(config.sink.crf), "preset": config.sink.preset}
        stream = sink.add_stream("libx264", rate=video.average_rate, options=options)
        stream.width, stream.height = video.width, video.height
        started, done = time.perf_counter(), 0
        for frame in islice(source.decode(video), frames):
            frame.pict_type = 0
            sink.mux(stream.encode(frame))
            done += 1
        sink.mux(stream.encode(None))
        return {"fps": done / (time.perf_counter() - started), "frames": done}


def stages(clip: str, frames: int, config: Config) -> dict[str, Any]:
    """Core-seconds of each stage alone, and the frames a second they allow on all cores together."""
    from stream_enhance.sinks.codecs import Encoding
    from stream_enhance.sinks.open import open_sink

    cores = len(os.sched_getaffinity(0))
    source = open_source(clip)
    core_seconds = {}
    with tempfile.TemporaryDirectory() as folder, Pipeline(config) as pipeline:
        items: Any = islice(source.frames(), frames)
        sink = open_sink(f"{folder}/out.mp4", Encoding(**config.sink.model_dump()), "")
        todo: dict[str, Callable[[Any], Iterable[Any]]] = {
            "decode": lambda frames: frames,
            "detect": pipeline.detector(),
            "enhance": pipeline.enhancer(),
            "overlay": pipeline.overlay(),
            "encode": sink,
        }
        for name, stage in todo.items():
            started = time.process_time()
            items = list(stage(items))
            core_seconds[name] = time.process_time() - started
    return {"limit_fps": len(items) / (sum(core_seconds.values()) / cores), **core_seconds}


if __name__ == "__main__":
    main()
