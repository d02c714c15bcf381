"""The detectors, each as one function: an image in, boxes, scores and points out, at a given input side.

A `Finder` takes (H, W, 3) uint8 RGB and the side to which the image's longer side is resized, and gives rows
x1, y1, x2, y2, score and, where the network has them, five points as x, y: (n, 5) or (n, 15) float32, in pixels of the
image, best first.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stream_enhance.errors import InputError, ModelError
from stream_enhance.stages.detect import STRIDE, decode, suppress
from stream_enhance.stages.view import LetterboxView
from train.common.images import Image

Finder = Callable[[Image, int], NDArray[np.float32]]
FLOOR = 0.02  # rows that score less are not kept
OVERLAP = 0.5  # above it the weaker of two boxes goes


def letterbox(image: Image, side: int) -> LetterboxView:
    """`image` as the runtime shows it to the network: longer side `side`, on grey, padded to whole strides."""
    height, width = image.shape[:2]
    ratio = side / max(height, width)
    columns, rows = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    canvas = np.full((-(-rows // STRIDE) * STRIDE, -(-columns // STRIDE) * STRIDE, 3), 114, np.uint8)
    left, top = (canvas.shape[1] - columns) // 2, (canvas.shape[0] - rows) // 2
    canvas[top : top + rows, left : left + columns] = small
    return LetterboxView(canvas, (columns / width, rows / height), left, top)


def yolo(path: str | Path, classes: Sequence[int] = (), threads: int = 1) -> Finder:
    """Any YOLOv8 export; of a detect export only `classes` are faces. Raises ModelError where the file is missing."""
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]

    def find(image: Image, side: int) -> NDArray[np.float32]:
        view = letterbox(image, side)
        batch: NDArray[Any] = view.image[None]  # as an 8-bit file takes it
        if entry.type == "tensor(float)":
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / 255
        output = session.run(None, {entry.name: batch})[0][0]
        if classes:
            output = np.concatenate([output[:4], output[[4 + c for c in classes]].max(0, keepdims=True)])
        return suppress(decode(output, view, FLOOR), OVERLAP)

    return find


def yunet(path: str | Path) -> Finder:
    """OpenCV's YuNet. Raises ModelError where the file is missing."""
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such model file")
    detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), FLOOR, OVERLAP, 5000)

    def find(image: Image, side: int) -> NDArray[np.float32]:
        view = letterbox(image, side)
        detector.setInputSize((view.image.shape[1], view.image.shape[0]))
        rows = detector.detect(np.ascontiguousarray(view.image[:, :, ::-1]))[1]
        if rows is None:
            return np.zeros((0, 15), np.float32)
        origin, scale = np.array([view.left, view.top]), np.array(view.scale)
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, 4:14]], 1).reshape(-1, 7, 2)
        corners = ((corners - origin) / scale).reshape(-1, 14)
        found = np.concatenate([corners[:, :4], rows[:, 14:], corners[:, 4:]], 1).astype(np.float32)
        return found[np.argsort(-found[:, 4], kind="stable")]

    return find


def haar() -> Finder:
    """OpenCV's frontal-face Haar cascade (Viola and Jones, CVPR 2001). OpenCV 5 no longer has it: raises InputError."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise InputError(f"OpenCV {cv2.__version__} has no Haar cascades; measure `haar` with opencv-python-headless<5")
    folder: str = cv2.data.haarcascades  # type: ignore[attr-defined]  # the wheels add it
    cascade = cv2.CascadeClassifier(folder + "haarcascade_frontalface_default.xml")

    def find(image: Image, side: int) -> NDArray[np.float32]:
        view = letterbox(image, side)
        grey = cv2.equalizeHist(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY))
        boxes, _, weights = cascade.detectMultiScale3(grey, 1.1, 3, minSize=(10, 10), outputRejectLevels=True)
        if not len(boxes):
            return np.zeros((0, 5), np.float32)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).reshape(-1, 2, 2)
        corners = ((corners - [view.left, view.top]) / np.array(view.scale)).reshape(-1, 4)
        found = np.concatenate([corners, np.reshape(weights, (-1, 1))], 1).astype(np.float32)
        return found[np.argsort(-found[:, 4], kind="stable")]

    return find


def teacher_onnx(weights: Path, target: Path) -> Path:
    """The teacher's checkpoint as an ONNX file at `target`, made once: all are measured in one runtime."""
    if not target.exists():
        import onnx

        from train.detector.export import to_export, trace
        from train.detector.teacher import load_teacher

        target.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(trace(to_export(load_teacher(weights)), 640), str(target))
    return target
