"""``stream-enhance case``: footage to a folder that goes into a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import memory
from ..errors import InputError, StreamEnhanceError
from .options import config_file, enhancer, log_json, overrides, quiet, settings, tsa
from .signals import stop_signals

if TYPE_CHECKING:
    from ..run import Run

log = logging.getLogger(__name__)


@click.command()
@click.argument("footage", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="CASE",
    help="Folder of the case, new or empty.",
)
@click.option("--title", default="", metavar="TEXT", help="Heading of the page and the PDF; else the folder's name.")
@click.option(
    "--notes",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add the notes.json that the case's page saved to the case in the folder; name no footage.",
)
@config_file
@overrides
@enhancer
@tsa
@quiet
@log_json
def command(footage: tuple[Path, ...], folder: Path, title: str, notes: Path | None, **given: Any) -> None:
    """Make a case folder of FOOTAGE: one or more recordings, such as those of the cameras of one place.

    It holds the originals, the enhanced videos, every face's best shots as recorded, by published formulas and by the
    network, a page (index.html) with timeline and player, a report (report.pdf), and a signed list of it all, which
    `stream-enhance verify CASE` checks.  The enhanced videos are made by the published formulas unless --enhancer names
    another method.
    """
    from ..config import load
    from ..jobs.case.build import add_notes, build_case
    from ..jobs.case.record import read_case
    from .progress import Progress

    if notes:
        if footage or title:
            raise InputError("--notes adds to a case that is there; name no footage or --title with it")
        add_notes(folder, read_case(folder), notes, load(given["config"], settings(given)))
        return
    config = load(given["config"], settings(given))
    progress = Progress(quiet=given["quiet"], json_lines=given["log_json"])
    with stop_signals() as stopped:

        def watch(run: Run) -> None:
            progress.show(run)
            if stopped.count:
                run.cancel()

        memory.configure_allocator()
        try:
            case = build_case(footage, folder, config, title=title, watch=watch, stopped=lambda: stopped.count > 0)
        except StreamEnhanceError as error:
            if not stopped.code:
                raise
            log.error("%s", error)
            sys.exit(stopped.code)
        finally:
            progress.close()
    tracks = sum(len(video.tracks) for video in case.videos)
    log.info("%s: %d tracks in %d videos; open %s", folder, tracks, len(case.videos), folder / "index.html")
