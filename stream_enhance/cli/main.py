"""The command ``stream-enhance``: its subcommands, and errors turned into one line and an exit code.

0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module

import click

from .. import __version__
from ..errors import InputError, StreamEnhanceError
from .logs import configure_logging, log, one_line

COMMANDS = {  # module of this package, which holds the command as ``command``: its line in --help
    "run": "Enhance one video, folder of images or camera.",
    "batch": "Enhance every video below a folder.",
    "case": "Make a case folder of recordings: page, report and best shots of every face.",
    "export": "Take a still or a clip out of a case, with faces covered if asked.",
    "serve": "Run many cameras, and a page to watch them on.",
    "verify": "Check that evidence, made with --evidence, is as it was made.",
    "replay": "Run again what evidence records, and compare every frame.",
    "probe": "Show what is in a source, and what an enhanced copy would lose.",
    "doctor": "Show what this installation can use, and how to fix what it cannot.",
    "config": "Show the settings, or their JSON schema.",
    "engine": "Build and check compiled engines for an RTX card.",
}


class _Commands(click.Group):
    """Imports a command when it is called, so that ``doctor`` and help work where a library is missing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".{cmd_name}", __package__).command
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stream-enhance")
def cli() -> None:
    """Find every face in a camera stream or recording, enhance it, and put it back.

    The faces in the output were changed by a network: they are an aid to the eye, not evidence.
    """


def main(arguments: list[str] | None = None) -> None:
    """The ``stream-enhance`` command; ends in ``SystemExit``, or, called without ``arguments``, with the process."""
    try:
        _main(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as leaving:
        if arguments is None:
            _end_process(leaving.code)
        raise


def _main(arguments: list[str]) -> None:
    configure_logging(arguments)
    try:
        cli.main(arguments, prog_name="stream-enhance", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except StreamEnhanceError as error:
        log.error("%s", error)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except BaseExceptionGroup as group:
        for each in group.exceptions:
            log.error("%s", one_line(each))
        sys.exit(2 if all(isinstance(each, InputError) for each in group.exceptions) else 1)
    except Exception as error:
        log.error("%s", one_line(error))
        if os.environ.get("STREAM_ENHANCE_TRACEBACK"):
            log.error("traceback:", exc_info=error)
        sys.exit(1)
    sys.exit(0)


def _end_process(code: int | str | None) -> None:
    """End it at once where a thread is left: one in FFmpeg would call back into an interpreter that is no more."""
    if all(thread is threading.current_thread() or not thread.daemon for thread in threading.enumerate()):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else bool(code))
