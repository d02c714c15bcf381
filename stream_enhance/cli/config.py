"""``stream-enhance config``: the settings as people and editors read them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import click
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WIDTH = 100


@click.group()
def command() -> None:
    """Show the settings, or their JSON schema."""


@command.command()
@click.option("--config", "path", type=click.Path(dir_okay=False), metavar="FILE", help="YAML file of settings.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one, e.g. detector.every=3.")
def show(path: str | None, overrides: tuple[str, ...]) -> None:
    """Print every setting with its description, as YAML that --config takes.

    Without options these are the defaults; with --config or --set what a run with the same options would use.
    """
    from ..config import load

    click.echo("\n".join(commented_yaml(load(path, overrides))))


@command.command()
def schema() -> None:
    """Print the JSON schema of the settings, for editors that complete and check YAML.

    VS Code, for one: save it as settings.schema.json and begin a settings file with
    `# yaml-language-server: $schema=settings.schema.json`.
    """
    from ..config import Config

    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    click.echo(json.dumps(document | {"title": "stream-enhance settings"}, indent=2))


def commented_yaml(model: BaseModel, depth: int = 0) -> Iterator[str]:
    """Lines of YAML that give ``model`` again, with the fields' descriptions as comments."""
    indent = "  " * depth
    # keys of its own first: after a section they would pass for that section's
    fields = sorted(type(model).model_fields.items(), key=lambda item: isinstance(getattr(model, item[0]), BaseModel))
    for name, field in fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from ("",) if depth == 0 else ()
            yield from _comment(indent, (type(value).__doc__ or "").partition("\n\n")[0])
            yield f"{indent}{name}:"
            yield from commented_yaml(value, depth + 1)
        else:
            yield from _comment(indent, _described(field))
            yield f"{indent}{name}: {_scalar(model.model_dump(mode='json')[name])}"


def _described(field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return " ".join([field.description or "", f"One of {', '.join(choices)}." if choices else ""]).strip()


def _comment(indent: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _scalar(value: Any) -> str:
    """``value`` as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
