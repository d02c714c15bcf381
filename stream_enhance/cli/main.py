"""The command: ``stream-enhance run | batch | probe | doctor``.

Reads options, tells people how it goes, and turns errors into one line and an exit code: 0 done, 1 failed, 2 bad
input, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from .. import __version__, memory
from ..errors import InputError, SinkError, StreamEnhanceError, one_line, redact

log = logging.getLogger("stream_enhance")

_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--config", type=click.Path(dir_okay=False), help="YAML file of settings."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one, e.g. detector.every=3."),
    click.option("--enhancer", type=click.Choice(["unet", "classical", "none"]), help="What changes the faces."),
    click.option("--overlay", type=click.Choice(["inplace", "panel", "side_by_side"]), help="Where they are shown."),
    click.option("--scale", type=click.IntRange(1, 4), help="Enlarge the output."),
    click.option("--overwrite", is_flag=True, help="Replace files that are there."),
    click.option("--quiet", is_flag=True, help="Print errors only."),
    click.option("--log-json", is_flag=True, help="Log lines as JSON."),
]


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stream-enhance")
def cli() -> None:
    """Finds every face in a camera stream or recording, enhances it and puts it back.

    The faces in what comes out were changed by a network: they are a help to the eye, not evidence.
    """


@cli.command()
@click.argument("source")
@click.option(
    "-o",
    "--output",
    "sinks",
    required=True,
    multiple=True,
    help="Video file, folder/ for images, - or URL; or several.",
)
@click.option("--report", type=click.Path(dir_okay=False), help="Write what was done as JSON.")
@click.option("--gallery", type=click.Path(file_okay=False, path_type=Path), help="Folder for each face's best shot.")
@click.option("--duration", metavar="TIME", help="End after, e.g. 20s or 5m.")
@click.option("--segment", metavar="TIME", help="Cut outputs whose name holds % codes, e.g. rec/%H%M%S.mp4.")
@click.option("--max-age", metavar="TIME", help="Of a camera's frames when written, e.g. 300ms.")
@click.option("--wait", is_flag=True, help="Keep trying where a camera cannot be reached at first.")
@_shared
def run(
    source: str, sinks: tuple[str, ...], report: str | None, gallery: Path | None, duration: str | None, **given: Any
) -> None:
    """Enhance SOURCE: a video, a folder of images, - for a pipe, webcam:N, or a camera's URL."""
    from ..config import load
    from ..sources.open import open_source

    config = load(given["config"], _overrides(given))
    limit = seconds_of(duration) if duration else None
    report_path = _writable(report)
    # a camera connects while the rest is imported and the networks are loaded
    opened = open_source(source, config.source, config.live)
    if report:
        _apart(report, source, sinks)
    from ..pipeline import Pipeline

    with stop_signals() as stopped, Pipeline(config) as pipeline:
        from .progress import Progress

        progress = Progress(quiet=given["quiet"], json_lines=given["log_json"])
        memory.configure_allocator()

        def watch(going: Any) -> None:
            progress.show(going)
            if stopped.count == 1:
                going.stop()
            elif stopped.count > 1:
                going.cancel()

        try:
            done = pipeline.run(
                opened,
                list(sinks),
                overwrite=given["overwrite"],
                gallery=gallery,
                duration=limit,
                watch=watch,
                stopped=lambda: stopped.count > 0,
            )
        finally:
            progress.close()
    if report_path:
        report_path.write_text(json.dumps(done.as_dict(), indent=2) + "\n")
    progress.summarise(done, redact(", ".join(sinks)))
    if stopped.code:
        sys.exit(stopped.code)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@_shared
def batch(folder: Path, output: Path, **given: Any) -> None:
    """Enhance every video below FOLDER that an earlier batch has not done.

    Ctrl-C finishes the video in hand; a second one leaves it for the next batch.
    """
    from ..config import load
    from ..jobs.batch import enhance_folder, table
    from ..pipeline import Pipeline
    from .progress import Progress

    config = load(given["config"], _overrides(given))
    items = []
    with stop_signals() as stopped, Pipeline(config) as pipeline:
        progress = Progress(quiet=given["quiet"], json_lines=given["log_json"])
        memory.configure_allocator()

        def watch(going: Any) -> None:
            progress.show(going)
            if stopped.count > 1 or stopped.code == 128 + signal.SIGTERM:
                going.cancel()

        for item in enhance_folder(
            pipeline,
            folder,
            output,
            overwrite=given["overwrite"],
            watch=watch,
            stopping=lambda: stopped.count > 0,
        ):
            progress.close()
            items.append(item)
            if item.report:
                progress.summarise(item.report, str(output / item.output))
            elif item.error:
                log.error("%s", "; ".join(_one_line(error) for error in _each(item.error)))
            progress = Progress(quiet=given["quiet"], json_lines=given["log_json"])
    if not given["quiet"] and not given["log_json"]:
        click.echo(table(items))
    if stopped.code:
        sys.exit(stopped.code)
    sys.exit(1 if any(item.error for item in items) else 0)


