"""Best shots on the disk: what is deleted, what never is, and what happens where none can be written."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stream_enhance.server.shots import LEDGER, CameraShots, ShotStore
from stream_enhance.types import Enhanced, Faces, Frame, Scene


def seen(seconds: float, track: int = 1) -> Enhanced:
    """A frame with one face."""
    image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
    frame = Frame(image, 0, round(seconds * 1000), Fraction(1, 1000), 0.0, 0.0)
    box = np.array([[8, 8, 40, 48]], np.float32)
    faces = Faces(box, np.array([0.9], np.float32), np.array([track], np.int64), None)
    patches = np.random.default_rng(track).integers(0, 255, (1, 64, 64, 3), np.uint8)
    to_frame = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)
    return Enhanced(Scene(frame, faces), np.array([0]), patches, patches, to_frame, np.array([False]))


def written(store: ShotStore, name: str, size: int = 1000) -> Path:
    """A file of ours."""
    path = store.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    store.record(path)
    return path


def aged(folder: Path, hours: float) -> None:
    """As if every file in the ledger had been written so long ago."""
    lines = [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]
    shifted = [json.dumps(line | {"written": line["written"] - hours * 3600}) for line in lines]
    (folder / LEDGER).write_text("\n".join(shifted) + "\n")


def test_what_is_too_old_is_deleted_and_its_empty_folder(tmp_path: Path) -> None:
    store = ShotStore(tmp_path)
    old = [written(store, f"door/20260101-000000/track_00001_{kind}.png") for kind in ("before", "after")]
    aged(tmp_path, 25)
    store = ShotStore(tmp_path, keep_hours=24)
    new = written(store, "door/20260102-000000/track_00001_after.png")
    store.delete_expired()
    store.close()
    assert not any(path.exists() for path in old)
    assert not old[0].parent.exists()
    assert new.exists()
    assert len((tmp_path / LEDGER).read_text().splitlines()) == 1


def test_the_oldest_pairs_are_deleted_where_there_is_too_much(tmp_path: Path) -> None:
    store = ShotStore(tmp_path, keep_megabytes=0.0055)
    for track in range(4):
        for kind in ("before", "after"):
            written(store, f"door/20260101-000000/track_0000{track}_{kind}.png")
    store.delete_expired()
    store.close()
    assert sorted(path.name for path in tmp_path.glob("*/*/*.png")) == [
        "track_00002_after.png", "track_00002_before.png", "track_00003_after.png", "track_00003_before.png",
    ]  # fmt: skip


def test_no_file_is_deleted_that_the_ledger_does_not_have_as_it_is(tmp_path: Path) -> None:
    store = ShotStore(tmp_path, keep_megabytes=0.000001)
    foreign = tmp_path / "door" / "20260101-000000" / "track_00009_after.png"
    replaced = written(store, "door/20260101-000000/track_00001_after.png")
    foreign.write_bytes(b"y" * 1000)
    keeper = replaced.with_name("keeper")
    replaced.rename(keeper)  # so that its inode is not used again
    replaced.write_bytes(b"somebody else's")
    outside = tmp_path.parent / "outside.png"
    outside.write_bytes(b"z")
    with (tmp_path / LEDGER).open("a") as ledger:
        entry = {"path": "../outside.png", "inode": outside.stat().st_ino, "written": 0, "size": 10**9}
        ledger.write(json.dumps(entry) + "\nnot JSON\n")
    ShotStore(tmp_path, keep_hours=1e-9, keep_megabytes=0.000001).delete_expired()
    assert all(path.exists() for path in (foreign, replaced, keeper, outside))


def test_a_clock_that_jumps_forward_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ShotStore(tmp_path, keep_hours=24)
    path = written(store, "door/20260101-000000/track_00001_after.png")
    monkeypatch.setattr("time.time", lambda: 4e9)
    store.delete_expired()
    store.close()
    assert path.exists()


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    store = ShotStore(tmp_path)
    folders = {store.create("door") for _ in range(5)}
    assert len(folders) == 5


def test_a_gallery_is_recorded_file_by_file_and_can_be_deleted(tmp_path: Path) -> None:
    store = ShotStore(tmp_path, keep_megabytes=0.000001)
    problems: list[str] = []
    shots = CameraShots("door", store, "door", "a neural network", lambda item: None, problems.append)
    for tenth in range(30):
        shots.observe(seen(tenth / 10))
    shots.close()
    assert store.find("door") == store.find(None) != []
    assert problems == [""]
    store.delete_expired()
    store.close()
    assert store.find(None) == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LEDGER]


@pytest.mark.parametrize("broken", ["a file in its place", "a full disk"])
def test_a_gallery_that_cannot_be_written_is_counted_and_the_run_goes_on(
    tmp_path: Path, broken: str, small_disk: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if broken == "a full disk":
        folder = small_disk("size=4k")
        store = ShotStore(folder)
        (folder / "full").write_bytes(b"x" * 4096)
    else:
        (tmp_path / "shots").touch()
        store = ShotStore(tmp_path / "shots")
        assert "shots cannot be written" in caplog.text
    problems: list[str] = []
    frames: list[Enhanced] = []
    shots = CameraShots("door", store, "door", "a neural network", frames.append, problems.append)
    for tenth in range(50):
        shots.observe(seen(tenth / 10))
    shots.close()
    assert len(frames) == 50
    failures = [problem for problem in problems if problem]
    assert failures
    assert all(problem.startswith("best shots cannot be written: ") for problem in failures)
    assert len(failures) < 5, "it is tried again after a while only"
