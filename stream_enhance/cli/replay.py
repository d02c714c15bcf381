"""``stream-enhance replay``: whether a recorded run gives the same frames again."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from .options import log_json


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(path_type=Path), metavar="FILE", help="Where the source is now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@log_json
def command(path: Path, source: Path | None, as_json: bool, quiet: bool, log_json: bool) -> None:
    """Run what PATH records again, a video made with --evidence or its evidence folder, and compare every frame.

    Frames are compared as decoded and, finished, before they are encoded.  Exit code 1: they differ, and by how much.
    """
    from ..evidence.replay import replay
    from .progress import Progress

    progress = Progress(quiet=quiet, json_lines=log_json)
    try:
        result = replay(path, source, progress.show)
    finally:
        progress.close()
    click.echo(json.dumps({"equal": result.equal, **asdict(result)}, indent=2) if as_json else result.in_words())
    sys.exit(0 if result.equal else 1)
