"""``stream-enhance run``: one source to its outputs, and a report of it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import memory
from ..errors import SinkError, redact, redact_output
from .logs import one_line
from .options import settings, shared, to_seconds
from .signals import stop_signals

if TYPE_CHECKING:
    from ..evidence.session import Evidence
    from ..report import Report
    from ..run import Run

log = logging.getLogger(__name__)


@click.command()
@click.argument("source")
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    metavar="OUTPUT",
    help="Where the result goes: a video file (.mp4 .m4v .mov .mkv .ts), a folder for images (end it with /), a .m3u8"
    " playlist (HLS), - for standard output, or a URL to push to (rtsp, rtmp, udp, srt; http for WHIP;"
    " mjpeg://127.0.0.1:PORT/ for JPEGs in a browser).  Repeat it for several outputs of one encoding.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write counts, times and models as JSON; where the run fails, with the reason.",
)
@click.option(
    "--gallery",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Save the best shot of each face, before and after, and a page that shows them all (index.html).",
)
@click.option(
    "--duration",
    callback=to_seconds,
    metavar="TIME",
    help="Stop after this long, e.g. 20s or 5m: of footage for a recording, on the clock for a camera.",
)
@click.option("--start", callback=to_seconds, metavar="TIME", help="For recordings: begin this far into the footage.")
@click.option("--end", callback=to_seconds, metavar="TIME", help="For recordings: end this far into the footage.")
@click.option(
    "--input-rate",
    type=click.FloatRange(0, 1000, min_open=True),
    metavar="RATE",
    help="For streams without a container, such as .h264: frames a second, where their own rate is wrong.",
)
@click.option("--live", "kind", flag_value="live", default=None, help="For URLs: a camera, however its server answers.")
@click.option("--recorded", "kind", flag_value="recorded", help="For URLs: a recording, which is never reconnected.")
@click.option(
    "--segment",
    callback=to_seconds,
    metavar="TIME",
    help="Start a new file every so often, e.g. 10m; the output's name must hold the time, as in"
    " rec/%Y%m%d-%H%M%S.mp4.",
)
@click.option(
    "--max-age",
    callback=to_seconds,
    metavar="TIME",
    help="For cameras: how far the output may lag behind, e.g. 300ms.  Frames that would be older are dropped, and"
    " counted in the report.  Shorter is more current, longer loses fewer frames.",
)
@click.option("--wait", is_flag=True, help="For cameras: keep trying if the first connection fails.")
@shared
def command(
    source: str,
    outputs: tuple[str, ...],
    report: Path | None,
    gallery: Path | None,
    duration: float | None,
    **given: Any,
) -> None:
    """Enhance SOURCE: a video file, a folder of images, - for a pipe, webcam:N, or a camera's URL.

    In a URL, {NAME} stands for the environment variable NAME: 'rtsp://{USER}:{PASSWORD}@10.0.0.7/stream1'.
    """
    from .progress import Progress

    if report:
        _check_report(report, source, outputs, given["overwrite"])
    latest: Run | None = None
    progress = Progress(quiet=given["quiet"], json_lines=given["log_json"])

    with stop_signals() as stopped:

        def watch(run: Run) -> None:
            nonlocal latest
            latest = run
            progress.show(run)
            if stopped.count == 1:
                run.stop()
            elif stopped.count > 1:
                run.cancel()

        try:
            done, evidence = _run(source, outputs, gallery, duration, given, watch, lambda: stopped.count > 0)
        except Exception as error:
            if stopped.code and latest is None:  # interrupted before there was anything to stop
                sys.exit(stopped.code)
            if report:
                _write_failed(report, _failed(latest, source, one_line(error)), given["overwrite"])
            raise
        finally:
            progress.close()
    if report:
        _write(report, done, given["overwrite"])
    if evidence:
        shots = sorted(path for path in gallery.rglob("*") if path.is_file()) if gallery else []
        log.info("%s: sealed", evidence.seal([*([report] if report else []), *shots]))
    progress.summarise(done, ", ".join(map(redact_output, outputs)))
    if stopped.code:
        sys.exit(stopped.code)


def _run(
    source: str,
    outputs: Sequence[str],
    gallery: Path | None,
    duration: float | None,
    given: dict[str, Any],
    watch: Callable[[Run], None],
    stopped: Callable[[], bool],
) -> tuple[Report, Evidence | None]:
    """Run it; the report, and what is to be sealed once that is written."""
    from ..config import load
    from ..sources.open import open_source

    config = load(given["config"], settings(given))
    if given["evidence"]:
        from ..evidence.pinned import pinned

        config = pinned(config)
    # a camera connects while the rest is imported and the networks are loaded
    opened = open_source(source, config.source, config.live)
    from ..pipeline import Pipeline

    with Pipeline(config) as pipeline, ExitStack() as opened_too:
        evidence = None
        if given["evidence"]:
            from ..evidence.pinned import one_thread
            from ..evidence.session import Evidence

            opened_too.enter_context(one_thread())
            evidence = Evidence(pipeline, source, outputs, given["overwrite"])
        memory.configure_allocator()
        report = pipeline.run(
            opened,
            outputs,
            overwrite=given["overwrite"],
            gallery=gallery,
            recorder=evidence,
            duration=duration,
            watch=watch,
            stopped=stopped,
        )
    return report, evidence


def _failed(run: Run | None, source: str, reason: str) -> Report:
    """The report of a run that failed, or never began."""
    from ..report import Report

    return run.report(reason) if run else Report(source=redact(source), error=reason)


def _check_report(path: Path, source: str, outputs: Sequence[str], overwrite: bool) -> None:
    """Check, before the work rather than after it, that the report can be written and has a name of its own.

    Raises:
        SinkError: it cannot, or is the source, an output, or there already.
    """
    from ..safe_files import Originals, refuse_long_name

    refuse_long_name(path)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise SinkError(f"{path}: cannot be written; name a folder that exists and is writable")
    Originals.of(source).refuse(path)
    if path.resolve() in {Path(output).resolve() for output in outputs}:
        raise SinkError(f"{path}: is the output too; give the report another name")
    if _taken(path) and not overwrite:
        raise SinkError(f"{path}: exists already; use --overwrite to replace it")


def _taken(path: Path) -> bool:
    """Whether a file or link has this name; a device such as /dev/stderr may always be written to."""
    return path.is_symlink() or path.is_file()


def _write(path: Path, report: Report, overwrite: bool) -> None:
    """Write the report under a temporary name, then rename it.

    Raises:
        SinkError: it cannot be written.
    """
    from ..safe_files import Originals, write_whole

    text = json.dumps(report.as_dict(), indent=2) + "\n"
    try:
        if path.exists() and not _taken(path):
            path.write_text(text)
            return
        write_whole(path, text.encode(), Originals.of(report.source), overwrite)
    except OSError as error:
        raise SinkError(f"{path}: the report cannot be written ({error.strerror})") from None


def _write_failed(path: Path, report: Report, overwrite: bool) -> None:
    """The same for a run that failed: its own error is the one to raise."""
    try:
        _write(path, report, overwrite)
    except SinkError as error:
        log.error("%s", error)
