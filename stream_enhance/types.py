"""What travels down the line: each stage's output says what that stage added.

``Frame`` leaves the source, ``Scene`` the detector, ``Enhanced`` the enhancer, ``Rendered`` the overlay.
Arrays are struct-of-arrays, one row a face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from .errors import InputError


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a sink needs to know of the stream that its frames come from; the same object on every frame."""

    name: str = ""  # fit to be shown: no credentials
    live: bool = False
    rate: Fraction | None = None  # nominal frames a second
    pixel_aspect: Fraction | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Any, ...] = ()  # as PyAV gives them
    side_streams: tuple[Any, ...] = ()  # av.Stream: sound, subtitles, data; templates for an output's own
    frame_count: int = 0  # 0 where unknown
    format: str = ""  # FFmpeg's name of the container; "images" for a folder
    duration: float = 0.0  # seconds; 0 where unknown
    bit_rate: int = 0  # of the container, bits a second; 0 where unknown
    streams: tuple[Any, ...] = ()  # every av.Stream of the container
    video_index: int = 0  # of the one that the frames come from
    notes: tuple[str, ...] = ()  # what of the source no output holds, known once the first frame is decoded
    stills: bool = False  # independent images rather than a moving scene


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame, in the decoder's own pixel format."""

    image: av.VideoFrame  # colour matrix, range, primaries and transfer are tags on it
    index: int  # counts frames of this source from 0
    pts: int  # strictly increasing, in time_base units
    time_base: Fraction  # seconds a tick
    captured_at: float  # seconds, time.monotonic(), when it was decoded
    wall_time: float  # seconds since the epoch, when it was decoded
    rotation: int = 0  # degrees counter-clockwise that a player turns it by to show it: 0, 90, 180 or 270
    name: str = ""  # the file it came from, for a folder of images
    no_signal: bool = False  # not from the camera: its last frame, greyed
    turned: bool = False  # a quarter since it was decoded: its pixels' width and height have changed places
    stream: StreamInfo = StreamInfo()
    side_packets: tuple[Any, ...] = ()  # av.Packet of the side streams, in demuxing order, that belong before it
    taken_at: float | None = None  # seconds since the epoch by the camera's own clock, where it says so (RTCP)
    detect_image: av.VideoFrame | None = None  # the same view in the camera's smaller stream: faces are found in it
    detect_seconds: float | None = None  # its presentation time, on this frame's clock
    duration: int = 0  # in time_base units, where the source says how long it is shown; 0: until the next one

    @property
    def seconds(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one frame."""

    xyxy: NDArray[np.float32]  # (n, 4) frame pixels: x1, y1, x2, y2
    score: NDArray[np.float32]  # (n,) 0..1
    track: NDArray[np.int64]  # (n,) id, stable through the run; -1 where there is none yet
    points: NDArray[np.float32] | None  # (n, 5, 2) frame pixels, in crop.TEMPLATE's order, or None
    evidence: NDArray[np.float32] | None = None  # (n,) 0..1, mean of the track's three best scores; None without tracks
    coasting: NDArray[np.bool_] | None = None  # (n,) the last detection missed it, so that its place is a guess
    probability: NDArray[np.float32] | None = None  # (n,) 0..1, how often such scores are faces; None: not calibrated

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def none(cls) -> Faces:
        """No faces."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), None)

    def take(self, rows: NDArray[Any]) -> Faces:
        """The faces that ``rows`` (indices or a mask) picks."""
        optional = (self.points, self.evidence, self.coasting, self.probability)
        picked = (None if values is None else values[rows] for values in optional)
        return Faces(self.xyxy[rows], self.score[rows], self.track[rows], *picked)

    def to_supervision(self) -> Any:
        """These faces as ``supervision.Detections`` (class 0, ``tracker_id`` set).

        Raises:
            InputError: supervision is not installed.
        """
        try:
            import supervision
        except ModuleNotFoundError as error:
            raise InputError(f"Faces.to_supervision needs {error.name}; run pip install supervision") from None

        return supervision.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.score.copy(),
            class_id=np.zeros(len(self), np.int64),
            tracker_id=self.track.copy(),
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """A frame and the faces in it."""

    frame: Frame
    faces: Faces
    cut: bool = False  # the frame shows another place than the one before


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one face."""

    kind: Literal["enhanced", "cached", "left"]  # cached: with the track's last result again
    why: str = ""  # of left: the reason, as LeftAlone names it; "off" where nothing is enhanced
    to_frame: NDArray[np.float32] | None = None  # (2, 3) patch pixels to frame pixels; None: no patch was cut
    strength: float | None = None  # 0..1, share of the result in what is shown
    consistency: float | None = None  # -1..1, of the result with its input; None: nothing was computed


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A scene and what its faces became.  Row i of each array is a face that was enhanced."""

    scene: Scene
    faces: NDArray[np.int64]  # (m,) rows of scene.faces
    originals: NDArray[np.uint8]  # (m, S, S, 3) RGB, the patches as they were
    patches: NDArray[np.uint8]  # (m, S, S, 3) RGB, enhanced
    to_frame: NDArray[np.float32]  # (m, 2, 3) patch pixels to frame pixels
    cached: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))  # (m,) taken from the cache
    decisions: tuple[Decision, ...] = ()  # of each of scene.faces, for a record of them


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished frame and what it shows."""

    image: av.VideoFrame  # pts and time_base are the source frame's
    enhanced: Enhanced

    def to_rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, as a player shows it: upright, whatever the frame's rotation."""
        rotation = self.enhanced.scene.frame.rotation
        pixels: NDArray[np.uint8] = self.image.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        return np.ascontiguousarray(np.rot90(pixels, rotation // 90))

    def _repr_png_(self) -> bytes:
        """Shown by notebooks."""
        import cv2  # types must be quick to import

        return bytes(cv2.imencode(".png", self.to_rgb()[:, :, ::-1])[1])


@dataclass(frozen=True, slots=True)
class EnhancedImage:
    """What ``Pipeline.enhance`` made of one image; notebooks show it."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB; wider or higher where overlay.mode or overlay.scale make it so
    enhanced: Enhanced  # patches before and after, and where they belong

    @property
    def faces(self) -> Faces:
        """All faces found, best first, in pixels of the image that was given."""
        return self.enhanced.scene.faces

    def _repr_png_(self) -> bytes:
        import cv2  # types must be quick to import

        return bytes(cv2.imencode(".png", self.image[:, :, ::-1])[1])
