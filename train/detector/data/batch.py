"""From shards to batches: which images, mirrored or not, and their faces as ultralytics' loss wants them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.detector.boxes import MIRRORED
from train.detector.data.make import read_shard

OUTPUTS = ("cell", "score", "box_score", "boxes", "kpts")  # of the teacher, one row a cell


class Shards:
    """All shards of one side in a cache, as one list of images."""

    def __init__(self, cache: Path, side: int) -> None:
        self.side = side
        paths = sorted(p for p in cache.glob(f"{side}*/*.npz") if p.parent.name.split("-")[0] == str(side))
        if not paths:
            raise InputError(f"{cache / str(side)}: no training images; run `python -m train.detector data`")
        self.shards = [read_shard(path) for path in paths]
        self.index = [(s, i) for s, (images, *_) in enumerate(self.shards) for i in range(len(images))]
        self.starts = [bounds(held["image"], len(p)) for p, _, held in self.shards]
        self.t_starts = [bounds(held["t_image"], len(p)) for p, _, held in self.shards]
        self.grids = [(side // stride, side // stride) for stride in (8, 16, 32)]
        self.mirror = mirror_cells(self.grids)

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, chosen: NDArray[np.int64], flips: NDArray[np.bool_], sheet: int = 1) -> dict[str, torch.Tensor]:
        """The images `chosen` as one batch, those of `flips` mirrored; each sheet x sheet of them are laid side by
        side as one image of the batch."""
        images: tuple[list[NDArray[np.uint8]], ...] = ([], [])  # as seen, and clean
        rows = []
        t_rows: dict[str, list[NDArray[Any]]] = {
            k: [] for k in ("where", "cell", "score", "box_score", "boxes", "kpts")
        }
        for b, (number, flip) in enumerate(zip(chosen, flips, strict=True)):
            s, i = self.index[number]
            *both, held = self.shards[s]
            for kept, source in zip(images, both, strict=True):
                image = np.asarray(source[i])
                kept.append(image[:, ::-1] if flip else image)
            whole, tile = divmod(b, sheet * sheet)
            row, column = divmod(tile, sheet)
            faces = self.faces(held, self.starts[s][i], self.starts[s][i + 1], whole, bool(flip))
            faces[:, 1:5] += np.array([column, row] * 2) * self.side
            faces[:, 5:20].reshape(-1, 5, 3)[..., :2] += np.array([column, row]) * self.side
            rows.append(faces)
            low, high = self.t_starts[s][i], self.t_starts[s][i + 1]
            outputs = {k: held[f"t_{k}"][low:high] for k in OUTPUTS}
            outputs = self.mirrored(outputs) if flip else outputs
            outputs["cell"] = tile_cells(self.grids, sheet, row, column)[outputs["cell"]]
            for key, value in outputs.items():
                t_rows[key].append(value)
            t_rows["where"].append(np.full(high - low, whole))
        faces = np.concatenate(rows)  # (n, 21): image, xyxy, points, weight
        counted, partial = faces[faces[:, 20] > 0], faces[faces[:, 20] < 1]
        xyxy = torch.from_numpy(counted[:, 1:5]) / (sheet * self.side)
        points = torch.from_numpy(counted[:, 5:20].reshape(-1, 5, 3).copy())
        points[..., :2] /= sheet * self.side
        joined = {k: np.concatenate(v) for k, v in t_rows.items()}
        return {
            "img": self.stacked(images[0], sheet),
            "clean": self.stacked(images[1], sheet),
            "batch_idx": torch.from_numpy(counted[:, 0]),
            "cls": torch.zeros(len(counted)),
            "bboxes": torch.cat([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], 1),
            "keypoints": points,
            "partial": torch.from_numpy(partial[:, [0, 1, 2, 3, 4, 20]]),
            "t_index": torch.from_numpy(np.stack([joined["where"], joined["cell"]]).astype(np.int64)),
            "t_score": torch.from_numpy(joined["score"].astype(np.float32)),
            "t_box_score": torch.from_numpy(joined["box_score"].astype(np.float32)),
            "t_boxes": torch.from_numpy(joined["boxes"].astype(np.float32)),
            "t_kpts": torch.from_numpy(joined["kpts"].astype(np.float32)),
        }

    def stacked(self, images: list[NDArray[np.uint8]], sheet: int) -> torch.Tensor:
        """(n, 3, S, S) float32, 0..1, channels last: each sheet x sheet of `images` side by side."""
        tiles = np.stack(images).reshape(-1, sheet, sheet, self.side, self.side, 3)
        large = tiles.transpose(0, 1, 3, 2, 4, 5).reshape(len(tiles), sheet * self.side, sheet * self.side, 3)
        planes = torch.from_numpy(large.transpose(0, 3, 1, 2))
        return planes.contiguous(memory_format=torch.channels_last).float().div_(255)

    def faces(self, held: dict[str, NDArray[Any]], low: int, high: int, b: int, flip: bool) -> NDArray[np.float32]:
        """(n, 21) float32: place in the batch, xyxy, five points, weight; in pixels."""
        xyxy, points = held["xyxy"][low:high], held["points"][low:high]
        if flip:
            xyxy = xyxy[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [self.side, 0, self.side, 0]
            points = points[:, MIRRORED] * [-1, 1, 1] + [self.side, 0, 0]
        weight = held["weight"][low:high]
        columns = [np.full((high - low, 1), b), xyxy, points.reshape(-1, 15), weight[:, None]]
        return np.concatenate(columns, 1).astype(np.float32)

    def mirrored(self, outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The teacher's outputs for the mirror image: left and right distances and points change places."""
        boxes = outputs["boxes"].reshape(-1, 4, 16)[:, [2, 1, 0, 3]].reshape(-1, 64)
        points = outputs["kpts"].reshape(-1, 5, 3)[:, MIRRORED].copy()
        points[..., 0] = 0.5 - points[..., 0]  # raw: (x / stride - the cell's column) / 2
        return {
            "cell": self.mirror[outputs["cell"]],
            "score": outputs["score"],
            "box_score": outputs["box_score"],
            "boxes": boxes,
            "kpts": points.reshape(-1, 15),
        }

    def batches(self, size: int, rng: np.random.Generator, sheet: int = 1) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of `size` images without end, every image once a pass."""
        while True:
            order = rng.permutation(len(self))
            for start in range(0, len(order) - size + 1, size):
                yield self.batch(order[start : start + size], rng.random(size) < 0.5, sheet)


def bounds(owner: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """(count + 1,): where each image's rows start in a table sorted by image."""
    return np.searchsorted(owner, np.arange(count + 1))


def mirror_cells(grids: list[tuple[int, int]]) -> NDArray[np.int64]:
    """(cells,): each cell's number in the mirror image."""
    parts, start = [], 0
    for rows, columns in grids:
        parts.append(np.arange(start, start + rows * columns).reshape(rows, columns)[:, ::-1].ravel())
        start += rows * columns
    return np.concatenate(parts)


def tile_cells(grids: list[tuple[int, int]], sheet: int, row: int, column: int) -> NDArray[np.int64]:
    """(cells,): the number that each cell of an image has in a sheet, where it is the tile at `row` and `column`."""
    parts, start = [], 0
    for rows, columns in grids:
        y, x = np.mgrid[0:rows, 0:columns]
        parts.append(start + (((y + row * rows) * sheet * columns) + x + column * columns).ravel())
        start += rows * columns * sheet * sheet
    return np.concatenate(parts)
