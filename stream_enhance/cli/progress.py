"""Progress of a run: a bar on a terminal, a log line every few seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..report import Report
    from ..run import Run

log = logging.getLogger(__name__)
_EVERY = 5.0  # seconds between lines where there is no terminal


class Progress:
    """Shows frames done, frames a second, faces and time left, on standard error."""

    def __init__(self, quiet: bool = False, json_lines: bool = False) -> None:
        self._bar: Any = None
        self._quiet, self._plain = quiet, json_lines or not sys.stderr.isatty()
        self._said = time.monotonic()

    def show(self, run: Run) -> None:
        """Called a few times a second while the run goes on."""
        if self._quiet:
            return
        if self._plain:
            if time.monotonic() - self._said >= _EVERY:
                self._said = time.monotonic()
                total = run.source.info.frame_count
                of_all = f" of {total}" if total else ""
                rate = run.done / (self._said - run.started)
                log.info("%d%s frames, %.1f frames/s, %d faces", run.done, of_all, rate, run.faces)
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=run.source.info.frame_count or None, unit="frame", dynamic_ncols=True)
        self._bar.n = run.done
        self._bar.set_postfix_str(f"{run.faces} faces")

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        if self._bar is not None:
            self._bar.close()

    def summarise(self, report: Report, output: str) -> None:
        """The last line."""
        if report.frames_out:
            log.info(
                "%s: %d frames at %.1f frames/s, %d faces enhanced (%d from the cache), %d tracks, %d frames dropped",
                output,
                report.frames_out,
                report.fps,
                report.faces_enhanced,
                report.faces_from_cache,
                report.tracks,
                report.frames_dropped,
            )
