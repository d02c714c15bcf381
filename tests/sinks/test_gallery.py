import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance.errors import SinkError
from stream_enhance.sinks import gallery
from stream_enhance.sinks.gallery import Gallery
from stream_enhance.types import Enhanced, Faces, Frame, Scene
from tests.conftest import Command
from tests.media import luma_of, read_image

SIDE = 64
RED, BLUE = (220, 30, 40), (20, 40, 210)


def image(colour: tuple[int, int, int], contrast: int = 0) -> NDArray[np.uint8]:
    """A patch of one colour, with squares of ``contrast`` in it so that it can be sharp."""
    out = np.full((SIDE, SIDE, 3), colour, np.uint8).astype(int)
    out[::16, ::16] += contrast
    return np.asarray(np.clip(out, 0, 255), np.uint8)


def seen(
    seconds: float,
    tracks: list[int],
    height: float = 40,
    score: float = 0.9,
    before: NDArray[np.uint8] | None = None,
    after: NDArray[np.uint8] | None = None,
    cached: bool = False,
    rotation: int = 0,
    angle: float = 0,
) -> Enhanced:
    n = len(tracks)
    xyxy = np.tile(np.array([10, 10, 10 + height * 0.8, 10 + height], np.float32), (n, 1))
    faces = Faces(xyxy, np.full(n, score, np.float32), np.array(tracks, np.int64), None)
    frame = Frame(
        av.VideoFrame(96, 96, "yuv420p"), 0, round(seconds * 1000), Fraction(1, 1000), 0.0, 0.0, rotation=rotation
    )
    turn = np.radians(angle)
    affine = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]], np.float32)
    return Enhanced(
        Scene(frame, faces),
        np.arange(n),
        np.stack([image(RED, 60) if before is None else before] * n) if n else np.zeros((0, SIDE, SIDE, 3), np.uint8),
        np.stack([image(BLUE) if after is None else after] * n) if n else np.zeros((0, SIDE, SIDE, 3), np.uint8),
        np.tile(affine, (n, 1, 1)),
        np.full(n, cached),
    )


def test_two_runs_cannot_write_one_gallery_at_once(tmp_path: Path) -> None:
    first = Gallery(tmp_path / "g", "a.mp4")
    with pytest.raises(SinkError, match="another run is writing its gallery there"):
        Gallery(tmp_path / "g", "b.mp4", overwrite=True)
    first.close()
    Gallery(tmp_path / "g", "b.mp4", overwrite=True).close()


def test_each_track_leaves_its_image_before_and_after_in_the_right_colours(tmp_path: Path) -> None:
    shots = Gallery(tmp_path / "new" / "folder", "shop.mp4")
    shots.observe(seen(0, [3, 12]))
    shots.close()
    for track in (3, 12):
        np.testing.assert_array_equal(
            read_image(shots.folder / f"track_{track:05d}_before.png"), seen(0, [track]).originals[0]
        )
        np.testing.assert_array_equal(read_image(shots.folder / f"track_{track:05d}_after.png"), image(BLUE))
    assert not list(shots.folder.glob("*.part"))


@pytest.mark.parametrize(
    ("worse", "better"),
    [({"height": 30}, {"height": 50}), ({"score": 0.4}, {"score": 0.9}), ({}, {"before": image(RED, 120)})],
    ids=["size", "score", "sharpness"],
)
@pytest.mark.parametrize("better_first", [True, False])
def test_the_best_shot_is_kept(tmp_path: Path, worse: dict, better: dict, better_first: bool) -> None:  # type: ignore[type-arg]
    marks = {True: image((0, 200, 0)), False: image((90, 90, 90))}
    shots = Gallery(tmp_path, "shop.mp4")
    for i, is_better in enumerate([better_first, not better_first]):
        shots.observe(seen(i * 0.1, [1], after=marks[is_better], **(better if is_better else worse)))
    shots.close()
    np.testing.assert_array_equal(read_image(tmp_path / "track_00001_after.png"), marks[True])


def test_a_face_from_the_cache_is_no_shot_as_its_after_is_of_another_moment(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "shop.mp4")
    shots.observe(seen(0, [1], height=30))
    shots.observe(seen(0.1, [1], height=90, cached=True))
    shots.close()
    assert "face 30 px high" in (tmp_path / "index.html").read_text()


def test_faces_without_a_track_are_passed_over(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "shop.mp4")
    shots.observe(seen(0, [-1]))
    shots.close()
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_images_are_written_while_the_run_goes_on(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "shop.mp4")
    shots.observe(seen(0, [1, 2]))
    assert not list(tmp_path.glob("*.png")), "the first frames of a track improve fast: writing waits"
    shots.observe(seen(1.5, [2]))
    assert (tmp_path / "track_00002_after.png").exists(), "a track that stays is written without waiting for its end"
    shots.observe(seen(4.0, []))
    assert (tmp_path / "track_00001_after.png").exists(), "a track that ended is written"


