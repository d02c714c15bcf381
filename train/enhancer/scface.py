"""SCface (Grgic et al., 2011) as its owners lay it out: true low-quality faces and their mugshots.

`mugshot_frontal_original_all/NNN_frontal.jpg` and `surveillance_cameras_all/NNN_camK_D.jpg`, K from 1 to 7 (6 and 7
see infra-red), D the distance. Probe and mugshot are different photographs, so each is cut by its own five points:
from `points.csv` in the root (columns file, reye_x, reye_y, leye_x, ...), or else found by the detector.
"""

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import open_session
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import cut
from stream_enhance.shipped import DETECTOR, default_model
from stream_enhance.stages.detect import Detector
from train.common.images import read_image
from train.enhancer.data import POINTS, Pair, Portrait, augmented, patch_place, split

log = logging.getLogger("train.enhancer.data")
MUGSHOTS, PROBES = "mugshot_frontal_original_all", "surveillance_cameras_all"
NAME = re.compile(r"(\d+)_cam(\d)_(\d)\.jpe?g", re.IGNORECASE)
INFRARED = (6, 7)


@dataclass(frozen=True)
class Match:
    """A surveillance image and its person's mugshot, with the five points (5, 2) of each in its own pixels."""

    person: str
    probe: Path
    probe_points: NDArray[np.float32]
    mugshot: Path
    mugshot_points: NDArray[np.float32]


def read_scface(root: Path, infrared: bool, held_out: float = 0.1) -> tuple[list[Match], list[Match]]:
    """(training, validation) matches, split by person. Images without a face are named in the log and left out.

    Raises InputError where the layout is another, or too few people are left.
    """
    for folder in (MUGSHOTS, PROBES):
        if not (root / folder).is_dir():
            raise InputError(f"{root}: not laid out as SCface: it has no folder {folder}")
    probes = [(path, found) for path in sorted((root / PROBES).iterdir()) if (found := NAME.fullmatch(path.name))]
    wanted = [(path, found[1]) for path, found in probes if infrared or int(found[2]) not in INFRARED]
    mugshots = {person: root / MUGSHOTS / f"{person}_frontal.jpg" for _, person in wanted}
    points = find_points(root, [*{path for path in mugshots.values() if path.exists()}, *(path for path, _ in wanted)])
    matches = [
        Match(person, path, points[path], mugshots[person], points[mugshots[person]])
        for path, person in wanted
        if path in points and mugshots[person] in points
    ]
    if len(matches) < len(wanted):
        log.warning("%d of %d surveillance images left out", len(wanted) - len(matches), len(wanted))
    return split_matches(matches, held_out)


def split_matches(matches: Sequence[Match], held_out: float) -> tuple[list[Match], list[Match]]:
    """`split` by person, for matches. Raises InputError where there are too few people."""
    people = [Portrait(m.probe, "scface", (0, 0, 0, 0), m.probe_points, m.person) for m in matches]
    unseen = {p.person for p in split(people, held_out)[1]}
    return [m for m in matches if m.person not in unseen], [m for m in matches if m.person in unseen]


def find_points(root: Path, paths: Sequence[Path]) -> dict[Path, NDArray[np.float32]]:
    """The five points of every image in which they are known or found."""
    listed = root / "points.csv"
    if listed.exists():
        with open(listed, newline="") as file:
            rows = {root / row["file"]: row for row in csv.DictReader(file)}
        return {
            path: np.array([[float(rows[path][f"{p}_x"]), float(rows[path][f"{p}_y"])] for p in POINTS], np.float32)
            for path in paths
            if path in rows
        }
    from train.enhancer.find_faces import OPTIONS, largest_face

    found = {}
    with open_session(default_model(DETECTOR), "face-detection", "cpu") as session:
        detector = Detector(session, OPTIONS)
        for path in paths:
            try:
                face = largest_face(detector, read_image(path))
            except InputError as error:
                log.warning("left out: %s", error)
                continue
            if face is None:
                log.warning("left out: %s: no face found in it", path)
                continue
            found[path] = face[1]
    return found


class ScfacePairs:
    """Probe and mugshot, aligned to each other; every change of geometry and light goes to both."""

    def __init__(self, matches: Sequence[Match], size: int = 256, augment: bool = True):
        self.matches, self.size, self.augment = list(matches), size, augment

    def __len__(self) -> int:
        return len(self.matches)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Pair `index`; all that is drawn is drawn from `rng`."""
        match = self.matches[index]
        move = small_move(self.size, rng) if self.augment else np.eye(3)
        places = [
            (np.vstack([patch_place(points, self.size), [0, 0, 1]]) @ move)[:2].astype(np.float32)
            for points in (match.probe_points, match.mugshot_points)
        ]
        low = cut(read_image(match.probe), places[0], self.size)
        clean = cut(read_image(match.mugshot), places[1], self.size)
        back = cv2.invertAffineTransform(places[0])
        points = (match.probe_points @ back[:, :2].T + back[:, 2]).astype(np.float32)
        return augmented(Pair(low, clean, points), rng, self.augment)


def small_move(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3): turned by up to 8 degrees, 8 % larger or smaller, moved by up to 4 %, about the patch's middle."""
    angle, scale = np.radians(rng.uniform(-8, 8)), rng.uniform(0.92, 1.08)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, (size - 1) / 2)
    move = np.eye(3)
    move[:2, :2] = turn
    move[:2, 2] = middle - turn @ middle + rng.uniform(-0.04, 0.04, 2) * size
    return move
