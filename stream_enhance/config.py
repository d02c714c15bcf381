"""What a user can set, and the reading of it: YAML to frozen, typed models that know every key.

``load`` is the one way in.  No other object keeps a config: ``pipeline`` turns it into plain constructor arguments.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from av import VideoFormat
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import ConfigError

T = TypeVar("T", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(_Section):
    rate: float = Field(25.0, gt=0, le=1000)  # frames a second, for a folder of images


class LiveConfig(_Section):
    transport: Literal["auto", "tcp", "udp"] = "auto"  # of RTSP
    timeout: float = Field(5.0, gt=0, le=120)  # seconds to open a connection
    stall: float = Field(4.0, gt=0, le=600)  # seconds without a frame until a connection is given up
    retry: float = Field(1.0, gt=0, le=3600)  # seconds, the longest pause between attempts
    idle_rate: float = Field(2.0, gt=0, le=30)  # NO SIGNAL frames a second
    wait: bool = False  # keep trying where the very first connection fails
    hwaccel: str = ""  # FFmpeg's name of a decoding device, e.g. cuda or vaapi; "": the CPU
    max_age: float = Field(0.5, gt=0, le=60)  # seconds a frame may be old when it is written


class DetectorConfig(_Section):
    model: str | None = None  # ONNX file; None: the one that comes with the package
    size: int = Field(480, ge=0, le=8192)  # pixels of the long side; 0: as the model's card says
    every: int = Field(2, ge=1, le=100)  # detect on every n-th frame, follow tracks between
    score: float = Field(0.4, gt=0, lt=1)
    iou: float = Field(0.5, gt=0, lt=1)
    tiles: int = Field(1, ge=1, le=8)  # n x n overlapping tiles besides the whole frame
    max_faces: int = Field(300, ge=1, le=10_000)


class TrackerConfig(_Section):
    coast_ttl: float = Field(0.25, ge=0, le=60)  # seconds a face is shown without a detection
    lost_ttl: float = Field(1.0, ge=0, le=600)  # seconds until a lost face's id is given up
    confirm_threshold: float = Field(
        0.6, ge=0, le=1
    )  # score from which a new face is shown at once; others when seen twice
    low_score_ttl: float = Field(2.0, ge=0, le=600)  # seconds a face goes on whose score is below detector.score


class ClassicalConfig(_Section):
    denoise: bool = True
    deblur: Literal["none", "wiener", "richardson-lucy"] = "wiener"
    sharpen: bool = True
    low_light: bool = True


class EnhancerConfig(_Section):
    kind: Literal["unet", "classical", "none"] = "unet"
    model: str | None = None
    strength: float = Field(1.0, ge=0, le=1)
    batch: int = Field(8, ge=1, le=256)
    min_face: float = Field(12, ge=0)  # pixels high; lower faces are left alone
    max_face: float = Field(110, gt=0)  # pixels high; higher faces are left alone if they are sharp
    sharp: float = Field(60.0, ge=0)  # variance of the Laplacian from which a large face is sharp
    cache_tolerance: float = Field(10.0, ge=0)  # grey levels; 0: every face is computed on every frame
    cache_ttl: float = Field(0.5, ge=0, le=60)
    max_faces: int = Field(0, ge=0)  # enhanced per frame at most; 0: all
    min_consistency: float = Field(0.8, ge=-1, lt=0.95)  # agreement with the camera up to which a result is not used
    classical: ClassicalConfig = ClassicalConfig()


class OverlayConfig(_Section):
    mode: Literal["inplace", "panel", "side_by_side"] = "inplace"
    watermark: bool = True  # the ENHANCED watermark
    scale: int = Field(1, ge=1, le=4)


class SinkConfig(_Section):
    codec: Literal["h264", "hevc", "av1"] = "h264"
    hardware: Literal["auto", "none", "nvenc", "qsv"] = "auto"
    crf: int = Field(20, ge=0, le=51)
    preset: str = "veryfast"
    threads: int = Field(0, ge=0, le=128)
    pixel_format: str = ""  # FFmpeg's name; "": as the source

    @field_validator("pixel_format")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return VideoFormat(value).name if value else ""
        except ValueError:
            raise ValueError(f"FFmpeg knows no {value!r}; take one of its pixel formats, such as yuv420p") from None


class SegmentsConfig(_Section):
    """Of outputs whose name holds ``%`` codes; 0: no limit."""

    seconds: float = Field(0.0, ge=0)
    megabytes: float = Field(0.0, ge=0)
    keep_hours: float = Field(0.0, ge=0)
    keep_megabytes: float = Field(0.0, ge=0)


class Config(_Section):
    """Everything that can be set."""

    source: SourceConfig = SourceConfig()
    live: LiveConfig = LiveConfig()
    detector: DetectorConfig = DetectorConfig()
    tracker: TrackerConfig = TrackerConfig()
    enhancer: EnhancerConfig = EnhancerConfig()
    overlay: OverlayConfig = OverlayConfig()
    sink: SinkConfig = SinkConfig()
    segments: SegmentsConfig = SegmentsConfig()
    provider: Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx"] = "auto"
    threads: int = Field(0, ge=0, le=256)  # CPU threads a network; 0: one a core

    @field_validator("enhancer", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


def load(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The configuration in the YAML file at ``path`` (None: the defaults), changed by ``overrides``.

    Args:
        overrides: ``section.key=value`` each, the value read as YAML.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is out of bounds.
    """
    data = read_yaml(path) if path is not None else {}
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


def _set(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    try:
        value = yaml.load(text, UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"--set {override}: the value is not YAML") from None
    *sections, last = key.split(".")
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
    """``base`` with the values of ``over`` in place of its own, section by section."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def validated(model: type[T], data: Any, where: str) -> T:
    """``data`` as ``model``, or a ConfigError that names the first key that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = min(
            error.errors(), key=lambda e: e["type"] != "extra_forbidden"
        )  # a key misspelt is a key missing, too
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys(model)
            near = difflib.get_close_matches(key, known, 1) or difflib.get_close_matches(key, known, 1, 0.4)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key}{hint}") from None
        raise ConfigError(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}") from None


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
