"""``stream-enhance verify``: whether evidence is as it was made."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="PEM file of the certificate that must have signed.  May be repeated.",
)
@click.option(
    "--tsa-certificate",
    "authorities",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="PEM file of a timestamp authority's root certificate.  May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of checks, holds being true, false or null.")
def command(path: Path, certificates: tuple[Path, ...], authorities: tuple[Path, ...], as_json: bool) -> None:
    """Check PATH: a video made with --evidence, its evidence folder, or a case folder.

    Checks signature, hashes, the manifest's chain and completeness, and content credentials.  Exit code 1: something
    does not hold, and what.
    """
    from ..evidence.keys import load_chain
    from ..evidence.verify import Trusted, in_words, verify

    signers = tuple(load_chain(file)[0] for file in certificates)
    checks = verify(path, Trusted(signers, tuple(c for file in authorities for c in load_chain(file))))
    click.echo(json.dumps([asdict(check) for check in checks], indent=2) if as_json else in_words(checks))
    sys.exit(1 if any(check.holds is False for check in checks) else 0)
