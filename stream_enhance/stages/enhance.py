"""Face patches cut, enhanced in batches, and kept in a cache by track.

``Enhancer`` turns scenes into ``Enhanced``.  All faces of all waiting frames go through the network in one batch.  A
face that has hardly changed since its track was last enhanced, but for a small shift, is given that result again, moved
by that shift: so what the network does not see anew it does not make tremble either.  A face too small to
be helped, or already large and sharp, is left alone; both are counted.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..imaging import crop, planes
from ..options import EnhancerKind, Options
from ..runtime import batches
from ..types import Enhanced, Faces, Scene
from .classical import ClassicalOptions
from .networks import Enhancement

_THUMB = 32  # pixels; a face's consistency is judged at this size
_TRUSTED = 0.95  # consistency from which a result is used whole
_REACH = 3  # thumb pixels a cached face may be shifted by


@dataclass(slots=True)
class Cached:
    """A track's last enhanced face."""

    thumb: NDArray[np.uint8]  # (_THUMB, _THUMB) grey
    seconds: float  # stream time when it was enhanced
    patch: NDArray[np.uint8] | None = None  # None until its batch has run, and where its result was not used


@dataclass(slots=True)
class Counts:
    """What became of the faces so far."""

    enhanced: int = 0  # by the network
    from_cache: int = 0
    too_small: int = 0
    sharp_enough: int = 0
    over_budget: int = 0
    inconsistent: int = 0  # the network's result no longer looked like what the camera saw


@dataclass(slots=True)
class _Job:
    """One frame's faces on their way through the network."""

    scene: Scene
    faces: NDArray[np.int64]
    to_frame: NDArray[np.float32]
    originals: list[NDArray[np.uint8]] = field(default_factory=list)
    results: list[Cached] = field(default_factory=list)
    cached: list[bool] = field(default_factory=list)


class EnhancerOptions(Options):
    """What changes faces, and which."""

    kind: EnhancerKind = Field(
        default="unet", description="A learned network, published formulas without a learned model, or nothing."
    )
    model: Path | None = Field(
        default=None, description="ONNX file of the U-Net; null: the one that comes with the package."
    )
    strength: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="How far a face goes from what the camera saw (0) to the network's result (1).",
    )
    batch: int = Field(default=8, ge=1, le=256, description="Largest number of faces computed at once.")
    min_face: float = Field(default=12, ge=0, description="Pixels; faces lower than this are left alone.")
    max_face: float = Field(
        default=110, gt=0, description="Pixels; faces higher than this are left alone if they are sharp."
    )
    sharp: float = Field(
        default=60.0,
        ge=0,
        description="Variance of the Laplacian at patch size from which a large face counts as sharp"
        " (Pech-Pacheco et al., ICPR 2000).",
    )
    cache_tolerance: float = Field(
        default=10.0,
        ge=0,
        description="Mean grey levels by which some part of a face must change for it to be computed again; 0: compute"
        " every face on every frame.",
    )
    cache_ttl: float = Field(
        default=0.5, ge=0, le=60, description="Seconds that a face's last result may be used again."
    )
    max_faces: int = Field(
        default=0, ge=0, description="Most faces enhanced in a frame, new tracks and large faces first; 0: all."
    )
    min_consistency: float = Field(
        default=0.8,
        ge=-1,
        lt=0.95,
        description="Correlation of a result with what the camera saw, both at low resolution, up to which the result"
        " is not used: the network has invented something.  It is mixed in from there and used whole from 0.95.",
    )
    classical: ClassicalOptions = ClassicalOptions()


