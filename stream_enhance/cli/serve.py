"""``stream-enhance serve``: many cameras, and a page to watch them on."""

from __future__ import annotations

import click

from .options import log_json
from .signals import stop_signals


@click.command()
@click.argument("cameras", type=click.Path(dir_okay=False))
@log_json
def command(cameras: str, log_json: bool) -> None:
    """Run all cameras of the YAML file CAMERAS, and a page to watch them on.

    Each camera is recorded, pushed on and shown as the file says; see configs/cameras.yaml.  SIGHUP reads it again.
    """
    from ..server.serve import serve

    with stop_signals() as stopped:  # the server handles them; here they only must not kill the process
        serve(cameras, lambda: stopped.count > 0)
