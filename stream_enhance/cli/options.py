"""Options that several commands share, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click

from ..errors import InputError
from ..options import EnhancerKind, OverlayMode

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SETTING_OF = {  # option: the setting that it is short for
    "enhancer": "enhancer.kind",
    "overlay": "overlay.mode",
    "scale": "overlay.scale",
    "max_age": "live.max_age",
    "segment": "segments.seconds",
    "wait": "live.wait",
    "kind": "source.kind",
    "input_rate": "source.input_rate",
    "start": "source.start",
    "end": "source.end",
    "keep_original": "evidence.keep_original",
    "tsa": "evidence.tsa",
}


def to_seconds(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A click callback for options that take a duration."""
    return None if text is None else seconds_of(text)


def seconds_of(text: str) -> float:
    """``20s``, ``300ms``, ``5m``, ``1h`` or plain seconds, in seconds.

    Raises:
        InputError: it is none of these.
    """
    number = text.rstrip("smh")
    try:
        seconds = float(number) * _UNITS[text[len(number) :] or "s"]
    except (ValueError, KeyError):
        raise InputError(f"{text}: not a duration; write it as 300ms, 20s, 5m or 1h") from None
    if not 0 < seconds < float("inf"):
        raise InputError(f"{text}: a duration must be above zero and finite")
    return seconds


config_file = click.option(
    "--config",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Read settings from a YAML file; `stream-enhance config show` prints one with all of them.",
)
overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting, e.g. detector.every=3; wins over --config.  May be repeated.",
)
log_json = click.option("--log-json", is_flag=True, help="Write log lines as JSON, one object a line.")

enhancer = click.option(
    "--enhancer",
    type=click.Choice(get_args(EnhancerKind)),
    help="What enhances the faces: a neural network (unet), filters without a learned model (classical), a mean of"
    " a face's last frames (fuse), or nothing: faces are only found and followed (none).",
)
tsa = click.option(
    "--tsa", metavar="URL", help="Have the seal of the evidence timestamped by this authority (RFC 3161)."
)
quiet = click.option("--quiet", is_flag=True, help="Print errors only.")

_SHARED: list[Callable[[Any], Any]] = [
    config_file,
    overrides,
    enhancer,
    click.option(
        "--overlay",
        type=click.Choice(get_args(OverlayMode)),
        help="How the result is shown: enhanced faces in their place in the frame (inplace), the largest faces before"
        " and after in a strip below an unchanged frame (panel), or the original beside the enhanced frame"
        " (side_by_side).",
    ),
    click.option("--scale", type=click.IntRange(1, 4), help="Enlarge the output 1 to 4 times; faces show more detail."),
    click.option(
        "--evidence",
        is_flag=True,
        help="Make the result checkable: repeatable settings, a manifest with each frame's hash and every decision,"
        " signatures; see `verify`.  Classical filters enhance unless --enhancer names something else.",
    ),
    click.option("--keep-original", is_flag=True, help="With --evidence: keep a copy of the source, a file or folder."),
    tsa,
    click.option("--overwrite", is_flag=True, help="Replace outputs and reports that exist.  Never the source."),
    quiet,
    log_json,
]


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the commands that enhance."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def settings(given: dict[str, Any]) -> list[str]:
    """``section.key=value`` of ``--set`` and then of the options that are short for a setting."""
    named = {setting: given.get(option) for option, setting in _SETTING_OF.items()}
    return [*given["overrides"], *(f"{key}={value}" for key, value in named.items() if value not in (None, False))]
