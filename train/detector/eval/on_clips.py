"""Detections of whole clips through the product's own detection stage, for our network and for others beside it.

Every network becomes a `Session`, so that letterbox, decoding and suppression are the product's for all of them. What
was found is kept in a file for each clip, network and size: tables and thresholds are then tried in no time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import Session, open_session
from stream_enhance.backends.card import Card
from stream_enhance.backends.preprocessing import Batch
from stream_enhance.errors import InputError, ModelError
from stream_enhance.sources.open import open_source
from stream_enhance.stages.detect import Detector, DetectorOptions
from stream_enhance.types import Faces

FLOOR = 0.02  # detections that score less are not kept
EVERY = 2  # frames, as the product detects by default


class PeerSession:
    """A detector without a card, as a `Session`; its output is YOLOv8-pose's.

    Args:
        path: the model file, for messages.
        run: float32 (3, H, W) RGB 0..1 in, float32 (20, cells) out.
    """

    sha256 = ""
    provider = "cpu"
    precision = "fp32"
    input_size: tuple[int, int] | None = None

    def __init__(self, path: Path, run: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.path, self._run = path, run
        unknown = {"license": "", "data": "", "recipe": "", "commit": "", "weights_sha256": ""}
        self.card = Card(name=path.stem, task="face-detection", size=640, dynamic=True, points=5, **unknown)

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Float32 (n, 3, H, W) in, (n, 20, cells) out."""
        return np.stack([self._run(image.astype(np.float32, copy=False)) for image in batch])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def yolo_session(path: Path) -> PeerSession:
    """A YOLOv8 export without a card. Raises ModelError where the file is missing."""
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = session.run(None, {name: image[None]})[0][0]
        return output

    return PeerSession(path, run)


def yunet_session(path: Path) -> PeerSession:
    """OpenCV's YuNet, its rows in YOLOv8-pose's form. Raises ModelError where the file is missing."""
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), FLOOR, 0.5, 5000)

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        detector.setInputSize((image.shape[2], image.shape[1]))
        rows: Any = detector.detect(
            np.ascontiguousarray((image[::-1] * 255).round().astype(np.uint8).transpose(1, 2, 0))
        )
        output = np.zeros((20, 0 if rows[1] is None else len(rows[1])), np.float32)
        if rows[1] is not None:
            x, y, width, height = rows[1][:, :4].T
            output[:5] = x + width / 2, y + height / 2, width, height, rows[1][:, 14]
            output[5:] = np.insert(rows[1][:, 4:14].reshape(-1, 5, 2), 2, 1, axis=2).reshape(-1, 15).T
        return output

    return PeerSession(path, run)


@dataclass(frozen=True)
class Detections:
    """What one network found in one clip, at every `EVERY`-th frame."""

    frame: NDArray[np.int64]  # (k,) frames that were looked at
    seconds: NDArray[np.float64]  # (k,) their stream time
    owner: NDArray[np.int64]  # (n,) index into `frame`
    rows: NDArray[np.float32]  # (n, 15) x1, y1, x2, y2, score, five points as x, y, frame pixels; best first in a frame

    def at(self, index: int, least: float = 0.0) -> Faces:
        """What was found at the `index`-th of the frames, without tracks."""
        rows = self.rows[(self.owner == index) & (self.rows[:, 4] > least)]
        return Faces(
            rows[:, :4].copy(),
            rows[:, 4].copy(),
            np.full(len(rows), -1, np.int64),
            rows[:, 5:].reshape(-1, 5, 2).copy(),
        )


def detections(folder: Path, clip: Path, name: str, size: int, session: Callable[[], Session]) -> Detections:
    """What the network `name` finds in the clip with its longer side at `size`: from the folder, or computed and kept.

    Raises InputError where there is no such clip.
    """
    kept = folder / f"{name}_{size}_{clip.stem}.npz"
    if not kept.exists():
        if not clip.is_file():
            raise InputError(f"{clip}: no such clip; name its folder with --clips")
        folder.mkdir(parents=True, exist_ok=True)
        found = compute(clip, Detector(session(), DetectorOptions(size=size, score=FLOOR)))
        part = kept.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, frame=found.frame, seconds=found.seconds, owner=found.owner, rows=found.rows)
        part.replace(kept)
    with np.load(kept) as held:
        return Detections(held["frame"], held["seconds"], held["owner"], held["rows"])


def compute(clip: Path, detector: Detector) -> Detections:
    """Detections at every `EVERY`-th frame of the clip."""
    source = open_source(str(clip))
    numbers: list[int] = []
    seconds: list[float] = []
    owners: list[int] = []
    rows = [np.zeros((0, 15), np.float32)]
    for frame in source.frames(side_packets=False):
        if frame.index % EVERY:
            continue
        faces = detector.find(frame)
        points = np.zeros((len(faces), 10), np.float32) if faces.points is None else faces.points.reshape(-1, 10)
        rows.append(np.concatenate([faces.xyxy, faces.score[:, None], points], 1))
        owners += [len(numbers)] * len(faces)
        numbers.append(frame.index)
        seconds.append(frame.seconds)
    return Detections(np.array(numbers), np.array(seconds), np.array(owners, np.int64), np.concatenate(rows))


def sessions(model: Path, public: Path | None = None, yunet: Path | None = None) -> dict[str, Callable[[], Session]]:
    """The networks that are compared, by name, opened when they are first needed: ours, and where given the public
    YOLOv8n-face's ONNX export and YuNet."""
    known: dict[str, Callable[[], Session]] = {"ours": lambda: open_session(model, "face-detection", "cpu", threads=1)}
    if public is not None:
        known["public"] = lambda: yolo_session(public)
    if yunet is not None:
        known["yunet"] = lambda: yunet_session(yunet)
    return known
