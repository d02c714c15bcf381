"""What the reference networks find: the teacher's dense outputs, and labels by agreement of teacher and YuNet.

Both are used while training data is made, never afterwards. Images are (H, W, 3) uint8 RGB.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stream_enhance.errors import InputError, ModelError
from train.common.images import Image
from train.detector.boxes import Labels, iou, labels, suppress
from train.detector.data.scenes import Scene

FLOOR = 0.03  # cells where the teacher scores less are kept as nothing


def load_teacher(path: str | Path) -> torch.nn.Module:
    """The teacher's network in evaluation mode, channels last. Raises ModelError where the file is missing."""
    if not Path(path).is_file():
        raise ModelError(f"{path}: no teacher; set `teacher` in the recipe to a YOLOv8 face network with five points")
    from ultralytics.models.yolo.model import YOLO

    network: Any = YOLO(str(path), task="pose").model
    return network.float().eval().to(memory_format=torch.channels_last)


def bfloat16_is_fast() -> bool:
    """Whether bfloat16 saves time: without AVX-512 a CPU only emulates it, at a tenth of the speed."""
    return torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@torch.inference_mode()
def dense(network: torch.nn.Module, images: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """Every cell's raw output for images (n, S, S, 3): boxes (n, 64, cells), scores (n, 1, cells), kpts (n, 15,
    cells) before any activation, and `decoded` (n, 20, cells) as the export gives it."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float() / 255
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
        decoded, raw = network(x)
    return {k: raw[k].float() for k in ("boxes", "scores", "kpts")} | {"decoded": decoded.float()}


def padded(image: Image, scale: float) -> tuple[Image, float, float]:
    """`image` resized by about `scale` onto the next multiple of 32 (grey below and right); the real x, y scales."""
    height, width = image.shape[:2]
    columns, rows = max(round(width * scale), 1), max(round(height * scale), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.full((-(-rows // 32) * 32, -(-columns // 32) * 32, 3), 114, np.uint8)
    canvas[:rows, :columns] = cv2.resize(image, (columns, rows), interpolation=how)
    return canvas, columns / width, rows / height


def find(network: torch.nn.Module, image: Image, side: int, floor: float) -> tuple[Labels, NDArray[np.float32]]:
    """Faces and scores above `floor`, the image's longer side resized to `side`."""
    canvas, sx, sy = padded(image, side / max(image.shape[:2]))
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
    detector: cv2.FaceDetectorYN, image: Image, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """YuNet's faces, the longer side resized to `side`: xyxy (n, 4), points (n, 5, 2), scores (n,)."""
    canvas, sx, sy = padded(image, side / max(image.shape[:2]))
    detector.setInputSize((canvas.shape[1], canvas.shape[0]))
    rows = detector.detect(np.ascontiguousarray(canvas[:, :, ::-1]))[1]
    if rows is None:
        rows = np.zeros((0, 15), np.float32)
    xyxy = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1) / [sx, sy, sx, sy]
    points = rows[:, 4:14].reshape(-1, 5, 2) / [sx, sy]
    return xyxy.astype(np.float32), points.astype(np.float32), rows[:, 14].astype(np.float32)


def complete(image: Image, human: Labels, network: torch.nn.Module, detector: cv2.FaceDetectorYN, side: int) -> Labels:
    """`human` labels with what they miss: faces that the teacher scores high, or that teacher and YuNet agree on, and
    the five points of all that the teacher finds. What one network scores low is marked to be ignored."""
    found, score = find(network, image, side, 0.12)
    other, _, other_score = find_yunet(detector, image, side)
    agree = iou(found.xyxy, other).max(1, initial=0) > 0.4
    clear = (score > 0.55) | ((score > 0.3) & agree)
    xyxy, points, ignore = list(human.xyxy), list(human.points), [False] * len(human)
    matches = iou(found.xyxy, human.xyxy)
    for i in np.argsort(-score):
        mate = int(matches[i].argmax()) if len(human) else -1
        if mate >= 0 and matches[i, mate] > 0.35:
            points[mate] = found.points[i]
        else:
            xyxy.append(found.xyxy[i])
            points.append(found.points[i])
            ignore.append(not clear[i])
    result = labels(xyxy, np.array(points) if points else None, ignore)
    alone = (iou(other, result.xyxy).max(1, initial=0) < 0.3) & (other_score > 0.6)
    extra = labels(other[alone], None, np.ones(int(alone.sum()), bool))
    return Labels(*(np.concatenate(pair) for pair in zip(vars(result).values(), vars(extra).values(), strict=True)))


