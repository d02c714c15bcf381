"""Recipes: a YAML file as frozen values. A key that is not known is an error, and every error names its key."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stream_enhance.config import read_yaml
from stream_enhance.errors import ConfigError


class Part(BaseModel):
    """Part of a recipe: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CardText(Part):
    """The text of an exported network's card; it comes from the recipe alone."""

    license: str = "AGPL-3.0-or-later"
    data: str = "not stated"  # what it was trained on
    weaknesses: str = "not stated"  # what it is bad at


Model = TypeVar("Model", bound=BaseModel)


def load(kind: type[Model], path: Path, changes: Sequence[str] = (), renamed: Mapping[str, str] | None = None) -> Model:
    """The recipe in the YAML file as a `kind`, with `changes` (`key.sub=value`) made to it.

    `renamed` maps each old key to its new name; an old one still works, with a FutureWarning. Raises ConfigError,
    naming the file and the key.
    """
    tree = read_yaml(path)
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write key=value")
        *parents, leaf = name.split(".")
        place: Any = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {change}: {parent} holds a value, not keys")
        try:
            place[leaf] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--set {change}: {value} is not a YAML value") from None
    return parse(kind, tree, str(path), renamed)


def parse(kind: type[Model], tree: object, where: str, renamed: Mapping[str, str] | None = None) -> Model:
    """`tree` as a `kind`. Raises ConfigError, naming the key in `where`."""
    try:
        return kind.model_validate(with_new_names(tree, renamed or {}, where))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: {f'{key}: ' if key else ''}{first['msg']}") from None


def with_new_names(tree: object, renamed: Mapping[str, str], where: str) -> object:
    """`tree` with every key of `renamed`, at any depth, under its new name; warns of each."""
    if isinstance(tree, list | tuple):
        return [with_new_names(each, renamed, where) for each in tree]
    if not isinstance(tree, dict):
        return tree
    found: dict[object, object] = {}
    for key, value in tree.items():
        name = renamed.get(key, key)
        if name in found or (name != key and name in tree):
            raise ConfigError(f"{where}: {key} and {name} are one key; write {name} only")
        if name != key:
            message = f"{where}: the key `{key}` is now `{name}`; the old name goes in the next release"
            warnings.warn(message, FutureWarning, stacklevel=2)
        found[name] = with_new_names(value, renamed, where)
    return found
