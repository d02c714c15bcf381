"""The best view of each track in a recording: python examples/best_shots.py visit.mp4 shots/

Writes original and enhanced face side by side.  (``stream-enhance run --gallery`` does more.)
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance import Pipeline


def main(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    best: dict[int, tuple[float, NDArray[np.uint8]]] = {}  # by track: quality, and (S, 2 S, 3) RGB
    with Pipeline() as pipeline:
        for rendered in pipeline.frames(source):
            item = rendered.enhanced
            for original, enhanced, row in zip(item.originals, item.patches, item.faces, strict=True):
                track, score = int(item.scene.faces.track[row]), float(item.scene.faces.score[row])
                sharpness = float(np.abs(np.diff(original.astype(np.float32), axis=1)).mean())
                quality = score * sharpness
                if quality > best.get(track, (0.0, None))[0]:
                    best[track] = quality, np.concatenate([original, enhanced], axis=1)
    for track, (quality, pair) in best.items():
        cv2.imwrite(str(folder / f"track_{track:03d}.png"), cv2.cvtColor(pair, cv2.COLOR_RGB2BGR))
        print(f"track {track}: quality {quality:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