def teach(network: torch.nn.Module, scenes: list[Scene], made: list[bool]) -> dict[str, NDArray[Any]]:
    """The teacher's outputs for the clean images, cells above the floor only. In made scenes, whose faces are all
    known, only inside them; real images it sees at twice the size too, and the larger score counts."""
    seen = dense(network, np.stack([scene.clean for scene in scenes]))
    out = {key: value.numpy() for key, value in seen.items()}
    box_score = expit(out["scores"][:, 0])  # (n, cells)
    score = box_score.copy()
    real = np.flatnonzero(~np.array(made))
    if len(real):
        large = [wide for i in real if (wide := scenes[i].large) is not None]
        merge_enlarged(dense(network, np.stack(large)), real, out, box_score, score)
    for i in np.flatnonzero(made):
        within = inside_any(out["decoded"][i, :2].T, scenes[i].faces.xyxy)
        box_score[i] *= within
        score[i] *= within
    image, cell = np.nonzero(score > FLOOR)
    return {
        "t_image": image.astype(np.int32),
        "t_cell": cell.astype(np.int32),
        "t_score": score[image, cell].astype(np.float16),
        "t_box_score": box_score[image, cell].astype(np.float16),
        "t_boxes": out["boxes"][image, :, cell].astype(np.float16),  # (m, 64)
        "t_kpts": out["kpts"][image, :, cell].astype(np.float16),  # (m, 15)
        "weight": np.concatenate(
            [weight(scenes[i], made[i], score[i], side_grids(scenes[i])) for i in range(len(made))]
        ),
    }


def merge_enlarged(
    large: dict[str, torch.Tensor],
    real: NDArray[np.int64],
    out: dict[str, NDArray[np.floating]],
    box_score: NDArray[np.floating],
    score: NDArray[np.floating],
) -> None:
    """Replace the outputs, in place, by those for images of twice the size where these score higher.

    A cell of stride 16 or 32 there is one of stride 8 or 16 here, with the same distances in cells; of the cells of
    stride 8 there only the score is used, the largest of four (`score`; `box_score` is that of boxes and points too).
    """
    cells = large["scores"].shape[-1]
    fine = round((cells * 16 / 21) ** 0.5)  # rows of the finest grid; 1 + 1/4 + 1/16 of its cells are all
    own = fine * fine // 4 + fine * fine // 16  # cells here that have one there
    said = {key: value[..., fine * fine :].numpy() for key, value in large.items()}
    enlarged = expit(said["scores"][:, 0])  # (m, own)
    better = enlarged > box_score[real, :own]
    for key in ("boxes", "kpts"):
        mine_ = out[key][real, :, :own]
        out[key][real, :, :own] = np.where(better[:, None], said[key], mine_)
    box_score[real, :own] = np.maximum(enlarged, box_score[real, :own])
    finest = expit(large["scores"][:, 0, : fine * fine].numpy()).reshape(len(real), fine // 2, 2, fine // 2, 2)
    score[real] = np.maximum(score[real], box_score[real])
    near = fine * fine // 4
    score[real, :near] = np.maximum(score[real, :near], finest.max((2, 4)).reshape(len(real), near))


def expit(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """The logistic function."""
    return 1 / (1 + np.exp(-logits))


def inside_any(centre: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(cells,): whether a cell's predicted `centre` (cells, 2) lies in one of `boxes` (n, 4)."""
    within: NDArray[np.bool_] = (centre[:, None] > boxes[None, :, :2]) & (centre[:, None] < boxes[None, :, 2:])
    return np.any(np.all(within, axis=2), axis=1)


def side_grids(scene: Scene) -> NDArray[np.float32]:
    """(cells, 2): the centres of all cells in pixels, strides 8, 16 and 32 in turn."""
    height, width = scene.clean.shape[:2]
    grids = []
    for stride in (8, 16, 32):
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        grids.append(np.stack([x.ravel() + 0.5, y.ravel() + 0.5], 1) * stride)
    return np.concatenate(grids).astype(np.float32)


def weight(scene: Scene, made: bool, score: NDArray[np.floating], centre: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n,) how much each face is to be found: what the camera left of it and, for real ones, the teacher's score at
    twice the size; small ones with hardly any score count for nothing."""
    value = scene.weight.copy()
    if made:
        return value
    for number, (x0, y0, x1, y1) in enumerate(scene.faces.xyxy):
        pad = 4  # a small face may hold no cell's centre
        within = ((centre > [x0 - pad, y0 - pad]) & (centre < [x1 + pad, y1 + pad])).all(1)
        best = float(score[within].max(initial=0))
        value[number] *= 0 if best < 0.15 and y1 - y0 < 14 else np.interp(best, [0.1, 0.5], [0.5, 1])
    return value
