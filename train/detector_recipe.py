"""The detector's recipe: `configs/train_detector.yaml` as frozen values."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream_enhance.errors import ConfigError


class Part(BaseModel):
    """Pictures of one size, in shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(multiple_of=32, gt=0)  # pixels
    shards: int = Field(gt=0)
    per_shard: int = Field(gt=0, default=400)
    face_px: tuple[float, float]
    made: float = Field(ge=0, le=1)  # share of made scenes; the others are real pictures
    name: str = ""  # tells parts of one size apart
    crowded: float = Field(ge=0, le=1, default=0.12)  # share of made scenes with 20 to 45 small people
    behind: float = Field(ge=0, le=1, default=0.16)  # share of made people who turn their backs
    tiles: tuple[int, ...] = (1, 4)  # how many real pictures share one, drawn evenly

    @property
    def folder(self) -> str:
        return f"{self.side}-{self.name}" if self.name else str(self.side)


class Stage(BaseModel):
    """One run over pictures of one size; the stages follow each other in one schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(multiple_of=32, gt=0)
    pictures: int = Field(gt=0)  # passes, not epochs
    batch: int = Field(gt=0)
    frozen: int = Field(ge=0, default=0)  # the first layers that do not learn


class Recipe(BaseModel):
    """Everything that decides the outcome. Paths are relative to the working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str  # ultralytics' yaml
    start: Path | None  # an ONNX export of a folded YOLOv8 of this size, or null: from scratch
    origin: str = ""  # what the card says of the weights that the first run started from
    start_classes: tuple[int, ...] = ()  # which of its classes are faces
    teacher: Path
    yunet: Path
    detect: Path  # YOLO pictures, with train.txt and val.txt
    faces: Path  # portraits, with index.csv
    face_sets: tuple[str, ...]
    backgrounds: Path  # pictures without faces; twice as wide as high: panoramas
    held_backgrounds: tuple[str, ...]  # for the evaluation's scenes only
    cache: Path
    parts: tuple[Part, ...]
    seed: int = 0
    stages: tuple[Stage, ...]
    learning_rate: float = Field(gt=0)
    warmup: int = Field(ge=0)  # steps
    weight_decay: float = Field(ge=0)
    average: float = Field(gt=0, lt=1)  # decay of the weights' running mean
    soft: float = Field(ge=0)  # weight of the teacher's boxes and points at cells that it fires on
    teacher_scores: float = Field(ge=0, le=1)  # how much of the teacher's score counts as the target
    point_sigma: float = Field(gt=0, default=0.2)  # of a face's size; less wants points more exact
    gains: dict[Literal["box", "cls", "dfl", "pose", "kobj"], float]
    threads: int = Field(gt=0)
    save_every: int = Field(gt=0)  # steps


def load_recipe(path: str | Path) -> Recipe:
    """The recipe at `path`. Raises ConfigError naming the file and the key."""
    try:
        return Recipe.model_validate(yaml.safe_load(Path(path).read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
