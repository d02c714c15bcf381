"""Image files as arrays, (H, W, 3) uint8 RGB."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError

Image = NDArray[np.uint8]  # (H, W, 3) RGB
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def read_image(path: Path) -> Image:
    """The image file as (H, W, 3) uint8 RGB. Raises InputError where it is missing, truncated or not an image."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the folder or the list that names it") from None
    if data[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:].tobytes():
        raise InputError(f"{path}: truncated JPEG; copy it again or take it off the list")
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(f"{path}: not an image that OpenCV can read; copy it again or take it off the list")
    return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8, copy=False)


def write_image(path: Path, image: Image) -> None:
    """Write `image` (H, W, 3) RGB in the format of the name's suffix. Raises OSError where it cannot be written."""
    _, data = cv2.imencode(path.suffix, np.ascontiguousarray(image[:, :, ::-1]))
    path.write_bytes(data.tobytes())


def list_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, sorted. Raises InputError where there is none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder}: holds no images ({', '.join(SUFFIXES)})")
    return files
