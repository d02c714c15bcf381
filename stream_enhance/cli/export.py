"""``stream-enhance export``: a still pair or a clip out of a case."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError


@click.command()
@click.argument("case", type=click.Path(file_okay=False, path_type=Path))
@click.option("--video", required=True, metavar="NAME", help="Of the case's videos, as its page names them.")
@click.option("--frame", type=click.IntRange(0), metavar="N", help="A pair of stills: this frame.")
@click.option("--from-frame", type=click.IntRange(0), metavar="N", help="A pair of clips: from this frame...")
@click.option("--to-frame", type=click.IntRange(0), metavar="N", help="... to this one.")
@click.option(
    "--redact",
    default="",
    metavar="WHO",
    help="Cover faces with a flat colour: all; others:3,7 (everybody but tracks 3 and 7); or 3,7 (these tracks).",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder for the export, new or empty.",
)
def command(
    case: Path,
    video: str,
    frame: int | None,
    from_frame: int | None,
    to_frame: int | None,
    redact: str,
    output: Path,
) -> None:
    """Export a still or a clip of CASE, as recorded and enhanced, with a manifest and SHA-256 sums.

    The case's page writes the command for the frame that it shows.
    """
    from ..jobs.case.export import export
    from ..jobs.case.record import read_case

    match frame, from_frame, to_frame:
        case (int(first), None, None):
            last = first
        case (None, int(first), int(last)):
            pass
        case _:
            raise InputError("name --frame, or --from-frame and --to-frame")
    export(read_case(case), case, video, first, last, redact, output)
