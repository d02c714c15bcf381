import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest

from stream_enhance.runtime import Channel
from stream_enhance.stages import gates
from stream_enhance.stages.enhance import Enhancer, EnhancerOptions
from stream_enhance.stages.networks import Enhancement, Network
from stream_enhance.types import Faces, Frame, Scene, StreamInfo

RNG = np.random.default_rng(1)
TEXTURE = cv2.resize(RNG.integers(60, 170, (72, 128, 3), np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC)


class Brighter:
    """Adds 30 to every patch and remembers how many it was given at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, patches: np.ndarray, scales: np.ndarray) -> np.ndarray:
        assert len(patches) == len(scales)
        self.batches.append(len(patches))
        return np.asarray(np.clip(patches.astype(int) + 30, 0, 255), np.uint8)


def scene(index: int, *boxes: tuple[float, float, float, float], image: np.ndarray = TEXTURE) -> Scene:
    video_frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(xyxy)
    faces = Faces(xyxy, np.full(n, 0.9, np.float32), np.arange(1, n + 1), None)
    return Scene(Frame(video_frame, index, index, Fraction(1, 25), time.monotonic(), time.time()), faces)


def enhancer_of(network: Network | None, **options: Any) -> Enhancer:
    return Enhancer(Enhancement(network), EnhancerOptions(**({"strength": 1.0} | options)))


BOX = (100.0, 100.0, 140.0, 150.0)


def test_every_face_gets_a_patch_and_a_place() -> None:
    (done,) = enhancer_of(Brighter())([scene(0, BOX, (300, 50, 340, 100))])
    assert done.patches.shape == done.originals.shape == (2, 256, 256, 3)
    assert done.to_frame.shape == (2, 2, 3)
    assert np.abs(done.patches.astype(int) - done.originals.astype(int) - 30).max() == 0
    assert not done.cached.any()


def test_faces_of_all_waiting_frames_go_in_one_batch() -> None:
    network, inbox = Brighter(), Channel[Scene](8)
    for i in range(3):
        inbox.put(scene(i, BOX, (300, 50, 340, 100)))
    inbox.close()
    assert len(list(enhancer_of(network, cache_tolerance=0)(inbox))) == 3
    assert network.batches == [6]


def test_a_face_that_has_not_changed_is_not_computed_again() -> None:
    network = Brighter()
    enhancer = enhancer_of(network, cache_ttl=0.5)
    done = list(enhancer(scene(i, BOX) for i in range(10)))
    assert sum(network.batches) == 1
    assert enhancer.counts.from_cache == 9
    assert np.array_equal(done[0].patches, done[9].patches)
    assert done[9].cached.all()


def test_the_cache_gives_nothing_unfinished_within_one_batch() -> None:
    inbox = Channel[Scene](8)
    for i in range(4):
        inbox.put(scene(i, BOX))
    inbox.close()
    for done in enhancer_of(Brighter())(inbox):
        assert (done.patches.astype(int) - done.originals.astype(int)).mean() > 25


def test_the_cache_ends_with_time_with_change_and_with_the_setting() -> None:
    blinked = TEXTURE.copy()
    blinked[112:122, 105:135] = 0  # about where the eyes are
    for second, expected in (
        (scene(20, BOX), 2),  # 0.8 s later
        (scene(1, BOX, image=blinked), 2),
        (scene(1, BOX), 1),
    ):
        network = Brighter()
        list(enhancer_of(network, cache_ttl=0.5)([scene(0, BOX), second]))
        assert sum(network.batches) == expected
    network = Brighter()
    list(enhancer_of(network, cache_tolerance=0)([scene(0, BOX), scene(1, BOX)]))
    assert sum(network.batches) == 2


def test_a_cached_face_goes_where_the_face_went() -> None:
    enhancer = enhancer_of(Brighter(), cache_ttl=0.5)
    moved = np.roll(TEXTURE, 3, axis=1)  # the image moved 3 pixels right, the box stayed
    _, second = enhancer([scene(0, BOX), scene(1, BOX, image=moved)])
    assert second.cached.all()
    middle = np.s_[60:200, 60:200]
    change = second.patches[0][middle].astype(int) - second.originals[0][middle]
    assert abs(change.mean() - 30) < 2
    assert np.abs(change - 30).mean() < 6, "in place it would be off by more than 20"


def test_too_small_and_already_sharp_faces_are_left_alone_and_counted() -> None:
    enhancer = enhancer_of(Brighter(), min_face=16, max_face=100, sharp=5)
    (done,) = enhancer([scene(0, (10, 10, 20, 22), (200, 50, 360, 250), BOX)])
    assert done.faces.tolist() == [2]
    assert (enhancer.counts.left.too_small, enhancer.counts.left.sharp_enough) == (1, 1)


def test_a_large_but_blurred_face_is_enhanced() -> None:
    blurred = cv2.GaussianBlur(TEXTURE, (0, 0), 24)
    blurred = cv2.normalize(blurred, blurred.copy(), 20, 230, cv2.NORM_MINMAX)
    (done,) = enhancer_of(Brighter(), max_face=100)([scene(0, (200, 50, 360, 250), image=blurred)])
    assert len(done.patches) == 1


def test_over_budget_new_tracks_go_first() -> None:
    enhancer = enhancer_of(Brighter(), max_faces=1, cache_tolerance=0)
    first, second = enhancer([scene(0, BOX), scene(1, BOX, (300, 50, 330, 90))])
    assert first.faces.tolist() == [0]
    assert second.faces.tolist() == [1], "the new track, though it is smaller"
    assert enhancer.counts.left.over_budget == 1


def test_a_face_mostly_outside_is_left_alone_and_one_at_the_edge_is_changed_within_the_frame_only() -> None:
    enhancer = enhancer_of(Brighter())
    (done,) = enhancer([scene(0, (620, 340, 660, 390), (900, 900, 950, 960), (610, 100, 650, 150))])
    assert done.faces.tolist() == [2]
    assert enhancer.counts.left.partly_outside == 2
    x = done.to_frame[0, 0, 0] * np.arange(256) + done.to_frame[0, 0, 2]
    change = np.abs(done.patches[0].astype(int) - done.originals[0]).max((0, 2))
    assert change[x < 638].min() == 30
    assert change[x > 640].max() == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"evidence": np.array([0.65], np.float32)}, "not_enough_evidence"),
        ({"score": np.array([0.6], np.float32)}, "not_enough_evidence"),
        ({"coasting": np.array([True])}, "not_enough_evidence"),
        (
            {"points": np.array([[[104, 115], [122, 115], [98, 125], [104, 138], [120, 138]]], np.float32)},
            "turned_away",
        ),
    ],
)
def test_what_is_not_surely_a_face_from_the_front_is_left_alone_and_counted(change: Any, reason: str) -> None:
    seen = scene(0, BOX)
    network = Brighter()
    enhancer = enhancer_of(network)
    (done,) = enhancer([replace(seen, faces=replace(seen.faces, **change))])
    assert len(done.patches) == sum(network.batches) == 0
    assert len(done.scene.faces) == 1, "it is followed and shown as it is"
    assert {name for name, count in enhancer.counts.left_alone.items() if count} == {reason}


def test_a_dark_flat_patch_is_left_alone() -> None:
    dark = (TEXTURE // 16).astype(np.uint8)
    enhancer = enhancer_of(Brighter())
    (done,) = enhancer([scene(0, BOX, image=dark)])
    assert (len(done.patches), enhancer.counts.left.dark_and_flat) == (0, 1)


def test_strength_fades_with_the_score_and_follows_the_table_of_sizes() -> None:
    seen = scene(0, BOX)
    changes = []
    for score, strength in ((0.9, 1.0), (0.68, 1.0), (0.9, 0.4), (0.9, None)):
        faces = replace(seen.faces, score=np.array([score], np.float32))
        (done,) = enhancer_of(Brighter(), strength=strength)([replace(seen, faces=faces)])
        changes.append(int(done.patches[0].astype(int).mean() - done.originals[0].mean() + 0.5))
    assert changes[:3] == [30, 15, 12]
    sharpness = gates.sharpness_of(done.originals[0], float(done.to_frame[0, 0, 0]))
    assert changes[3] == pytest.approx(30 * gates.strength_of(50, sharpness), abs=1)


def test_still_images_share_nothing() -> None:
    stills = [scene(i, BOX, image=TEXTURE + 8 * i) for i in range(2)]
    stills = [replace(s, frame=replace(s.frame, stream=StreamInfo(stills=True))) for s in stills]
    _, second = enhancer_of(Brighter())(stills)
    alone = next(iter(enhancer_of(Brighter())([stills[1]])))
    assert np.array_equal(second.patches, alone.patches)
    assert not second.cached.any()


def test_a_result_that_is_not_what_the_camera_saw_is_not_used() -> None:
    def invents(patches: np.ndarray, scales: np.ndarray) -> np.ndarray:
        face = np.zeros((256, 256, 3), np.uint8)
        cv2.ellipse(face, (128, 140), (70, 95), 0, 0, 360, (200, 160, 140), -1)
        return np.repeat(face[None], len(patches), 0)

    enhancer = enhancer_of(invents)
    done = list(enhancer(scene(i, BOX) for i in range(3)))
    assert [len(d.patches) for d in done] == [0, 0, 0]
    assert (enhancer.counts.left.inconsistent, enhancer.counts.enhanced, enhancer.counts.from_cache) == (3, 0, 0)


def test_a_doubtful_result_is_mixed_with_what_was_seen() -> None:
    def drifts(patches: np.ndarray, scales: np.ndarray) -> np.ndarray:
        out = patches.copy()
        out[:, 90:120, 60:200] = 40  # a bar across the eyes that was not there
        return out

    changes = []
    for least in np.arange(-1, 0.99, 0.01):
        (done,) = enhancer_of(drifts, min_consistency=float(least))([scene(0, BOX)])
        bar = np.abs(done.patches[:, 105, 130].astype(int) - done.originals[:, 105, 130])
        changes.append(int(bar.sum()))
    assert sorted(changes, reverse=True) == changes
    assert changes[0] > changes[-1] == 0
    assert len(set(changes)) > 4, "no step"


def test_brightening_and_denoising_are_alike_enough() -> None:
    def restores(patches: np.ndarray, scales: np.ndarray) -> np.ndarray:
        return np.stack([cv2.GaussianBlur(cv2.convertScaleAbs(p, alpha=1.5, beta=20), (0, 0), 6) for p in patches])

    enhancer = enhancer_of(restores)
    (done,) = enhancer([scene(0, BOX)])
    assert len(done.patches) == 1


def test_no_network_changes_nothing() -> None:
    (done,) = enhancer_of(None)([scene(0, BOX)])
    assert len(done.patches) == 0
    assert len(done.scene.faces) == 1


def test_a_small_sharp_face_is_left_alone_by_the_table() -> None:
    noise = np.random.default_rng(4).integers(0, 256, (360, 640, 3), np.uint8)
    enhancer = enhancer_of(Brighter(), strength=None, min_consistency=-1)
    (done,) = enhancer([scene(0, (100, 100, 160, 180), image=noise)])
    assert (len(done.patches), enhancer.counts.left.sharp_enough) == (0, 1)


def test_every_face_has_a_decision_with_its_reason() -> None:
    boxes = (BOX, (300.0, 50.0, 306.0, 58.0))
    first, second = enhancer_of(Brighter(), min_face=12)([scene(0, *boxes), scene(1, *boxes)])
    assert [(d.kind, d.why) for d in first.decisions] == [("enhanced", ""), ("left", "too_small")]
    assert [(d.kind, d.why) for d in second.decisions] == [("cached", ""), ("left", "too_small")]
    enhanced, left = first.decisions
    assert enhanced.to_frame is not None
    assert np.array_equal(enhanced.to_frame, first.to_frame[0])
    assert enhanced.strength == pytest.approx(1.0)
    assert enhanced.consistency is not None
    assert left.to_frame is None
    assert left.strength is None
    (off,) = enhancer_of(None)([scene(0, BOX)])
    assert [(d.kind, d.why) for d in off.decisions] == [("left", "off")]
