"""Frames in a loop of your own: python examples/own_loop.py 'rtsp://10.0.0.7/stream1' frames/

Here every 25th frame is saved; ``cv2.imshow("camera", bgr)`` and ``cv2.waitKey(1)`` would show them instead.
"""

import sys
from pathlib import Path

import cv2

from stream_enhance import Config, DetectorOptions, Pipeline


def main(source: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(detector=DetectorOptions(every=3))  # faster: faces follow their tracks on two frames of three
    with Pipeline(config) as pipeline:
        for rendered in pipeline.frames(source):  # leaving the loop early ends its threads
            frame, faces = rendered.enhanced.scene.frame, rendered.enhanced.scene.faces
            if frame.index % 25:
                continue
            bgr = cv2.cvtColor(rendered.to_rgb(), cv2.COLOR_RGB2BGR)
            for (x, y, _, _), track in zip(faces.xyxy, faces.track, strict=True):
                cv2.putText(bgr, f"#{track}", (int(x), int(y) - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0))
            cv2.imwrite(str(folder / f"{frame.index:06d}.jpg"), bgr)
            print(f"{frame.seconds:8.2f} s, faces: {len(faces)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
