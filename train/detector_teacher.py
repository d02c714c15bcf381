"""What the reference networks see: the teacher's dense outputs, and labels by agreement of teacher and YuNet.

Both are used while training data is made, never afterwards. Pictures are (H, W, 3) uint8 RGB.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_enhance.errors import InputError, ModelError
from train.boxes import Labels, Picture, iou, labels, suppress


def load_teacher(path: str | Path) -> torch.nn.Module:
    """The teacher's network in evaluation mode, channels last. Raises ModelError where the file is missing."""
    if not Path(path).is_file():
        raise ModelError(f"{path}: no teacher; set `teacher` in the recipe to a YOLOv8 face network with five points")
    from ultralytics import YOLO

    network = YOLO(str(path), task="pose").model.float().eval()
    return network.to(memory_format=torch.channels_last)


@torch.inference_mode()
def dense(network: torch.nn.Module, pictures: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """Every cell's raw output for pictures (n, S, S, 3): boxes (n, 64, cells), scores (n, 1, cells), kpts (n, 15,
    cells) before any activation, and `decoded` (n, 20, cells) as the export gives it."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        decoded, raw = network(x)
    return {k: raw[k].float() for k in ("boxes", "scores", "kpts")} | {"decoded": decoded.float()}


def padded(picture: Picture, scale: float) -> tuple[Picture, float, float]:
    """`picture` resized by about `scale` onto the next multiple of 32 (grey below and right); the real x, y scales."""
    height, width = picture.shape[:2]
    columns, rows = max(round(width * scale), 1), max(round(height * scale), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.full((-(-rows // 32) * 32, -(-columns // 32) * 32, 3), 114, np.uint8)
    canvas[:rows, :columns] = cv2.resize(picture, (columns, rows), interpolation=how)
    return canvas, columns / width, rows / height


def find(network: torch.nn.Module, picture: Picture, side: int, floor: float) -> tuple[Labels, NDArray[np.float32]]:
    """Faces and scores above `floor`, the picture's longer side resized to `side`."""
    canvas, sx, sy = padded(picture, side / max(picture.shape[:2]))
    out = dense(network, canvas[None])["decoded"][0].numpy().T  # (cells, 20)
    out = out[out[:, 4] > floor]
    xyxy = np.concatenate([out[:, :2] - out[:, 2:4] / 2, out[:, :2] + out[:, 2:4] / 2], 1) / [sx, sy, sx, sy]
    keep = suppress(xyxy, out[:, 4])
    points = out[keep, 5:].reshape(-1, 5, 3).copy()
    points[..., :2] /= [sx, sy]
    points[..., 2] = 1
    return labels(xyxy[keep], points), out[keep, 4].astype(np.float32)


def yunet(path: str | Path, floor: float = 0.3) -> cv2.FaceDetectorYN:
    """OpenCV's YuNet. Raises InputError where the model file is missing."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no YuNet model; set `yunet` in the recipe")
    return cv2.FaceDetectorYN.create(str(path), "", (320, 320), floor, 0.45, 5000)


def find_yunet(
    detector: cv2.FaceDetectorYN, picture: Picture, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """xyxy (n, 4), points (n, 5, 2), scores (n,): YuNet's faces, the picture's longer side resized to `side`."""
    canvas, sx, sy = padded(picture, side / max(picture.shape[:2]))
    detector.setInputSize((canvas.shape[1], canvas.shape[0]))
    rows = detector.detect(np.ascontiguousarray(canvas[:, :, ::-1]))[1]
    if rows is None:
        rows = np.zeros((0, 15), np.float32)
    xyxy = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1) / [sx, sy, sx, sy]
    return xyxy.astype(np.float32), (rows[:, 4:14].reshape(-1, 5, 2) / [sx, sy]).astype(np.float32), rows[:, 14]


def complete(
    picture: Picture, human: Labels, network: torch.nn.Module, detector: cv2.FaceDetectorYN, side: int
) -> Labels:
    """`human` labels with what they miss: faces that the teacher is sure of, or that teacher and YuNet agree on, and
    the five points of all that the teacher finds. What one network half believes is marked to be ignored."""
    found, score = find(network, picture, side, 0.12)
    other, _, other_score = find_yunet(detector, picture, side)
    agree = iou(found.xyxy, other).max(1, initial=0) > 0.4
    sure = (score > 0.55) | ((score > 0.3) & agree)
    xyxy, points, ignore = list(human.xyxy), list(human.points), [False] * len(human)
    matches = iou(found.xyxy, human.xyxy)
    for i in np.argsort(-score):
        mate = int(matches[i].argmax()) if len(human) else -1
        if mate >= 0 and matches[i, mate] > 0.35:
            points[mate] = found.points[i]
        else:
            xyxy.append(found.xyxy[i])
            points.append(found.points[i])
            ignore.append(not sure[i])
    result = labels(xyxy, np.array(points) if points else None, ignore)
    lonely = (iou(other, result.xyxy).max(1, initial=0) < 0.3) & (other_score > 0.6)
    extra = labels(other[lonely], None, np.ones(int(lonely.sum()), bool))
    return Labels(*(np.concatenate(pair) for pair in zip(vars(result).values(), vars(extra).values(), strict=True)))
