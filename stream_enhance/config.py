"""What a user can set, and the reading of it: YAML to frozen, typed models that know every key.

``load`` is the one way in.  No other object keeps a config: ``pipeline`` turns it into plain constructor arguments.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from .backends import ProviderName
from .backends.precision import Precision
from .errors import ConfigError
from .options import EvidenceOptions, Options
from .sinks.codecs import EncoderOptions
from .sinks.segments import SegmentOptions
from .sources.base import SourceOptions
from .sources.connection import LiveOptions
from .stages.classical import ClassicalOptions
from .stages.detect import DetectorOptions
from .stages.enhance import EnhancerOptions
from .stages.overlay import OverlayOptions
from .stages.track import TrackerOptions

__all__ = [
    "ClassicalOptions",
    "Config",
    "DetectorOptions",
    "EncoderOptions",
    "EnhancerOptions",
    "EvidenceOptions",
    "LiveOptions",
    "OverlayOptions",
    "SegmentOptions",
    "SourceOptions",
    "TrackerOptions",
    "load",
    "merged",
    "read_yaml",
    "validated",
]

T = TypeVar("T", bound=BaseModel)
log = logging.getLogger(__name__)

_RENAMED = {  # keys of 0.1: read, with a warning, for one more release
    "enhancer.cache_change": "enhancer.cache_tolerance",
    "enhancer.cache_seconds": "enhancer.cache_ttl",
    "enhancer.likeness": "enhancer.min_consistency",
    "overlay.mark": "overlay.watermark",
    "tracker.keep": "tracker.coast_ttl",
    "tracker.remember": "tracker.lost_ttl",
    "tracker.certain": "tracker.confirm_threshold",
    "tracker.doubt": "tracker.low_score_ttl",
}
_warned: set[str] = set()  # old keys, each mentioned once a process


class Config(Options):
    """Everything that can be set; see each section's class for its keys and their defaults."""

    source: SourceOptions = SourceOptions()
    live: LiveOptions = LiveOptions()
    detector: DetectorOptions = DetectorOptions()
    tracker: TrackerOptions = TrackerOptions()
    enhancer: EnhancerOptions = EnhancerOptions()
    overlay: OverlayOptions = OverlayOptions()
    sink: EncoderOptions = EncoderOptions()
    segments: SegmentOptions = SegmentOptions()
    evidence: EvidenceOptions = EvidenceOptions()
    provider: ProviderName = Field(
        default="auto", description="What the networks run on; auto takes the best there is."
    )
    precision: Precision = Field(
        default="auto",
        description="What the networks compute in on a CPU: auto takes 8-bit integers where the model has such a file"
        " beside it and the processor is made for them (VNNI, Arm dot products), else float32. fp32 gives the same"
        " result on more machines; int8 insists.",
    )
    device: int = Field(default=0, ge=0, le=63, description="Which GPU the networks run on, from 0.")
    engine_cache: Path | None = Field(
        default=None,
        description="Folder for compiled engines; null: stream-enhance/engines in the user's cache folder.",
    )
    frames: Literal["host", "device"] = Field(
        default="host",
        description="Where decoded frames are worked on: in the host's memory, or by torch on the device that the"
        " networks run on, which they then leave only to be encoded.  device: needs torch, overlay.mode=inplace and"
        " overlay.scale=1.",
    )
    threads: int = Field(default=0, ge=0, le=256, description="CPU threads of each network; 0: one a core.")

    @model_validator(mode="after")
    def _drawn_in_place(self) -> Self:
        if self.frames == "device" and (self.overlay.mode != "inplace" or self.overlay.scale != 1):
            raise ValueError("frames=device draws in place only; set overlay.mode=inplace and overlay.scale=1")
        return self

    @model_validator(mode="before")
    @classmethod
    def _short_and_old_forms(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if isinstance(kind := data.get("enhancer"), str):
            data = {**data, "enhancer": {"kind": kind}}
        return _with_current_names(data)


def load(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The configuration in the YAML file at ``path`` (None: the defaults), changed by ``overrides``.

    Args:
        overrides: ``section.key=value`` each, the value read as YAML.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is out of range.
    """
    data = _with_current_names(read_yaml(path)) if path is not None else {}
    for override in overrides:
        _set(data, override)
    return validated(Config, data, str(path) if path else "configuration")


class UniqueKeyLoader(yaml.SafeLoader):
    """Plain data only, and no key twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # a list, say: refused below
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError, AttributeError):  # of what only looks like a date or number
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"no {kind}; put it in quotes if it is text", node.start_mark
            ) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; plain data only, nothing in it is run.

    Raises:
        ConfigError: missing, not YAML, or not a mapping.
    """
    try:
        data = yaml.load(Path(path).read_text(), UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not text"
        raise ConfigError(f"{path}: not YAML{where}: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: too many brackets within each other") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold keys and values, not {type(data).__name__}")
    return data


def _with_current_names(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` with its renamed keys under their new names."""
    for old in _RENAMED:
        section, key = old.split(".")
        if not isinstance(keys := data.get(section), dict) or key not in keys:
            continue
        new = _current_name(old)
        if new.partition(".")[2] in keys:
            raise ConfigError(f"{old} is called {new} now, and both are set; remove {old}")
        data = {**data, section: {new.partition(".")[2] if k == key else k: value for k, value in keys.items()}}
    return data


def _current_name(key: str) -> str:
    """What ``key`` is called now; mentions an old name once."""
    new = _RENAMED.get(key, key)
    if new != key and key not in _warned:
        _warned.add(key)
        log.warning("%s is called %s now; rename it, the old name will be removed in the next release", key, new)
    return new


def _set(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    try:
        value = yaml.load(text, UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"--set {override}: the value is not YAML") from None
    *sections, last = _current_name(key).split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if isinstance(inner, str) and section == "enhancer":  # `enhancer: classical` in the file
            inner = data[section] = {"kind": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section")
        data = inner
    if last == "enhancer" and isinstance(data.get(last), dict) and isinstance(value, str):
        data[last]["kind"] = value
    else:
        data[last] = value


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over`` in place of its own, section by section.  Of each, keys may be old ones."""
    result = _with_current_names(base)
    for key, value in _with_current_names(over).items():
        inner = result.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        result = {**result, key: merged(inner, value) if both else value}  # type: ignore[arg-type]
    return result


def validated(model: type[T], data: Any, where: str) -> T:
    """``data`` as ``model``, or a ConfigError that names the first key that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # a misspelt key is a missing key too: name the former
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys(model)
        near = difflib.get_close_matches(key, known, 1) or difflib.get_close_matches(key, known, 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
        raise ConfigError(f"{where}: unknown key {key}{hint}")
    raise ConfigError(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}")


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