class Enhancer:
    """Enhances the faces of scenes.

    Args:
        enhancement: what changes the patches, and how they are cut.
        options: which faces are enhanced, and how long a result is used.
    """

    def __init__(
        self,
        enhancement: Enhancement,
        options: EnhancerOptions = EnhancerOptions(),
    ) -> None:
        self._network, self.size, self._align = enhancement.network, enhancement.size, enhancement.align
        self._batch = options.batch
        self._min_face, self._max_face, self._sharp = options.min_face, options.max_face, options.sharp
        self.cache_tolerance, self.cache_ttl = options.cache_tolerance, options.cache_ttl
        self.max_faces, self._min_consistency = options.max_faces, options.min_consistency
        self._cache: dict[int, Cached] = {}
        self.counts = Counts()

    def __call__(self, scenes: Iterable[Scene]) -> Generator[Enhanced, None, None]:
        for waiting in batches(scenes, self._batch):
            jobs = [self._cut(scene) for scene in waiting]
            self._fill(jobs)
            for job in jobs:
                yield self._finished(job)

    def _cut(self, scene: Scene) -> _Job:
        """The scene's patches, those in the cache already filled in."""
        faces = scene.faces
        rows = self._chosen(faces)
        points = faces.points[rows] if self._align and faces.points is not None else None
        to_frame = crop.patch_to_frame(faces.xyxy[rows], points, self.size)
        job = _Job(scene, rows, to_frame)
        kept = []
        for i, row in enumerate(rows):
            patch = cut(scene, to_frame[i], self.size)
            height = float(faces.xyxy[row, 3] - faces.xyxy[row, 1])
            if patch is None:
                continue
            if height > self._max_face and cv2.Laplacian(patch[:, :, 1], cv2.CV_32F).var() >= self._sharp:
                self.counts.sharp_enough += 1
                continue
            kept.append(i)
            job.originals.append(patch)
            result, shift = self._remembered(int(faces.track[row]), patch, scene.frame.seconds)
            job.results.append(result)
            job.cached.append(shift is not None)
            if shift is not None:
                to_frame[i, :, 2] += to_frame[i, :, :2] @ shift
        job.faces, job.to_frame = rows[kept], to_frame[kept]
        return job

    def _chosen(self, faces: Faces) -> NDArray[np.int64]:
        """Rows of the faces worth enhancing."""
        if self._network is None:
            return np.zeros(0, np.int64)
        heights = faces.xyxy[:, 3] - faces.xyxy[:, 1]
        rows = np.flatnonzero(heights >= self._min_face)
        self.counts.too_small += len(faces) - len(rows)
        if self.max_faces and len(rows) > self.max_faces:
            known = np.array([int(t) in self._cache for t in faces.track[rows]])
            order = np.lexsort((-heights[rows], known))
            self.counts.over_budget += len(rows) - self.max_faces
            rows = np.sort(rows[order[: self.max_faces]])
        return rows

    def _remembered(
        self, track: int, patch: NDArray[np.uint8], seconds: float
    ) -> tuple[Cached, NDArray[np.float32] | None]:
        """The track's last result and its shift in patch pixels if this patch has hardly changed since.

        Else a new one, still to be computed, and None.
        """
        thumb = _thumb(patch)
        last = self._cache.get(track)
        if self.cache_tolerance and last and 0 <= seconds - last.seconds <= self.cache_ttl:
            shift = _shift(last.thumb, thumb)
            if _difference(last.thumb, thumb, shift) < self.cache_tolerance:
                return last, shift * np.float32(self.size / _THUMB)
        self._cache[track] = Cached(thumb, seconds)
        return self._cache[track], None

    def _fill(self, jobs: list[_Job]) -> None:
        """Compute every patch still missing, in batches over frames."""
        missing = [(job, i) for job in jobs for i, cached in enumerate(job.cached) if not cached]
        for start in range(0, len(missing), self._batch):
            part = missing[start : start + self._batch]
            patches = np.stack([job.originals[i] for job, i in part])
            scales = np.array([crop.scale_of(job.to_frame[i]) for job, i in part], np.float32)
            assert self._network is not None
            for (job, i), patch in zip(part, self._network(patches, scales), strict=True):
                trust = (_consistency(job.originals[i], patch) - self._min_consistency) / (
                    _TRUSTED - self._min_consistency
                )
                if trust >= 1:
                    job.results[i].patch = patch
                elif trust > 0:
                    mixed = cv2.addWeighted(patch, trust, job.originals[i], 1 - trust, 0)
                    job.results[i].patch = mixed.astype(np.uint8, copy=False)

    def _finished(self, job: _Job) -> Enhanced:
        now = job.scene.frame.seconds
        if len(self._cache) > 64:
            self._cache = {track: c for track, c in self._cache.items() if now - c.seconds <= 2 * self.cache_ttl}
        used = [i for i, result in enumerate(job.results) if result.patch is not None]
        cached = np.array([job.cached[i] for i in used], np.bool_)
        self.counts.from_cache += int(cached.sum())
        self.counts.enhanced += int((~cached).sum())
        self.counts.inconsistent += len(job.results) - len(used)
        empty = np.zeros((0, self.size, self.size, 3), np.uint8)
        patches = [patch for result in job.results if (patch := result.patch) is not None]
        return Enhanced(
            job.scene,
            job.faces[used],
            np.stack([job.originals[i] for i in used]) if used else empty,
            np.stack(patches) if used else empty,
            job.to_frame[used],
            cached,
        )


def cut(scene: Scene, to_frame: NDArray[np.float32], size: int) -> NDArray[np.uint8] | None:
    """(size, size, 3) uint8 RGB patch of the scene's frame, or None where it lies wholly outside."""
    image = scene.frame.image
    region = planes.align(image, *crop.bounds(to_frame, size))
    if region is None:
        return None
    x0, y0, _, _ = region
    return crop.cut(planes.read(image, *region), crop.moved(to_frame, x0, y0), size)


def _thumb(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = cv2.resize(patch, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def _shift(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far the face went from ``before`` to ``after``, thumb pixels x, y (Lucas and Kanade, IJCAI 1981)."""
    centre = np.array([[[_THUMB / 2, _THUMB / 2]]], np.float32)
    window = (_THUMB - 8, _THUMB - 8)
    place, found, _ = cv2.calcOpticalFlowPyrLK(before, after, centre, centre.copy(), winSize=window, maxLevel=1)
    shift = np.asarray((place - centre)[0, 0], np.float32)
    return shift if found[0, 0] and np.abs(shift).max() <= _REACH else np.zeros(2, np.float32)


def _difference(before: NDArray[np.uint8], after: NDArray[np.uint8], shift: NDArray[np.float32]) -> float:
    """Mean grey levels by which the part of the face that changed most has changed: a blink is a change too."""
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(before, move, (_THUMB, _THUMB), borderMode=cv2.BORDER_REPLICATE)
    face = cv2.absdiff(after, moved)[6:30, 4:28]
    return float(face.reshape(4, 6, 4, 6).mean((1, 3)).max())


def _consistency(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Correlation of two patches' middles in the band of eyes, nose and mouth, at 24 x 24 pixels; 1: alike.

    That coarse, noise, blur and coding hardly matter, and brightness does not.  A patch that is all but flat before
    and after counts as alike.
    """
    bands = []
    for patch in (before, after):
        small = cv2.cvtColor(cv2.resize(patch, (24, 24), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        grey = small.astype(np.float32)
        bands.append((grey - cv2.GaussianBlur(grey, (0, 0), 2.0))[3:21, 3:21])
    x, y = bands
    floor = np.float32(0.25 * x.size)  # half a grey level of contrast
    return float(((x * y).sum() + floor) / np.sqrt(((x * x).sum() + floor) * ((y * y).sum() + floor)))
