"""Count the faces that pass through a part of the frame, with supervision: python examples/count_in_zone.py visit.mp4

Needs ``pip install supervision``.  Any of its zones, annotators and sinks take the detections in the same way.
"""

import sys
from pathlib import Path

import numpy as np
import supervision as sv

from stream_enhance import Config, EnhancerOptions, Pipeline


def main(source: Path) -> None:
    zone: sv.PolygonZone | None = None
    seen: set[int] = set()
    with Pipeline(Config(enhancer=EnhancerOptions(kind="none"))) as pipeline:  # only find and follow faces
        for rendered in pipeline.frames(source):
            if zone is None:  # the left half of the frame
                width, height = rendered.image.width, rendered.image.height
                polygon = np.array([[0, 0], [width // 2, 0], [width // 2, height], [0, height]])
                zone = sv.PolygonZone(polygon, triggering_anchors=[sv.Position.CENTER])
            detections = rendered.enhanced.scene.faces.to_supervision()
            inside = zone.trigger(detections)
            if detections.tracker_id is not None:
                seen |= {int(track) for track in detections.tracker_id[inside] if track >= 0}
    print(f"{len(seen)} tracks were in the left half")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
