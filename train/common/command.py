"""How every command of `train/` begins and ends.

A network's commands are one click group whose members are imported when they are named (`Commands`). `run` calls it
and turns what went wrong into one line on stderr and an exit code: 0 done, 1 the run failed (a loss that is not
finite, an export that differs), 2 what was given cannot be used, 130 interrupted.
"""

import importlib
import json
import logging
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from stream_enhance.errors import InputError, StreamEnhanceError

FILE = click.Path(path_type=Path)


class LossNotFinite(StreamEnhanceError):
    """A loss became NaN or infinite. Exit code 1, for every network."""


class ExportDiffers(StreamEnhanceError):
    """The exported file does not give what torch gives. Exit code 1."""


class Several(click.Option):
    """An option that takes one value or more, as in `--sizes 24 48`; `Command` reads it."""

    def __init__(self, *args: Any, **settings: Any):
        settings["multiple"] = True
        super().__init__(*args, **settings)


class Command(click.Command):
    """A command whose `Several` options take all values up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat a `Several` option before each of its values, as click wants it."""
        several = {name for each in self.params if isinstance(each, Several) for name in each.opts}
        spread: list[str] = []
        current = ""  # the option that the next value belongs to
        for word in args:
            if word.startswith("-") and not is_number(word):
                current = word if word in several else ""
                spread += [] if current else [word]
            else:
                spread += [current, word] if current else [word]
        return super().parse_args(ctx, spread)


class Commands(click.Group):
    """A group that imports a command's module, and torch with it, only when that command is named."""

    def __init__(self, places: Mapping[str, tuple[str, str]], **settings: Any):
        super().__init__(context_settings={"help_option_names": ["-h", "--help"]}, **settings)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names, in their order of use."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, its module imported now; None where there is none."""
        if cmd_name not in self.places:
            return None
        module, _, name = self.places[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name or "command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.places.items()])


def run(command: click.Command, arguments: Sequence[str] | None, name: str) -> int:
    """Run `command` as `name` on `arguments` (the process's own for None); the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            command.main(args=None if arguments is None else list(arguments), prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        return 2
    except click.Abort:
        return 130
    except OSError as error:
        print(f"error: {f'{error.filename}: {error.strerror}' if error.filename else error}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StreamEnhanceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def show_warning(message: Warning | str, *place: object, **_: object) -> None:
    """Print a warning as one line on stderr, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def finite(loss: float, step: int, cure: str) -> None:
    """Raise LossNotFinite, naming `step` and the `cure`, where `loss` is NaN or infinite."""
    if not math.isfinite(loss):
        raise LossNotFinite(f"the loss is {loss} at step {step}; {cure}; the last good checkpoint is kept")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise InputError where `path` exists already and `overwrite` is not given."""
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; name another file or add --overwrite")


def json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in `path`, which should be `what`. Raises InputError."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name {what}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); name {what}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, not an object with keys; name {what}")
    return found


def is_number(word: str) -> bool:
    """Whether `word` is a number, as -5 is and --sizes is not."""
    try:
        float(word)
    except ValueError:
        return False
    return True
