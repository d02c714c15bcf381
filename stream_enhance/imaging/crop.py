"""Where a face's square patch lies in a frame, and the cutting of it.

Pure functions, used by the runtime and by training alike, so that a network sees the same framing in both.  Affines
are (2, 3) and map patch pixels to frame pixels; pixel centres are at integers, as OpenCV has it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# (5, 2) unit patch coordinates x, y: eye at image-left, eye at image-right, nose tip, mouth corners left and right.
# Proportions of the frontal face follow ArcFace's 112-pixel template (Deng et al., CVPR 2019), shrunk so that the eye
# distance is 0.26 of the side and moved so that hair and chin fit.
TEMPLATE: NDArray[np.float32] = np.array(
    [[0.3700, 0.4300], [0.6300, 0.4300], [0.5000, 0.5780], [0.3930, 0.7300], [0.6070, 0.7300]], np.float32
)
BOX_HEIGHT = 0.82  # a face box's height, as a part of the patch's side
BOX_CENTRE_Y = 0.53  # where the box's centre lies, down from the patch's top


def patch_to_frame(xyxy: NDArray[np.float32], points: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
    """Where each face's patch of ``size`` x ``size`` pixels lies in the frame.

    Args:
        xyxy: (n, 4) float32 face boxes, frame pixels.
        points: (n, 5, 2) float32 face points in ``TEMPLATE``'s order, frame pixels, or None to go by the box, upright.
        size: side of the patch in pixels.

    Returns:
        (n, 2, 3) float32 affines from patch pixels to frame pixels.  With points it is the similarity of least
        squares that carries the template onto them (Umeyama, PAMI 1991).
    """
    n = len(xyxy)
    affines = np.zeros((n, 2, 3), np.float32)
    if n == 0:
        return affines
    if points is None:
        side = (xyxy[:, 3] - xyxy[:, 1]) / BOX_HEIGHT
        centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        scale = side / size
        affines[:, 0, 0] = affines[:, 1, 1] = scale
        affines[:, 0, 2] = centre[:, 0] - scale * (size / 2 - 0.5)
        affines[:, 1, 2] = centre[:, 1] - scale * (size * BOX_CENTRE_Y - 0.5)
        return affines
    source = TEMPLATE * size - 0.5
    s_mean, p_mean = source.mean(0), points.mean(1)  # (2,), (n, 2)
    s, p = source - s_mean, points - p_mean[:, None]  # (5, 2), (n, 5, 2)
    # A similarity in the plane is multiplication by a + ib: two dot products give the least squares.
    norm = float((s * s).sum())
    a = (p[..., 0] @ s[:, 0] + p[..., 1] @ s[:, 1]) / norm  # (n,)
    b = (p[..., 1] @ s[:, 0] - p[..., 0] @ s[:, 1]) / norm
    affines[:, 0, 0], affines[:, 0, 1], affines[:, 1, 0], affines[:, 1, 1] = a, -b, b, a
    affines[:, :, 2] = p_mean - np.einsum("nij,j->ni", affines[:, :, :2], s_mean)
    return affines


def scale_of(to_frame: NDArray[np.float32]) -> float:
    """Frame pixels per patch pixel of a (2, 3) similarity."""
    return float(np.hypot(to_frame[0, 0], to_frame[1, 0]))


def bounds(to_frame: NDArray[np.float32], size: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the upright rectangle, whole frame pixels, end exclusive, that holds the patch."""
    corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]], np.float32)
    placed = corners @ to_frame[:, :2].T + to_frame[:, 2]
    (x0, y0), (x1, y1) = np.floor(placed.min(0)), np.ceil(placed.max(0)) + 1
    return int(x0), int(y0), int(x1), int(y1)


def moved(affine: NDArray[np.float32], dx: float, dy: float) -> NDArray[np.float32]:
    """``affine`` with its target's origin moved to (dx, dy): frame coordinates to those of a cut-out of the frame."""
    out = affine.copy()
    out[0, 2] -= dx
    out[1, 2] -= dy
    return out


def cut(image: NDArray[np.uint8], to_frame: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The patch that ``to_frame`` places in ``image``.

    Args:
        image: (H, W, 3) uint8.
        to_frame: (2, 3) affine, patch pixels to image pixels.
        size: the patch's side in pixels.

    Returns:
        (size, size, 3) uint8, same colour order; bicubic when it enlarges, area-averaged when it shrinks; what lies
        outside ``image`` repeats its edge.
    """
    height, width = image.shape[:2]
    to_frame, small = reduced(to_frame, width, height)
    if small != (width, height):
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(image, to_frame, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return patch.astype(np.uint8, copy=False)


def reduced(to_frame: NDArray[np.float32], width: int, height: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """To what width and height an image is area-averaged before ``to_frame`` cuts from it, and the affine for that.

    A bicubic kernel alone would alias where it shrinks.
    """
    scale = scale_of(to_frame)
    if scale <= 1.5:
        return to_frame, (width, height)
    small = max(1, round(width / scale)), max(1, round(height / scale))
    fx, fy = small[0] / width, small[1] / height
    to_frame = to_frame * np.array([[fx], [fy]], np.float32)
    to_frame[0, 2] += 0.5 * fx - 0.5
    to_frame[1, 2] += 0.5 * fy - 0.5
    return to_frame, small


def place(patch: NDArray[np.float32], to_image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """``cut``'s inverse: a patch as it lies in an image.

    Args:
        patch: (S, S, C) float32.
        to_image: (2, 3) affine, patch pixels to image pixels.
        shape: width and height of the image.

    Returns:
        (height, width, C) float32, 0 where the patch does not reach; area-averaged when it shrinks, bilinear when it
        enlarges.
    """
    to_image, small = shrunk_to_place(to_image, len(patch))
    if small != len(patch):
        patch = np.asarray(cv2.resize(patch, (small, small), interpolation=cv2.INTER_AREA), np.float32)
    return np.asarray(cv2.warpAffine(patch, to_image, shape, flags=cv2.INTER_LINEAR, borderValue=0), np.float32)


def shrunk_to_place(to_image: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], int]:
    """To what side a patch of ``size`` is area-averaged before ``to_image`` places it, and the affine for that."""
    scale = scale_of(to_image)
    if scale >= 0.75:
        return to_image, size
    small = max(1, round(size * scale))
    factor = size / small
    to_image = to_image.copy()
    to_image[:, 2] += to_image[:, :2] @ np.full(2, factor * 0.5 - 0.5, np.float32)
    to_image[:, :2] *= factor
    return to_image, small
