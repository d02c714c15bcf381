"""Writing and deleting: nothing that is being read, and nothing of anyone else's, is harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_enhance.errors import SinkError
from stream_enhance.safe_files import Originals, create, publish, write_whole
from stream_enhance.sinks.ledger import LEDGER, Ledger
from stream_enhance.sinks.segments import SegmentOptions, retain
from tests.conftest import ROOT, Command, Models
from tests.media import make_video

pytestmark = pytest.mark.timeout(90)
NONE = Originals()


def test_a_file_is_created_only_where_there_is_none(tmp_path: Path) -> None:
    target, link = tmp_path / "elsewhere", tmp_path / "a.part.mp4"
    link.symlink_to(target)  # dangling, and planted
    with pytest.raises(FileExistsError):
        create(link, NONE)
    assert not target.exists()
    target.write_bytes(b"mine")
    create(link, NONE, replace=True).close()
    assert target.read_bytes() == b"mine", "the link is replaced, not what it leads to"


def test_a_file_that_another_run_writes_is_not_taken_from_it(tmp_path: Path) -> None:
    file = create(tmp_path / "a.part.mp4", NONE)
    with pytest.raises(SinkError, match="another run is writing it"):
        create(tmp_path / "a.part.mp4", NONE, replace=True)
    file.close()
    create(tmp_path / "a.part.mp4", NONE, replace=True).close()


def test_a_name_that_was_taken_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    part, final = tmp_path / "a.part.mp4", tmp_path / "a.mp4"
    part.write_bytes(b"new")
    final.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        publish(part, final, NONE)
    assert (part.read_bytes(), final.read_bytes()) == (b"new", b"mine")
    publish(part, final, NONE, replace=True)
    assert final.read_bytes() == b"new"


def test_an_original_is_known_by_any_of_its_names(tmp_path: Path) -> None:
    path, hard, soft = tmp_path / "a.mp4", tmp_path / "hard.mp4", tmp_path / "soft.mp4"
    path.write_bytes(b"footage")
    os.link(path, hard)
    soft.symlink_to(path)
    originals = Originals.of(path)
    for name in (path, hard, soft):
        with pytest.raises(SinkError, match="is the original"):
            write_whole(name, b"report", originals, replace=True)
        with pytest.raises(SinkError, match="is the original"):
            create(name, originals, replace=True)
    assert path.read_bytes() == b"footage"
    folder = Originals.of(tmp_path)
    assert path in folder
    assert tmp_path in folder


def recorded(folder: Path, ledger: Ledger, name: str, size: int = 1_000_000) -> None:
    file = create(folder / name, NONE)
    ledger.begun(name, file.inode)
    file.write(bytes(size))
    file.close()
    ledger.finished(name, file.inode, size)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != LEDGER}


def test_retention_deletes_the_oldest_of_its_own_and_never_the_newest(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path, "%F.mp4"), Ledger(tmp_path, "yard-%F.mp4")
    (tmp_path / "2019-01-01.mp4").write_bytes(bytes(3_000_000))  # somebody else's, named alike
    os.utime(tmp_path / "2019-01-01.mp4", (0, 0))
    for day in (1, 2, 3):
        recorded(tmp_path, ledger, f"2026-01-0{day}.mp4")
    recorded(tmp_path, other, "yard-2026-01-01.mp4")
    foreign = {"2019-01-01.mp4", "yard-2026-01-01.mp4"}
    retain(ledger, SegmentOptions(keep_megabytes=2.5), NONE)
    assert names_in(tmp_path) == foreign | {"2026-01-02.mp4", "2026-01-03.mp4"}
    retain(Ledger(tmp_path, "%F.mp4"), SegmentOptions(keep_megabytes=0.1), NONE)
    assert names_in(tmp_path) == foreign | {"2026-01-03.mp4"}


def test_what_was_changed_or_replaced_since_is_somebodys_and_an_original_stays(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "%s.mp4")
    for number in range(4):
        recorded(tmp_path, ledger, f"{number}.mp4")
    (tmp_path / "0.mp4").write_bytes(b"cut by hand")
    originals = Originals.of(tmp_path / "1.mp4")
    retain(ledger, SegmentOptions(keep_megabytes=0.1), originals)
    assert names_in(tmp_path) == {"0.mp4", "1.mp4", "3.mp4"}


def test_of_a_killed_run_only_what_says_that_it_was_made_here_is_deleted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "%s.mp4")
    for name, data in {"0.mp4": b"made by stream-enhance", "1.mp4": b"somebody's, of the same inode"}.items():
        (tmp_path / name).write_bytes(data + bytes(1_000_000))
        ledger.begun(name, (tmp_path / name).stat().st_ino)  # and killed
    recorded(tmp_path, ledger, "2.mp4")
    retain(ledger, SegmentOptions(keep_megabytes=0.1), NONE)
    assert names_in(tmp_path) == {"1.mp4", "2.mp4"}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_a_recording_says_at_its_head_that_it_was_made_here(command: Command, tmp_path: Path, suffix: str) -> None:
    make_video(tmp_path / "in.mp4")
    result = command("run", tmp_path / "in.mp4", "-o", tmp_path / f"%S.{suffix}", "--segment", "5s")
    assert result.code == 0, result.err
    [entry] = Ledger(tmp_path, f"%S.{suffix}").entries()
    assert b"stream-enhance" in (tmp_path / entry.name).read_bytes()[: 64 * 1024]


def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, limits = Ledger(tmp_path, "%s.mp4"), SegmentOptions(keep_hours=24)
    for number in range(3):
        recorded(tmp_path, ledger, f"{number}.mp4")
        os.utime(tmp_path / f"{number}.mp4", (0, 0))
    monkeypatch.setattr("time.time", lambda: 4e9)
    retain(ledger, limits, NONE)
    assert len(names_in(tmp_path)) == 3
    lines = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines() if line]
    for line in lines[:2]:  # begun more than a day of the recorder's own time ago
        line["at"] -= 25 * 3600
    (tmp_path / LEDGER).write_text("\n".join(map(json.dumps, lines)))
    retain(Ledger(tmp_path, "%s.mp4"), limits, NONE)
    assert names_in(tmp_path) == {"1.mp4", "2.mp4"}


def test_a_damaged_or_planted_ledger_deletes_nothing_elsewhere(tmp_path: Path) -> None:
    folder, victim = tmp_path / "rec", tmp_path / "victim.mp4"
    folder.mkdir()
    victim.write_bytes(bytes(10))
    inode = victim.stat().st_ino
    planted = {"file": "../victim.mp4", "output": "%s.mp4", "inode": inode, "at": 0, "size": 10}
    (folder / LEDGER).write_text(f"{json.dumps(planted)}\n[1, 2\nnull\n" + '{"at": "x"}\n')
    ledger = Ledger(folder, "%s.mp4")
    recorded(folder, ledger, "1.mp4")
    retain(ledger, SegmentOptions(keep_megabytes=0.1), NONE)
    assert victim.exists()
    assert names_in(folder) == {"1.mp4"}


def test_a_ledger_is_written_anew_when_it_is_long(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "%s.mp4")
    for number in range(400):
        recorded(tmp_path, ledger, f"{number}.mp4", 1)
    retain(ledger, SegmentOptions(keep_megabytes=10e-6), NONE)
    before = (tmp_path / LEDGER).stat().st_size
    again = Ledger(tmp_path, "%s.mp4")
    assert (tmp_path / LEDGER).stat().st_size < before / 10
    assert [entry.name for entry in again.entries()] == [f"{number}.mp4" for number in range(390, 400)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images, one named like a gallery's."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("000000.png", "1.png", "track_00001_before.png"):
        cv2.imwrite(str(folder / name), np.full((64, 64, 3), 90, np.uint8))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["images", "-o", "images/", "--overwrite"],
        ["images/000000.png", "-o", "images/", "--overwrite"],
        ["images/000000.png", "-o", "images/000000.png", "--overwrite"],
        ["images", "-o", "x.mp4", "--gallery", "images", "--overwrite"],
        ["images", "-o", "x.mp4", "--report", "images/000000.png", "--overwrite"],
        ["images", "-o", "x.mp4", "--report", "notes.txt"],
        ["live-00000.ts", "-o", "live.m3u8"],
        ["live-00000.ts", "-o", "link.mkv", "--overwrite"],
    ],
    ids=" ".join,
)
def test_no_output_destroys_what_is_there(
    command: Command, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "live-00000.ts", 60)  # named like a segment of live.m3u8
    os.link(tmp_path / "live-00000.ts", tmp_path / "link.mkv")
    (tmp_path / "notes.txt").write_text("mine")
    files = [*images.iterdir(), tmp_path / "live-00000.ts", tmp_path / "notes.txt"]
    before = [path.read_bytes() for path in files]
    result = command("run", *words)
    assert result.code == (0 if words[2] == "live.m3u8" else 2), result.err
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_standard_input_is_not_written_over(models: Models, tmp_path: Path, overwrite: list[str]) -> None:
    path = make_video(tmp_path / "same.ts", 12)
    before = path.read_bytes()
    words = [sys.executable, "-m", "stream_enhance", "run", "-", "-o", str(path), *overwrite, *models.options]
    with path.open("rb") as file:
        done = subprocess.run(
            words,
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=80,
        )
    assert done.returncode == 2, done.stderr
    assert path.read_bytes() == before


def test_another_videos_gallery_is_replaced_whole_or_not_at_all(command: Command, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    assert command("run", clip, "-o", tmp_path / "a.mp4", "--gallery", folder).code == 0
    (folder / "track_00099_before.png").write_bytes(b"of another video")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = command("run", clip, "-o", tmp_path / "b.mp4", "--gallery", folder)
    assert result.code == 2
    assert "holds a gallery already; name another folder, or use --overwrite" in result.error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert command("run", clip, "-o", tmp_path / "b.mp4", "--gallery", folder, "--overwrite").code == 0
    assert "track_00099_before.png" not in {path.name for path in folder.iterdir()}
