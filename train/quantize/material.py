"""What the ranges are measured on: training material only, as the product shows it to the networks.

The detector sees whole frames, letterboxed by the product at both of its usual sizes: real images and clips, and made
scenes.  The enhancer sees face patches: of the clips, cut where the product's detector finds faces, and of degraded
portraits.  Every second item measures the ranges; the others choose between settings (`Material.check`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from stream_enhance.backends import open_session
from stream_enhance.imaging.crop import patch_to_frame
from stream_enhance.imaging.host import Host
from stream_enhance.sources.open import open_source
from stream_enhance.stages.detect import Detector, DetectorOptions
from stream_enhance.types import Frame, Scene
from train.common.images import Image, read_image
from train.detector.boxes import read_list
from train.detector.data.make import read_people, read_places, station_list
from train.detector.data.scenes import make
from train.detector.recipe import Recipe
from train.enhancer.data import FolderPairs, read_faces, split

SIDES = (480, 640)  # the long side that a frame is detected at
REAL, SCENES, SCENE_SIDE, SCENE_FACES = 40, 16, 640, (7.0, 110.0)
SCENE_PEOPLE = "faker_synth"
EVERY, FRAMES = 24, 6  # of each clip: so many frames, so far apart
PATCHES = 64  # of the clips, and as many of portraits
HELD_OUT = 0.1  # share of the people that the enhancer's training keeps out
SETS = ("csusa_portraits", "voteview_wiki", "congress225", "faker_synth")


@dataclass(frozen=True)
class Material:
    """Images as the networks get them, (H, W, 3) uint8 RGB each."""

    measure: list[Image]
    check: list[Image]

    @classmethod
    def of(cls, images: list[Image]) -> "Material":
        """Every second image to measure on, the others to check with."""
        return cls(images[::2], images[1::2])


def frames_for_detector(recipe: Recipe, clips: Path, model: Path) -> Material:
    """Letterboxed frames of real images, of clips in the folder `clips`, and of made scenes."""
    rng = np.random.default_rng(0)
    real = read_list(recipe.detect / "train.txt")
    paths = [real[i] for i in rng.permutation(len(real))[:REAL]] + station_list(recipe, learnt=True)[::2]
    images = [read_image(path) for path in paths]
    synthetic = recipe.model_copy(update={"face_sets": (SCENE_PEOPLE,)})  # a few people are enough
    people, places = read_people(synthetic), read_places(recipe)
    images += [make(places, people, rng, SCENE_SIDE, SCENE_FACES).seen for _ in range(SCENES)]
    frames = [still(image) for image in images]
    frames += [frame for path in clip_files(clips) for frame in some(path)]
    shown = []
    with open_session(model, "face-detection", "cpu", 1, precision="fp32") as session:
        detectors = [Detector(session, DetectorOptions(size=side)) for side in SIDES]
        for number, frame in enumerate(frames):
            shown += [view.image for view in detectors[number // 2 % len(SIDES)].views(frame)]
    return Material.of(shown)


def patches_for_enhancer(faces: Path, clips: Path, detector: Path, size: int) -> Material:
    """Patches of `size` pixels of the faces in `clips`, and of degraded portraits of `faces`' training people."""
    found = []
    with open_session(detector, "face-detection", "cpu", 1, precision="fp32") as session:
        for path in clip_files(clips):
            stage = Detector(session, DetectorOptions(every=1))
            for frame in some(path):
                found += list(patches_of(Scene(frame, stage.find(frame)), size))
    rng = np.random.default_rng(0)
    shown = [found[i] for i in rng.permutation(len(found))[:PATCHES]]
    training = split(read_faces(faces, SETS), HELD_OUT)[0]
    chosen = [training[int(i)] for i in rng.permutation(len(training))[:PATCHES]]
    pairs = FolderPairs(chosen, size)
    shown += [pairs.pair(index, rng).low for index in range(len(pairs))]
    return Material.of(shown)


def patches_of(scene: Scene, size: int) -> Iterator[Image]:
    """The scene's faces as the product cuts them."""
    for place in patch_to_frame(scene.faces.xyxy, scene.faces.points, size):
        if (patch := Host().cut(scene.frame.image, place, size)) is not None:
            yield patch


def clip_files(folder: Path) -> list[Path]:
    """The clips of `folder`."""
    return sorted(folder.glob("*.mp4"))


def some(path: Path) -> Iterator[Frame]:
    """A few frames of a clip, decoded as the product decodes them."""
    source = open_source(str(path))
    try:
        yield from islice(source.frames(), 0, EVERY * FRAMES, EVERY)
    finally:
        source.close()


def still(image: Image) -> Frame:
    """(H, W, 3) uint8 RGB as a frame."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.color_range, frame.pts, frame.time_base = 2, 0, Fraction(1, 25)
    return Frame(frame, 0, 0, Fraction(1, 25), 0.0, 0.0)
