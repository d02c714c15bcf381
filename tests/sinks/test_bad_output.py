"""What goes wrong with what is written: each through the real command line, with real files."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import av
import pytest

from tests.conftest import Command
from tests.media import luma_of, make_video

pytestmark = pytest.mark.timeout(90)


def test_never_overwrites_unless_asked(command: Command, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    result = command("run", clip, "-o", out)
    assert result.code == 2
    assert "already exists; use --overwrite" in result.error
    assert out.read_bytes() == b"mine"
    assert command("run", clip, "-o", out, "--overwrite").code == 0
    assert len(luma_of(out)) == 12


def test_the_source_itself_is_never_half_overwritten(command: Command, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "same.mp4"
    path.write_bytes(clip.read_bytes())
    assert command("run", path, "-o", path).code == 2
    assert path.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_full_disk(command: Command, tmp_path: Path, small_disk: Callable[[str], Path], suffix: str) -> None:
    disk = small_disk("size=64k")
    path = make_video(tmp_path / "in.mp4", 100)
    result = command("run", path, "-o", disk / f"out.{suffix}", "--set", "sink.crf=12")
    assert result.code == 1
    said = re.search(r"incomplete, (\d+) of \d+ frames \(No space left on device\).*free some space", result.error)
    assert said
    assert decodable(disk / f"out.part.{suffix}") == int(said[1]), "just what the message says"
    assert not (disk / f"out.{suffix}").exists(), "only a whole file gets the name"


def decodable(path: Path) -> int:
    """How many frames of a file that was cut off can be decoded; its edit list names an end that never came."""
    with av.open(str(path), options={"advanced_editlist": "0"}) as container:
        return sum(len(packet.decode()) for packet in container.demux(video=0) if not packet.is_corrupt)


def test_a_folder_that_cannot_be_written(command: Command, clip: Path, small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("size=64k,ro")  # holds for root too, as permission bits do not
    result = command("run", clip, "-o", disk / "out.mp4")
    assert result.code == 2
    assert "no permission to write there" in result.error
    for out in (f"{disk}/faces/", disk / "deep" / "out.mp4"):
        result = command("run", clip, "-o", out)
        assert result.code == 2
        assert str(disk) in result.error
    result = command("batch", clip.parent, "-o", disk / "out")
    assert result.code == 2
    assert "cannot be" in result.error


def test_a_file_where_a_folder_should_be(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for words in (
        ["run", clip, "-o", tmp_path / "file" / "out.mp4"],
        ["run", clip, "-o", f"{tmp_path}/file/"],
        ["batch", clip.parent, "-o", tmp_path / "file"],
    ):
        result = command(*words)
        assert result.code == 2, words
        assert "file" in result.error


def grown(path: Path, process: Popen[str], size: int = 30_000) -> None:
    """Wait until ``path`` holds ``size`` bytes."""
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_finishes_the_file(
    started: Callable[..., Popen[str]], long_clip: Path, tmp_path: Path, number: int, code: int
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    process = started("run", long_clip, "-o", out, "--report", report)
    grown(tmp_path / "out.part.mp4", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    frames = len(luma_of(out))
    assert 0 < frames < 10_000
    done = json.loads(report.read_text())
    assert done["frames_in"] == done["frames_out"] == frames
    assert not (tmp_path / "out.part.mp4").exists()


def test_a_second_signal_tears_down_and_leaves_what_there_is(
    started: Callable[..., Popen[str]], long_clip: Path, tmp_path: Path
) -> None:
    process = started("run", long_clip, "-o", tmp_path / "out.mp4")
    part = tmp_path / "out.part.mp4"
    grown(part, process)
    process.send_signal(signal.SIGSTOP)  # so that both come before either is acted on
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, 143), said
    assert "Traceback" not in said
    assert not (tmp_path / "out.mp4").exists()
    assert len(luma_of(part)) > 0


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_what_a_killed_run_wrote_can_be_played(
    started: Callable[..., Popen[str]], long_clip: Path, tmp_path: Path, suffix: str
) -> None:
    process = started("run", long_clip, "-o", tmp_path / f"out.{suffix}")
    part = tmp_path / f"out.part.{suffix}"
    grown(part, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert not (tmp_path / f"out.{suffix}").exists()
    assert len(luma_of(part)) >= 10


@pytest.mark.parametrize("more", [[], ["-o", "also.mkv"]])
def test_a_push_whose_password_is_not_in_the_environment_is_one_clear_line(
    command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("run", clip, "-o", "rtsp://wart:{NOT_SET_ANYWHERE}@127.0.0.1/push", *more)
    assert result.code == 2
    assert "NOT_SET_ANYWHERE is not set" in result.error
    assert "wart" not in result.err


def test_a_playlists_temporary_name_that_is_taken_is_refused(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "live.part.m3u8").write_text("mine")
    result = command("run", clip, "-o", tmp_path / "live.m3u8")
    assert result.code == 2
    assert "live.part.m3u8: already exists" in result.error
    assert (tmp_path / "live.part.m3u8").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["mp4", "png", "m3u8"])
def test_a_name_that_no_file_system_holds_is_refused_first(
    command: Command, clip: Path, tmp_path: Path, suffix: str
) -> None:
    result = command("run", clip, "-o", tmp_path / f"{'n' * 260}.{suffix}", "--report", tmp_path / "r.json")
    assert result.code == 2
    assert "above 255; choose a shorter one" in result.error
    result = command("run", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / ("r" * 260))
    assert result.code == 2
    assert not (tmp_path / "out.mp4").exists(), "refused before the work"


def test_the_longest_name_has_a_temporary_one_too(command: Command, clip: Path, tmp_path: Path) -> None:
    name, report = "é" * 125 + "a.mp4", "r" * 255
    assert command("run", clip, "-o", tmp_path / name, "--report", tmp_path / report).code == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p != clip) == sorted([name, report])


def test_a_video_into_one_image_leaves_no_image(command: Command, clip: Path, tmp_path: Path) -> None:
    result = command("run", clip, "-o", tmp_path / "one.png")
    assert result.code == 1
    assert "holds one image, and there are more" in result.error
    assert not (tmp_path / "one.png").exists()


def test_images_whose_names_differ_in_the_suffix_alone_are_all_kept(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_video(folder / "a.png", 1, codec="png", pixel_format="rgb24", form="image2")
    (folder / "a.heic").write_bytes((folder / "a.png").read_bytes())  # whatever its name says
    assert command("run", folder, "-o", f"{tmp_path / 'out'}/", "--overwrite").code == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
