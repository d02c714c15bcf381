"""Good faces in any folder of images: the project's own detector, and the largest face of each image."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import open_session
from stream_enhance.errors import InputError
from stream_enhance.shipped import DETECTOR, default_model
from stream_enhance.stages.detect import Detector, DetectorOptions
from stream_enhance.types import Frame
from train.common.images import Image, list_images, read_image
from train.enhancer.data import Portrait

log = logging.getLogger("train.enhancer.data")
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 pixels
OPTIONS = DetectorOptions(size=320, every=1, score=0.3)  # the largest face needs no more pixels
MARGINS = (0.4, 0.0, 1.0)  # of the image's longer side, put around it: a face may fill it, or be one of many


def find_faces(root: Path, model: Path | None = None) -> list[Portrait]:
    """The largest face of every image under `root`; every file is its own person, the set is its folder's name.

    What cannot be read, and images without a face, are named in the log. Raises InputError where nothing is left.
    """
    files = list_images(root)
    portraits = []
    with open_session(model or default_model(DETECTOR), "face-detection", "cpu") as session:
        detector = Detector(session, OPTIONS)
        for path in files:
            try:
                image = read_image(path)
            except InputError as error:
                log.warning("left out: %s", error)
                continue
            found = largest_face(detector, image)
            if found is None:
                log.warning("left out: %s: no face found in it", path)
                continue
            portraits.append(Portrait(path, path.parent.name, found[0], found[1], str(path)))
    if not portraits:
        raise InputError(f"{root}: no face was found in any of its {len(files)} images")
    if len(portraits) < len(files):
        log.warning("%d of %d images left out", len(files) - len(portraits), len(files))
    return portraits


def largest_face(detector: Detector, image: Image) -> tuple[Box, NDArray[np.float32]] | None:
    """(box, points (5, 2)), pixels of the image, of the highest face found with one of the MARGINS; None: no face."""
    for margin in MARGINS:
        edge = round(margin * max(image.shape[:2]))
        framed = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
        shot = av.VideoFrame.from_ndarray(framed, format="rgb24")
        faces = detector.find(Frame(shot, 0, 0, Fraction(1, 25), 0.0, 0.0))
        if len(faces) and faces.points is not None:
            best = int(np.argmax(faces.xyxy[:, 3] - faces.xyxy[:, 1]))
            x1, y1, x2, y2 = (float(v) - edge for v in faces.xyxy[best])
            return (x1, y1, x2, y2), (faces.points[best] - edge).astype(np.float32)
    return None