@cli.command()
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def probe(source: str, as_json: bool) -> None:
    """Say what is in SOURCE, and what an enhanced copy would lose."""
    from .probe import format_summary, inspect_source

    found = inspect_source(source)
    click.echo(json.dumps(found, indent=2) if as_json else format_summary(found))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this installation can use, what is missing, and the command that mends it."""
    from .doctor import examine, format_summary

    found = examine()
    click.echo(json.dumps(found, indent=2) if as_json else format_summary(found))
    sys.exit(0 if found["ready"] else 1)


@cli.command()
@click.argument("cameras", type=click.Path(dir_okay=False))
@click.option("--log-json", is_flag=True, help="Log lines as JSON.")
def serve(cameras: str, log_json: bool) -> None:
    """Run all cameras of a YAML file, and a page to watch them on."""
    from ..server.serve import serve as run_server

    with stop_signals() as stopped:  # the server ends by them and sends them on; nothing else shall
        run_server(cameras, lambda: stopped.count > 0)


def _overrides(given: dict[str, Any]) -> list[str]:
    named = {"enhancer.kind": given["enhancer"], "overlay.mode": given["overlay"], "overlay.scale": given["scale"]}
    named["live.max_age"] = seconds_of(given["max_age"]) if given.get("max_age") else None
    named["segments.seconds"] = seconds_of(given["segment"]) if given.get("segment") else None
    named["live.wait"] = "true" if given.get("wait") else None
    return [*given["overrides"], *(f"{key}={value}" for key, value in named.items() if value is not None)]


def _apart(report: str, source: str, sinks: Sequence[str]) -> None:
    """Look that the report has a name of its own."""
    from ..sinks.target import refuse_overwriting_source

    refuse_overwriting_source(source, report)
    if Path(report).resolve() in {Path(sink).resolve() for sink in sinks}:
        raise SinkError(f"{report}: is the output too; give the report another name")


def _writable(report: str | None) -> Path | None:
    """The report's path, tried before the work rather than after it."""
    if report is None:
        return None
    path = Path(report)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise SinkError(f"{report}: cannot be written; name a folder that is there and may be written to")
    return path


def seconds_of(text: str) -> float:
    """``20s``, ``300ms``, ``5m``, ``1h`` or plain seconds, in seconds.

    Raises:
        InputError: it is none of these.
    """
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.rstrip("smh")
    try:
        seconds = float(number) * units[text[len(number) :] or "s"]
    except (ValueError, KeyError):
        raise InputError(f"{text}: not a time; write 300ms, 20s, 5m or 1h") from None
    if not 0 < seconds < float("inf"):
        raise InputError(f"{text}: a time must be above zero, and have an end")
    return seconds


class StopSignals:
    """How often the user asked to stop, and the exit code for it."""

    count = 0
    code = 0

    def __call__(self, number: int, frame: object) -> None:
        self.count += 1
        self.code = 128 + number
        if self.count > 2:  # even the tearing down hangs
            os._exit(self.code)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """SIGINT and SIGTERM counted instead of killing; a third one ends the process at once."""
    stopped = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stopped) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "message": redact(record.getMessage()),
        }
        return json.dumps(line)


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{record.levelname.lower()}: {one_line(redact(record.getMessage()))}{redact(trace)}"


def _set_up_logging(arguments: list[str]) -> None:
    import av.logging

    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if "--log-json" in arguments else _PlainLines())
    log.handlers[:] = [handler]
    log.setLevel(logging.ERROR if "--quiet" in arguments else logging.INFO)
    av.logging.set_level(None)  # FFmpeg's own lines hold URLs; what matters of them is in our errors


def main(arguments: list[str] | None = None) -> None:
    """The ``stream-enhance`` command; ends in ``SystemExit``, or, called without ``arguments``, with the process."""
    try:
        _main(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as leaving:
        if arguments is None:
            _end_process(leaving.code)
        raise


def _end_process(code: int | str | None) -> None:
    """End it at once where a thread is left: one in FFmpeg would call back into an interpreter that is no more."""
    if all(thread is threading.current_thread() or not thread.daemon for thread in threading.enumerate()):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else bool(code))


def _main(arguments: list[str]) -> None:
    _set_up_logging(arguments)
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
        for each in _each(group):
            log.error("%s", _one_line(each))
        sys.exit(2 if all(isinstance(e, InputError) for e in group.exceptions) else 1)
    except Exception as error:
        log.error("%s", _one_line(error))
        if os.environ.get("STREAM_ENHANCE_TRACEBACK"):
            log.error("traceback:", exc_info=error)
        sys.exit(1)
    sys.exit(0)


def _each(error: BaseException) -> tuple[BaseException, ...]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)


def _one_line(error: BaseException) -> str:
    if isinstance(error, StreamEnhanceError):
        return str(error)
    notes = "; ".join(getattr(error, "__notes__", []))
    told = redact(f"{type(error).__name__}: {error}".replace("\n", " "))
    return f"{told}{f' ({notes})' if notes else ''}; set STREAM_ENHANCE_TRACEBACK=1 to see where"
