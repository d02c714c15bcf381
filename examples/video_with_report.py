"""Enhance a recording and report it: python examples/video_with_report.py visit.mp4 enhanced.mp4 report.json"""

import json
import sys
from pathlib import Path

from stream_enhance import Config, EncoderOptions, OverlayOptions, Pipeline, Run, StreamEnhanceError


def show(run: Run) -> None:
    """Called a few times a second; may also call run.stop()."""
    print(f"\r{run.done} of {run.source.info.frame_count or '?'} frames", end="", file=sys.stderr)


def main(source: Path, output: Path, report: Path) -> None:
    config = Config(overlay=OverlayOptions(mode="side_by_side"), sink=EncoderOptions(crf=18))
    try:
        with Pipeline(config) as pipeline:
            done = pipeline.run(source, output, overwrite=True, watch=show)
    except StreamEnhanceError as error:  # one line that names the thing and the cure
        sys.exit(f"error: {error}")
    report.write_text(json.dumps(done.as_dict(), indent=2))
    print(f"\n{done.frames_out} frames at {done.fps:.1f} frames/s, {done.tracks} tracks, {done.faces_enhanced} faces")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
