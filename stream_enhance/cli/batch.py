"""``stream-enhance batch``: every video below a folder."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import memory
from .logs import one_line
from .options import settings, shared
from .signals import stop_signals

if TYPE_CHECKING:
    from ..run import Run

log = logging.getLogger(__name__)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for the results, created if needed; they keep their relative paths.",
)
@shared
def command(folder: Path, output: Path, **given: Any) -> None:
    """Enhance every video below FOLDER that an earlier batch has not finished.

    What is finished is recorded in the output folder (stream-enhance.json), so an interrupted batch goes on where it
    stopped.  Ctrl-C finishes the current video; a second one abandons it, and the next batch starts it again.
    """
    from ..config import load
    from ..jobs.batch import enhance_folder, table
    from ..pipeline import Pipeline
    from .progress import Progress

    def new_progress() -> Progress:
        return Progress(quiet=given["quiet"], json_lines=given["log_json"])

    config = load(given["config"], settings(given))
    if given["evidence"]:
        from ..evidence.pinned import pinned

        config = pinned(config)
    items = []
    with stop_signals() as stopped, Pipeline(config) as pipeline:
        progress = new_progress()
        memory.configure_allocator()

        def watch(run: Run) -> None:
            progress.show(run)
            if stopped.count > 1 or stopped.code == 128 + signal.SIGTERM:
                run.cancel()

        for item in enhance_folder(
            pipeline,
            folder,
            output,
            overwrite=given["overwrite"],
            evidence=given["evidence"],
            watch=watch,
            stopping=lambda: stopped.count > 0,
        ):
            progress.close()
            items.append(item)
            if item.report:
                progress.summarise(item.report, str(output / item.output))
            elif item.error:
                log.error("%s", one_line(item.error))
            progress = new_progress()
    if not given["quiet"] and not given["log_json"]:
        click.echo(table(items))
    if stopped.code:
        sys.exit(stopped.code)
    sys.exit(1 if any(item.error for item in items) else 0)
