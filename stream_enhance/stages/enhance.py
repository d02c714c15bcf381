"""Face patches cut, enhanced in batches, and remembered by track.

``Enhancer`` turns scenes into ``Enhanced``.  All faces of all waiting frames go through the network in one batch.  What
``gates`` does not let pass is left as it is, and counted; what passes is mixed with its track's earlier results
(``steady``).  A face that has hardly changed since its track was last enhanced is given that result again, carried to
where it is now.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..imaging import crop
from ..imaging.host import Host, Imaging
from ..options import EnhancerKind, Options
from ..runtime import batches
from ..types import Decision, Enhanced, Scene
from . import gates
from .classical import ClassicalOptions
from .fuse import Fusion
from .networks import Enhancement
from .past import share_of
from .steady import Motion, TrackMemory, blended, consistency_of

_CONSISTENT = 0.07  # of consistency, from where a result is not used to where it is used whole
_LEAST = 0.02  # of strength, below which nothing would be seen to change
_REMEMBERED = 64  # tracks
_Decided = dict[int, Decision]  # by row of a scene's faces
_OFF = Decision("left", "off")  # nothing is enhanced


@dataclass(slots=True)
class LeftAlone:
    """Faces that were shown as they are, by the reason."""

    too_small: int = 0
    sharp_enough: int = 0
    over_budget: int = 0
    not_enough_evidence: int = 0  # not surely a face, or none that the detector saw just now
    turned_away: int = 0
    partly_outside: int = 0
    dark_and_flat: int = 0
    inconsistent: int = 0  # the network's result no longer looked like what the camera saw


@dataclass(slots=True)
class Counts:
    """What became of the faces so far."""

    enhanced: int = 0  # by the network
    from_cache: int = 0
    left: LeftAlone = field(default_factory=LeftAlone)

    @property
    def left_alone(self) -> dict[str, int]:
        """``left`` by name, for a report."""
        return asdict(self.left)


@dataclass(slots=True)
class _Patch:
    """One face on its way through the network."""

    row: int  # of the scene's faces
    original: NDArray[np.uint8]  # (S, S, 3) RGB
    to_frame: NDArray[np.float32]  # (2, 3)
    strength: float  # 0..1
    memory: TrackMemory
    motion: Motion | None  # since the track's last input; None: it starts over
    cached: bool  # the track's last result is used again
    outside: NDArray[np.bool_] | None  # (S, S) beyond the frame's edge
    given: NDArray[np.uint8]  # (S, S, 3) RGB, what the network is given
    past: NDArray[np.float32] | None = None  # (1, S, S) what the track showed before, for a network that takes it
    computed: NDArray[np.uint8] | None = None  # (S, S, 3) RGB, by the network
    error: NDArray[np.float32] | None = None  # (THUMB, THUMB) 0..1 that it expects


class EnhancerOptions(Options):
    """What changes faces, and which."""

    kind: EnhancerKind = Field(
        default="unet",
        description="A learned network (unet), published formulas on one frame (classical) or on a face's last frames"
        " (fuse), or nothing.",
    )
    model: Path | None = Field(
        default=None, description="ONNX file of the U-Net; null: the one that comes with the package."
    )
    strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How far a face goes from what the camera saw (0) to the network's result (1); null: by its size"
        " and sharpness, at most 0.7, and less at the mouth of small faces (STRENGTH and MOUTH in stages/gates.py).",
    )
    min_score: float = Field(
        default=0.62,
        ge=0,
        lt=1,
        description="Detection score of the moment up to which a face is left alone; from there strength rises to the"
        " whole within 0.12.",
    )
    min_evidence: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Mean of a track's three best detection scores below which its face is left alone: it may be none.",
    )
    max_yaw: float = Field(
        default=0.45,
        ge=0,
        description="How far a face may be turned to a side (0 frontal, about 0.5 in profile); from there it is left"
        " alone: the network knows the front of faces.",
    )
    min_visible: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Part of a face's box that must lie within the frame for it to be enhanced.",
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
        default=0.88,
        ge=-1,
        le=1,
        description="Correlation of a result with what the camera saw, both at low resolution, up to which the result"
        " is not used: the network has invented something.  Strength rises to the whole within 0.07 from there.",
    )
    classical: ClassicalOptions = ClassicalOptions()


class Enhancer:
    """Enhances the faces of scenes.

    Args:
        enhancement: what changes the patches, and how they are cut.
        options: which faces are enhanced, how far, and how long a result is used.
        imaging: cuts the patches; None: in the host's memory.
    """

    def __init__(
        self,
        enhancement: Enhancement,
        options: EnhancerOptions = EnhancerOptions(),
        imaging: Imaging | None = None,
    ) -> None:
        self._imaging = imaging or Host()
        self._network, self.size, self._align = enhancement.network, enhancement.size, enhancement.align
        self._along, self._weighs = enhancement.along, enhancement.weighs
        self._options, self._fuses = options, enhancement.fuses
        self.cache_tolerance = 0.0 if self._fuses else options.cache_tolerance  # each frame adds to the mean
        self.cache_ttl, self.max_faces = options.cache_ttl, options.max_faces
        self._tracks: dict[int, TrackMemory] = {}
        self.counts = Counts()

    def __call__(self, scenes: Iterable[Scene]) -> Generator[Enhanced, None, None]:
        """Each scene with the patches of its faces before and after, (n, S, S, 3) uint8 RGB; small batches at once."""
        for waiting in batches(scenes, self._options.batch):
            jobs = [(scene, *self._cut(scene)) for scene in waiting]
            self._fill([patch for _, patches, _ in jobs for patch in patches])
            for scene, patches, decided in jobs:
                yield self._finished(scene, patches, decided)

    def _cut(self, scene: Scene) -> tuple[list[_Patch], _Decided]:
        """The scene's patches, each with its track's memory, and what was decided about the other faces."""
        faces, decided = scene.faces, _Decided()
        trust, rows = self._chosen(scene, decided)
        points = faces.points[rows] if self._align and faces.points is not None else None
        to_frame = crop.patch_to_frame(faces.xyxy[rows], points, self.size)
        cut = [
            self._patch(scene, int(row), affine, float(trust[row]), decided)
            for row, affine in zip(rows, to_frame, strict=True)
        ]
        return [patch for patch in cut if patch is not None], decided

    def _leave(self, decided: _Decided, row: int, why: str, patch: _Patch | None = None) -> None:
        """Count a face that is left alone, and note the reason, the name of one of ``LeftAlone``."""
        setattr(self.counts.left, why, getattr(self.counts.left, why) + 1)
        known = (patch.to_frame, None, patch.memory.consistency) if patch is not None else ()
        decided[row] = Decision("left", why, *known)

    def _chosen(self, scene: Scene, decided: _Decided) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """How far each face is trusted, (n,) 0..1; and the rows of those to enhance."""
        faces, image, options = scene.faces, scene.frame.image, self._options
        if self._network is None or not len(faces):
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        heights = faces.xyxy[:, 3] - faces.xyxy[:, 1]
        front = gates.front_of(faces, options.max_yaw)
        trust = gates.trust_of(faces, options.min_score, options.min_evidence)
        reasons = {
            "too_small": heights < options.min_face,
            "partly_outside": gates.visible(faces.xyxy, image.width, image.height) < options.min_visible,
            "not_enough_evidence": trust <= 0,
            "turned_away": front <= 0,
        }
        alone = np.zeros(len(faces), bool)
        for reason, holds in reasons.items():  # the first that holds is counted
            for row in np.flatnonzero(holds & ~alone):
                self._leave(decided, int(row), reason)
            alone |= holds
        rows = np.flatnonzero(~alone)
        if self.max_faces and len(rows) > self.max_faces:
            known = np.array([int(t) in self._tracks for t in faces.track[rows]])
            order = np.lexsort((-heights[rows], known))
            for row in rows[order[self.max_faces :]]:
                self._leave(decided, int(row), "over_budget")
            rows = np.sort(rows[order[: self.max_faces]])
        return trust * front, rows

    def _patch(
        self, scene: Scene, row: int, to_frame: NDArray[np.float32], trust: float, decided: _Decided
    ) -> _Patch | None:
        """The patch at ``to_frame``, registered to its track's memory, or None where it is left alone."""
        image, seconds = scene.frame.image, scene.frame.seconds
        patch = self._imaging.cut(image, to_frame, self.size)
        if patch is None:
            self._leave(decided, row, "partly_outside")
            return None
        height = float(scene.faces.xyxy[row, 3] - scene.faces.xyxy[row, 1])
        if gates.is_dark_and_flat(patch):
            self._leave(decided, row, "dark_and_flat")
            return None
        if height > self._options.max_face and cv2.Laplacian(patch[:, :, 1], cv2.CV_32F).var() >= self._options.sharp:
            self._leave(decided, row, "sharp_enough")
            return None
        strength = self._options.strength
        if strength is None and self._weighs:
            strength = 1.0  # by the expected error, once there is a result
        elif strength is None:
            strength = gates.strength_of(height, gates.sharpness_of(patch, crop.scale_of(to_frame)))
        track = int(scene.faces.track[row])
        memory, motion = self._tracks.get(track), None
        if memory is None or not memory.goes_on(seconds) or scene.frame.stream.stills:
            memory = self._tracks[track] = TrackMemory.of(patch, seconds)
        else:
            motion = memory.add(patch, seconds)
        past = None if self._along is None else memory.remember(patch, motion)
        cached = self.cache_tolerance > 0 and memory.still_holds(self.cache_tolerance, self.cache_ttl)
        if not cached:
            memory.given()
        if self._fuses and memory.fusion is None:
            memory.fusion = Fusion()
        return _Patch(
            row,
            patch,
            to_frame,
            memory.eased(trust * strength),
            memory,
            motion,
            cached,
            gates.outside(to_frame, self.size, image.width, image.height),
            memory.fusion.add(patch, motion) if self._fuses else patch,
            past,
        )

    def _fill(self, patches: list[_Patch]) -> None:
        """Compute what is not taken from the cache, in batches over frames."""
        missing = [patch for patch in patches if not patch.cached]
        for start in range(0, len(missing), self._options.batch):
            part = missing[start : start + self._options.batch]
            sources = np.stack([patch.given for patch in part])
            scales = np.array([crop.scale_of(patch.to_frame) for patch in part], np.float32)
            assert self._network is not None
            if self._along is None:
                results, errors = self._network(sources, scales), None
            else:
                pasts = np.stack([patch.past for patch in part if patch.past is not None])
                results, errors = self._along(sources, pasts)
            for k, patch in enumerate(part):
                patch.computed, patch.error = results[k], None if errors is None else errors[k]

    def _finished(self, scene: Scene, patches: list[_Patch], decided: _Decided) -> Enhanced:
        now = scene.frame.seconds
        if len(self._tracks) > _REMEMBERED:
            self._tracks = {track: memory for track, memory in self._tracks.items() if memory.goes_on(now)}
        used = [(patch, mixed) for patch in patches if (mixed := self._mixed(patch, decided)) is not None]
        cached = np.array([patch.cached for patch, _ in used], np.bool_)
        self.counts.from_cache += int(cached.sum())
        self.counts.enhanced += int((~cached).sum())
        empty = np.zeros((0, self.size, self.size, 3), np.uint8)
        return Enhanced(
            scene,
            np.array([patch.row for patch, _ in used], np.int64),
            np.stack([patch.original for patch, _ in used]) if used else empty,
            np.stack([mixed for _, mixed in used]) if used else empty,
            np.stack([patch.to_frame for patch, _ in used]) if used else np.zeros((0, 2, 3), np.float32),
            cached,
            tuple(decided.get(row, _OFF) for row in range(len(scene.faces))),
        )

    def _mixed(self, patch: _Patch, decided: _Decided) -> NDArray[np.uint8] | None:
        """The face as it is to be shown: of the result as much as it is trusted; None: none of it."""
        memory = patch.memory
        memory.mix(patch.computed, patch.motion)
        memory.expect(patch.error, patch.motion)
        if patch.computed is not None:
            memory.consistency = consistency_of(patch.original, patch.computed)
        assert memory.result is not None
        trust = float(np.clip((memory.consistency - self._options.min_consistency) / _CONSISTENT, 0, 1))
        if trust == 0:
            self._leave(decided, patch.row, "inconsistent", patch)
            return None
        share, shares = trust * patch.strength, None
        if memory.error is not None and self._options.strength is None:
            shares = share * share_of(patch.original, memory.result, memory.error)
            share = float(shares.mean())
        if share < _LEAST and self._options.strength is None:  # the table gives a sharp face nothing
            self._leave(decided, patch.row, "sharp_enough", patch)
            return None
        kind: Literal["cached", "enhanced"] = "cached" if patch.cached else "enhanced"
        decided[patch.row] = Decision(kind, "", patch.to_frame, share, memory.consistency)
        mixed = blended(memory.result, patch.original, share if shares is None else shares)
        if self._options.strength is None:
            height = crop.scale_of(patch.to_frame) * self.size * crop.BOX_HEIGHT
            mixed = gates.with_mouth_as_seen(mixed, patch.original, height)
        if patch.outside is not None:
            mixed[patch.outside] = patch.original[patch.outside]
        return mixed
