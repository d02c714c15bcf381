"""The detector's recipe: a YAML file under `configs/train/detector/` as frozen values."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from train.common import recipe as common
from train.common.recipe import CardText, Part

RENAMED = {"pictures": "images", "soft": "teacher_weight", "miner": "hard_negative_model"}  # old keys, for one release

# Half of the station's images, by camera: what is learnt from is not measured on. The stairs of 664 to 831 are
# those of the other half, seen from another place.
STATION = tuple(
    f"station_{number:08d}"
    for number in (43, 57, 70, 110, 111, 128, 151, 171, 611, 612, 664, 665, 672, 701, 715, 733, 784, 811, 817, 831)
)


class Shards(Part):
    """Images of one size and kind, in shards."""

    side: int = Field(multiple_of=32, gt=0)  # pixels
    shards: int = Field(gt=0)
    per_shard: int = Field(gt=0, default=400)
    face_px: tuple[float, float]
    made: float = Field(ge=0, le=1)  # share of made scenes; the others are real images
    name: str = ""  # distinguishes parts of one size
    crowded: float = Field(ge=0, le=1, default=0.12)  # share of made scenes with 20 to 45 small people
    behind: float = Field(ge=0, le=1, default=0.16)  # share of made people who turn their backs
    tiles: tuple[int, ...] = (1, 4)  # how many real images share one, drawn evenly
    turned: float = Field(ge=0, le=1, default=0)  # share of people and real images turned and squeezed
    covered: float = Field(ge=0, le=1, default=0)  # share of turned backs that show a hood, a cap or bald skin
    clear: float = Field(ge=0, le=1, default=0.12)  # share of images from a good camera
    goods: float = Field(ge=0, le=1, default=0)  # share of made scenes with shelves of goods
    heads: float = Field(ge=0, le=1, default=0)  # share of made people whose heads are turned in depth
    hard: float = Field(ge=0, le=1, default=0)  # share of real images cut around a hard negative

    @property
    def folder(self) -> str:
        """The name of the folder that holds them."""
        return f"{self.side}-{self.name}" if self.name else str(self.side)


class Stage(Part):
    """One run over images of one size; the stages follow each other in one schedule.

    Each reads the shards that are there when it begins.
    """

    side: int = Field(multiple_of=32, gt=0)
    images: int = Field(gt=0)  # passes, not epochs
    batch: int = Field(gt=0)
    sheet: int = Field(gt=0, default=1)  # sheet x sheet images are laid side by side and shown as one
    frozen: int = Field(ge=0, default=0)  # the first layers that do not learn

    @model_validator(mode="after")
    def whole_sheets(self) -> Self:
        """Raises ValueError where the batch is not a whole number of sheets."""
        if self.batch % self.sheet**2:
            raise ValueError(f"batch {self.batch} is not whole sheets of {self.sheet} x {self.sheet}")
        return self


class Recipe(Part):
    """Everything that decides the outcome. Paths are relative to the working directory."""

    network: str  # ultralytics' yaml
    card: CardText = CardText()
    start: Path | None  # an ONNX export of a YOLOv8 of this size, the last.pt of an earlier run, or null: nothing
    origin: str = ""  # what the card says of the weights that the first run started from
    start_classes: tuple[int, ...] = ()  # which of its classes are faces
    teacher: Path
    yunet: Path
    hard_negative_model: Path | None = None  # an earlier ONNX of ours; what it wrongly takes for faces is shown often
    detect: Path  # YOLO images, with train.txt and val.txt
    station: tuple[str, ...] = STATION  # of cctv_pseudo.txt, the images to learn from; the others measure
    station_share: float = Field(ge=0, lt=1, default=0)  # the share of the real images that they are
    faces: Path  # portraits, with index.csv
    face_sets: tuple[str, ...]
    backgrounds: Path  # images without faces; twice as wide as high: panoramas
    held_backgrounds: tuple[str, ...]  # for the evaluation's scenes only
    cache: Path
    parts: tuple[Shards, ...]
    seed: int = 0
    stages: tuple[Stage, ...]
    learning_rate: float = Field(gt=0)
    warmup: int = Field(ge=0)  # steps
    weight_decay: float = Field(ge=0)
    average: float = Field(gt=0, lt=1)  # decay of the weights' running mean
    teacher_weight: float = Field(ge=0)  # weight of the teacher's boxes and points at cells that it fires on
    teacher_scores: float = Field(ge=0, le=1)  # how much of the teacher's score counts as the target
    features: float = Field(ge=0, default=0)  # weight of the distance to the teacher's features
    point_sigma: float = Field(gt=0, default=0.2)  # of a face's size; less wants points more exact
    gains: dict[Literal["box", "cls", "dfl", "pose", "kobj"], float]
    score_shift: float = 0.0  # added to the scores' logits by the export, so that 0.4 is a threshold to use
    threads: int = Field(gt=0)
    save_every: int = Field(gt=0)  # steps


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe at `path`, with `changes` (`key.sub=value`) made to it. Raises ConfigError naming file and key."""
    return common.load(Recipe, path, changes, RENAMED)


def parse_recipe(tree: object, where: Path) -> Recipe:
    """The recipe that the checkpoint `where` holds as `tree`, old keys or new. Raises ConfigError naming the key."""
    if isinstance(tree, dict):  # `round` was 0 wherever it was not tried: docs/reports/training.md
        parts = [{k: v for k, v in part.items() if k != "round" or v} for part in tree.get("parts", [])]
        tree = {**tree, "parts": parts}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # nobody edits a checkpoint
        return common.parse(Recipe, tree, str(where), RENAMED)