def test_a_shot_that_is_notably_better_is_written_again(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "shop.mp4")
    shots.observe(seen(0, [1]))
    shots.observe(seen(1.2, [1]))
    old = (tmp_path / "track_00001_after.png").read_bytes()
    shots.observe(seen(1.4, [1], height=44, after=image((0, 200, 0))))
    assert (tmp_path / "track_00001_after.png").read_bytes() == old, "a little better can wait"
    shots.observe(seen(1.6, [1], height=80, after=image((200, 200, 0))))
    np.testing.assert_array_equal(read_image(tmp_path / "track_00001_after.png"), image((200, 200, 0)))


def test_memory_does_not_grow_with_the_tracks(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "shop.mp4")
    for i in range(300):
        shots.observe(seen(i * 0.01, [i, i + 1000]))
    holding = [s for s in shots._shots.values() if s.before is not None]
    assert len(holding) <= gallery._HELD
    shots.close()
    assert len(list(tmp_path.glob("track_*.png"))) == 2 * 600


def test_of_more_tracks_than_a_gallery_holds_the_best_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "_KEPT", 20)
    shots = Gallery(tmp_path, "shop.mp4")
    for i in range(50):
        shots.observe(seen(i * 0.1, [i], height=20 + i))
    shots.close()
    assert sorted(int(p.name[6:11]) for p in tmp_path.glob("*_after.png")) == list(range(30, 50))
    assert "20 tracks, the best of more" in (tmp_path / "index.html").read_text()


def test_the_contact_sheet_shows_before_above_after(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "Überwachung <1>.mp4")
    for i in range(13):
        shots.observe(seen(i * 0.1, [i]))
    shots.close()
    sheet = read_image(tmp_path / "contact_sheet.png")
    columns = [tuple(int(v) for v in sheet[y, 40]) for y in range(sheet.shape[0])]
    assert columns.count(RED) >= 2 * 110
    assert columns.count(BLUE) >= 2 * 110
    assert columns.index(RED) < columns.index(BLUE)


def test_the_page_names_every_file_and_says_what_it_shows(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, 'rtsp://admin:secret@cam/"><script>alert(1)</script>')
    shots.observe(seen(100.0, [1]))
    shots.observe(seen(100.0 + 3725.26, [2], height=33.4))
    shots.close()
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    files = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert files == {p.name for p in tmp_path.glob("*.png")}, "all are there and nothing is fetched from elsewhere"
    assert "secret" not in page
    assert "<script>alert" not in page
    assert "Track 1</b> · 0:00.0" in page, "time counts from the first frame"
    assert "Track 2</b> · 1:02:05.3 · face 33 px high" in page
    assert "were changed by a neural network" in page
    assert "Nothing here identifies anyone" in page
    assert page.count('type="range"') == 2
    assert "://" not in page.replace("rtsp://", "")


def test_a_run_without_faces_says_so(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "empty.mp4")
    shots.observe(seen(0, []))
    shots.close()
    assert "No face was enhanced" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(("angle", "turned"), [(0, True), (90, False)])
def test_a_rotated_video_s_faces_stand_upright(tmp_path: Path, angle: float, turned: bool) -> None:
    half = image(RED, 60)
    half[: SIDE // 2] = 250
    shots = Gallery(tmp_path, "phone.mp4")
    shots.observe(seen(0, [1], before=half, rotation=90, angle=angle))
    shots.close()
    np.testing.assert_array_equal(read_image(tmp_path / "track_00001_before.png"), np.rot90(half) if turned else half)


@pytest.mark.parametrize("folder", ["taken", "/proc/faces"])
def test_a_folder_that_cannot_be_written_is_warned_of_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    shots = Gallery(tmp_path / folder, "shop.mp4")
    for seconds in range(5):
        shots.observe(seen(seconds, [seconds]))
    shots.close()
    assert caplog.text.count("the gallery cannot be written there") == 1
    assert "the run goes on" in caplog.text
    assert f"the gallery lacks {shots.failed} files that could not be written" in caplog.text
    assert shots.failed > 5


def test_an_image_that_cannot_be_written_leaves_no_half_and_the_rest_is_there(tmp_path: Path) -> None:
    shots = Gallery(tmp_path, "shop.mp4")
    (tmp_path / "track_00001_after.png").mkdir()
    shots.observe(seen(0, [1]))
    shots.observe(seen(1, [2]))
    shots.close()
    assert shots.failed == 1
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / "track_00002_after.png").is_file()
    assert (tmp_path / "contact_sheet.png").is_file()


def test_a_name_that_is_no_utf_8_is_shown_as_far_as_it_can_be(tmp_path: Path) -> None:
    shots = Gallery(tmp_path / os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe9.mp4"))
    shots.observe(seen(0, [1]))
    shots.close()
    assert shots.failed == 0
    assert "Faces in caf?.mp4" in (shots.folder / "index.html").read_text()


def test_a_full_disk_costs_the_gallery_alone(
    command: Command, clip: Path, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    result = command("run", clip, "-o", tmp_path / "out.mp4", "--gallery", small_disk("size=4k") / "faces")
    assert result.code == 0, result.err
    assert result.err.count("the gallery cannot be written there (No space left on device)") == 1
    assert len(luma_of(tmp_path / "out.mp4")) == 12
