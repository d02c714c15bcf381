"""An mkdocs hook: adds the pages that are made from the code when the site is built.

The command line comes from click, configuration and its JSON schema from the pydantic models, so neither can differ
from the program.  Model cards, reports, changelog and the like stand in the repository once and are shown from there.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
_PAGES = {  # file of the repository: page of the site
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
} | {f"engines/{card.name}": f"models/{card.name}" for card in sorted((ROOT / "engines").glob("*.md"))}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put model cards and reports, whichever there are, before the last section of the navigation."""
    assert config.nav is not None
    reports = sorted((ROOT / "docs" / "reports").glob("*.md"), key=lambda path: (path.name != "index.md", path.name))
    cards = [page for page in _PAGES.values() if page.startswith("models/")]
    config.nav[-1:-1] = [{"Measurements": [*(f"reports/{path.name}" for path in reports), *cards]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from stream_enhance.config import Config

    pages = {
        "reference/cli.md": cli_page(),
        "reference/configuration.md": configuration_page(Config),
        "reference/cameras.md": cameras_page(),
        "reference/report.md": report_page(),
        "reference/config.schema.json": json.dumps(Config.model_json_schema(), indent=2) + "\n",
    }
    pages |= {page: moved((ROOT / name).read_text(), name, page) for name, page in _PAGES.items()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def moved(text: str, name: str, page: str) -> str:
    """``text`` of the file ``name``, its links pointing to the same things from ``page``; those outside become code."""

    def link(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        path, _, anchor = target.partition("#")
        at = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        shown = _PAGES.get(at) or (at.removeprefix("docs/") if at.startswith("docs/") else "")
        if not shown:
            return match[0] if image else f"{label} (`{at}`)"
        there = posixpath.relpath(shown, posixpath.dirname(page) or ".")
        return f"{image}[{label}]({there}{'#' + anchor if anchor else ''})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, text)


# ---- the command line


def cli_page() -> str:
    """Every command's own help."""
    from stream_enhance.cli.main import cli

    text = ["# Command line\n\nWhat `stream-enhance COMMAND --help` prints.\n"]
    for name, command in commands(cli):
        context = click.Context(command, info_name=name, max_content_width=100)
        text.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    text.append(_EXIT_CODES)
    return "\n".join(text)


def commands(group: click.Group, prefix: str = "stream-enhance") -> Iterator[tuple[str, click.Command]]:
    """``group`` and all below it, with their whole names."""
    yield prefix, group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        elif command is not None:
            yield f"{prefix} {name}", command


_EXIT_CODES = """
## Exit codes

| code | meaning |
|---|---|
| 0 | done, and every output is whole |
| 1 | the run failed, or an output of a recording is not whole |
| 2 | something that was given cannot be used; one line says what and how to mend it |
| 130, 143 | interrupted by Ctrl-C, terminated; what was in flight is written |

`STREAM_ENHANCE_TRACEBACK=1` shows where an unexpected error was raised.
"""

# ---- configuration


def configuration_page(model: type[BaseModel]) -> str:
    """Every key of the configuration with its type, default and meaning."""
    text = [_CONFIGURATION]
    top = [(name, field) for name, field in model.model_fields.items() if not _section(field.annotation)]
    for name, field in model.model_fields.items():
        if inner := _section(field.annotation):
            text += section(inner, name, 2)
    text += ["## top level\n", *table(top, "", model)]
    return "\n".join(text)


_CONFIGURATION = """# Configuration

YAML, given with `--config FILE`. Every key has a default; leave out what you do not change. One key can also be set on
the command line: `--set detector.score=0.5`.

An unknown key is an error that names the nearest known one. `stream-enhance config show` prints all keys as YAML to
start from. For completion and checking in an editor, save the JSON schema and name it in the file's first line; it is
[here](config.schema.json), too:

```sh
stream-enhance config schema > settings.schema.json
```

```yaml
# yaml-language-server: $schema=settings.schema.json
```
"""


def section(model: type[BaseModel], name: str, level: int) -> list[str]:
    """One section's heading, description and table, and those of the sections in it."""
    text = [f"{'#' * level} {name}\n", f"{(model.__doc__ or '').strip()}\n"]
    plain = [(key, field) for key, field in model.model_fields.items() if not _section(field.annotation)]
    text += table(plain, f"{name}.", model)
    for key, field in model.model_fields.items():
        if inner := _section(field.annotation):
            text += section(inner, f"{name}.{key}", level + 1)
    return text


def table(fields: list[tuple[str, Any]], prefix: str, model: type[BaseModel], defaults: bool = True) -> list[str]:
    """A row a key."""
    schema = model.model_json_schema(mode="validation")
    rows = ["| key | type | default | |", "|---|---|---|---|"] if defaults else ["| field | type | |", "|---|---|---|"]
    for key, field in fields:
        cells = [f"`{prefix}{key}`", _kind(schema["properties"][key], schema.get("$defs", {}))]
        if defaults:
            cells.append(
                "required" if field.is_required() else f"`{_default(field.get_default(call_default_factory=True))}`"
            )
        cells.append((field.description or "").replace("|", "\\|"))
        rows.append(f"| {' | '.join(cells)} |")
    return [*rows, ""]


def cameras_page() -> str:
    """The keys of ``cameras.yaml``."""
    from stream_enhance.server.config import CameraConfig, NotifyConfig, ServeConfig

    text = [_CAMERAS]
    text += [
        "## The file\n",
        *table([item for item in ServeConfig.model_fields.items() if item[0] != "notify"], "", ServeConfig),
        "## notify\n",
        f"{(NotifyConfig.__doc__ or '').strip()}\n",
        *table(list(NotifyConfig.model_fields.items()), "notify.", NotifyConfig),
        "## cameras.NAME\n",
        *table(list(CameraConfig.model_fields.items()), "", CameraConfig),
        "## An example\n",
        "```yaml\n" + (ROOT / "configs" / "cameras.yaml").read_text() + "```\n",
    ]
    return "\n".join(text)


_CAMERAS = """# cameras.yaml

What [`stream-enhance serve`](../how-to/cameras.md) reads. Names of cameras are letters, digits, `-` and `_`.
`{NAME}` in a URL is the environment variable `NAME`: no password need be in the file. `settings` takes every key of the
[configuration](configuration.md).
"""


def report_page() -> str:
    """The fields of the report."""
    from stream_enhance.report import Report

    return "\n".join([_REPORT, *table(list(Report.model_fields.items()), "", Report, defaults=False)])


_REPORT = """# Report

`--report FILE` writes one JSON object when a run ends; `Pipeline.run` returns the same as `stream_enhance.Report`. The
numbers add up: `frames_in = frames_out + frames_dropped`, however the run ended. Fields that do not apply are left out.
"""


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _default(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else json.dumps(value, default=str)


def _kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema in a word or two: ``number, 0 to 1``."""
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(inner, definitions) for inner in schema["anyOf"])
    kind = {"string": "text", "array": "list", "object": "mapping"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return f"{kind}, {' '.join(bounds)}" if bounds else kind
