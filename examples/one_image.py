"""Enhance the faces of one image: python examples/one_image.py group.jpg enhanced.png"""

import sys

import cv2
import numpy as np

from stream_enhance import Pipeline


def main(source: str, output: str) -> None:
    bgr = cv2.imread(source)
    if bgr is None:
        sys.exit(f"{source}: not a readable image")
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    with Pipeline() as pipeline:
        result = pipeline.enhance(rgb)  # (H, W, 3) uint8 RGB in; call it as often as you like
    for (x1, y1, x2, y2), score in zip(result.faces.xyxy, result.faces.score, strict=True):
        print(f"face at ({x1:.0f}, {y1:.0f}) to ({x2:.0f}, {y2:.0f}), score {score:.2f}")
    cv2.imwrite(output, cv2.cvtColor(result.image, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
