"""The enhancer's recipe: a YAML file under `configs/train/enhancer/` as frozen values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stream_enhance.config import read_yaml
from train.common import recipe as common
from train.common.recipe import CardText, Part
from train.common.schedule import Shape
from train.degrade import Ranges

RENAMED = {"costly_pictures": "costly_images"}  # old keys, accepted with a warning for one release


class Data(Part):
    """Where pairs come from; exactly one of `shards`, `faces` and `scface`."""

    shards: Path | list[Path] | None = None  # folder that `python -m train.enhancer shards` wrote, or several
    faces: Path | None = None  # folder of good faces, degraded on the fly
    scface: Path | None = None  # root of SCface as its owners lay it out
    scface_infrared: bool = False
    sets: list[str] | None = None  # of faces/index.csv
    people: Path | None = None  # JSON {file: person}
    keep_small: float = Field(default=1, gt=0, le=1)  # of `shards`: the share of faces under 48 px to train on
    fresh: float = Field(default=0, ge=0, lt=1)  # of `shards`: the share of samples of nearly good faces instead
    shrunk: float = Field(default=0, ge=0, lt=1)  # of `shards`: the share of samples of clean small faces instead
    val_shards: Path | None = None  # for `shards`: what validation measures
    held_out: float = Field(default=0.1, gt=0, lt=1)
    size: int = 256
    augment: bool = True
    heatmaps: bool = False  # four landmark maps behind RGB
    ranges: Ranges = Ranges()
    workers: int = 0
    val_pairs: int = 200  # how many pairs a validation measures, at most


class Weights(Part):
    """The weight of each loss in `train.enhancer.losses.LOSSES`; 0 leaves it out. Each is logged apart."""

    l1: float = 0
    charbonnier: float = 0
    bels: float = 0  # PSNR itself, each image relative to its own error
    perceptual: float = 0
    lpips: float = 0
    identity: float = 0
    adversarial: float = 0
    psnr_ssim: float = 0


class Optimiser(Part):
    """Adam and its schedule."""

    lr: float = 2e-4
    base_lr: float | None = None  # of the generator under a refinement; `lr` is the refinement's then
    discriminator_lr: float = 2e-5
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Shape = "constant"
    fall: float = Field(default=0.4, gt=0, le=1)  # of a trapezoid: the last share of the steps, where the rate falls
    step_epochs: int = 5
    gamma: float = 0.1
    warmup_steps: int = 0
    clip: float = 0  # largest norm of the gradient; 0: unclipped
    accumulate: int = Field(default=1, ge=1)
    ema: float = Field(default=0, ge=0, lt=1)  # decay of the averaged weights that are validated and exported; 0: none


class Recipe(Part):
    """All of one training run."""

    name: str
    seed: int = 0
    model: dict[str, Any]
    data: Data
    card: CardText = CardText()
    losses: Weights
    optimiser: Optimiser = Optimiser()
    batch: int = Field(default=8, ge=1)
    epochs: int = Field(ge=1)
    epoch_pairs: int | None = None  # pairs to an epoch; all of them without
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    adversarial: Literal["bce", "lsgan"] = "bce"
    discriminator_channels: int = 64
    perceptual_crop: int = 0  # side of the square that the VGG losses compare; 0: the whole image
    perceptual_every: int = Field(default=1, ge=1)  # steps
    costly_images: int = Field(default=0, ge=0)  # of a batch, that the VGG and identity losses compare; 0: all
    freeze: tuple[str, ...] = ()  # down1, down2, ...
    freeze_epochs: int = 0  # then freed; 0 with `freeze`: frozen throughout
    train_only: Literal["all", "refinement"] = "all"
    checkpoint_epochs: int = 10
    sample_epochs: int = 1
    patience: int = 0  # epochs without a better validation before it stops; 0: never
    compile: bool = False  # torch.compile: two minutes at the start, then 1.7 times as fast on a CPU; wants a compiler
    threads: int = 0  # of torch on a CPU; 0: torch's own choice
    vgg: Path | None = None  # local VGG16 weights (.safetensors or .pth); without, torchvision downloads its own
    lpips_heads: Path | None = None  # .safetensors with lin0 ... lin4
    embedder: Path | None = None  # face embedding, ONNX, (n, 3, 112, 112) RGB 0-255


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file, with `changes` (`key.sub=value`) made to it. Raises ConfigError, naming the key."""
    return common.load(Recipe, path, changes, RENAMED)


def parse(tree: object, where: str) -> Recipe:
    """`tree` as a Recipe. Raises ConfigError, naming the key."""
    return common.parse(Recipe, tree, where, RENAMED)


def card_of(recipe: Mapping[str, Any], path: Path | None) -> CardText:
    """The card's text, from the recipe in the YAML file `path` or else from `recipe` as a checkpoint holds it."""
    if path is None:
        return common.parse(CardText, recipe.get("card", {}), "the checkpoint")
    return common.parse(CardText, read_yaml(path).get("card", {}), str(path))
