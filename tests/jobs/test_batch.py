import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import av
import pytest

from stream_enhance import Pipeline
from stream_enhance.errors import SourceError
from stream_enhance.jobs.batch import MANIFEST, Item, enhance_folder, output_name, settings_sha256, table, videos_in
from tests.conftest import Command, Models
from tests.media import luma_of, make_enhancer, make_video

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Two videos, one deeper, and a file that is none."""
    folder = tmp_path / "footage"
    (folder / "gate").mkdir(parents=True)
    make_video(folder / "yard.mp4", 6)
    make_video(folder / "gate" / "night.avi", 8, codec="mpeg4")
    (folder / "notes.txt").write_text("not a video")
    return folder


def times_of(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.suffix in (".mp4", ".mkv")}


def states(out: str) -> dict[str, str]:
    """What the summary table says of each file."""
    rows = [line.split() for line in out.splitlines()[2:-1]]
    return {row[0]: row[1] for row in rows}


def test_every_video_below_a_folder_keeps_its_place(command: Command, footage: Path, tmp_path: Path) -> None:
    result = command("batch", footage, "-o", tmp_path / "out")
    assert result.code == 0
    assert len(luma_of(tmp_path / "out" / "yard.mp4")) == 6
    assert len(luma_of(tmp_path / "out" / "gate" / "night.avi.mp4")) == 8
    assert states(result.out) == {"gate/night.avi": "done", "yard.mp4": "done"}
    assert result.out.splitlines()[-1] == "2 done"


def test_a_second_run_does_only_what_is_not_done(command: Command, footage: Path, tmp_path: Path) -> None:
    assert command("batch", footage, "-o", tmp_path / "out").code == 0
    before = times_of(tmp_path / "out")
    make_video(footage / "new.mp4", 3)
    result = command("batch", footage, "-o", tmp_path / "out")
    assert result.code == 0
    assert states(result.out) == {"gate/night.avi": "kept", "new.mp4": "done", "yard.mp4": "kept"}
    after = times_of(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_what_counts_is_the_content_not_the_date(command: Command, footage: Path, tmp_path: Path) -> None:
    assert command("batch", footage, "-o", tmp_path / "out").code == 0
    os.utime(footage / "yard.mp4")
    assert set(states(command("batch", footage, "-o", tmp_path / "out").out).values()) == {"kept"}
    stamp = (footage / "yard.mp4").stat()
    data = bytearray((footage / "yard.mp4").read_bytes())
    data[-1] ^= 1
    (footage / "yard.mp4").write_bytes(data)
    os.utime(footage / "yard.mp4", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert states(command("batch", footage, "-o", tmp_path / "out").out)["yard.mp4"] == "done"


def test_other_settings_or_models_do_it_again(command: Command, footage: Path, tmp_path: Path) -> None:
    assert command("batch", footage, "-o", tmp_path / "out").code == 0
    result = command("batch", footage, "-o", tmp_path / "out", "--set", "sink.crf=30")
    assert set(states(result.out).values()) == {"done"}
    result = command("batch", footage, "-o", tmp_path / "out", "--set", "sink.crf=30", "--set", "sink.threads=1")
    assert set(states(result.out).values()) == {"kept"}, "threads do not change the result"
    other = make_enhancer(tmp_path / "other.onnx", name="another")
    result = command("batch", footage, "-o", tmp_path / "out", "--set", "sink.crf=30", enhancer=other)
    assert set(states(result.out).values()) == {"done"}


def test_where_a_model_lies_does_not_matter_but_what_it_is(models: Models, tmp_path: Path) -> None:
    moved = tmp_path / "moved.onnx"
    shutil.copy(models.enhancer, moved)
    with Pipeline(models.config()) as a, Pipeline(Models(models.detector, moved).config()) as b:
        assert settings_sha256(a) == settings_sha256(b)
    with Pipeline(models.config()) as a, Pipeline(models.config(detector={"every": 3})) as b:
        assert settings_sha256(a) != settings_sha256(b)


@pytest.mark.parametrize("what", ["cut short", "gone", "begun"])
def test_a_half_written_one_is_done_again(command: Command, footage: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    assert command("batch", footage, "-o", out).code == 0
    match what:
        case "cut short":
            (out / "yard.mp4").write_bytes((out / "yard.mp4").read_bytes()[:1000])
        case "gone":
            (out / "yard.mp4").unlink()
        case "begun":  # a crash after the file was named and before the manifest said so
            manifest = json.loads((out / MANIFEST).read_text())
            del manifest["files"]["yard.mp4"]["bytes"]
            (out / MANIFEST).write_text(json.dumps(manifest))
            (out / "yard.part.mp4").write_bytes(b"half")
    result = command("batch", footage, "-o", out)
    assert result.code == 0
    assert states(result.out) == {"gate/night.avi": "kept", "yard.mp4": "done"}
    assert len(luma_of(out / "yard.mp4")) == 6
    assert not (out / "yard.part.mp4").exists()


def test_one_bad_file_does_not_stop_the_rest(command: Command, footage: Path, tmp_path: Path) -> None:
    (footage / "a-bad.mp4").write_bytes(b"not a video")
    result = command("batch", footage, "-o", tmp_path / "out")
    assert result.code == 1
    assert states(result.out) == {"a-bad.mp4": "failed", "gate/night.avi": "done", "yard.mp4": "done"}
    assert "a-bad.mp4: cannot be opened" in result.err
    assert result.out.splitlines()[-1] == "2 done, 1 failed"
    make_video(footage / "a-bad.mp4", 3)
    assert command("batch", footage, "-o", tmp_path / "out").code == 0


def test_a_file_it_did_not_write_is_not_replaced_unless_asked(command: Command, footage: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "yard.mp4").write_bytes(b"mine")
    result = command("batch", footage, "-o", tmp_path / "out")
    assert result.code == 1
    assert "is there already" in result.err
    assert (tmp_path / "out" / "yard.mp4").read_bytes() == b"mine"
    assert command("batch", footage, "-o", tmp_path / "out").code == 1, "failing once does not make it ours"
    assert (tmp_path / "out" / "yard.mp4").read_bytes() == b"mine"
    assert command("batch", footage, "-o", tmp_path / "out", "--overwrite").code == 0
    assert len(luma_of(tmp_path / "out" / "yard.mp4")) == 6


def test_results_inside_the_folder_are_not_taken_for_footage(command: Command, footage: Path) -> None:
    for _ in range(2):
        assert command("batch", footage, "-o", footage / "enhanced").code == 0
    assert len(times_of(footage / "enhanced")) == 2


def test_the_folder_of_the_originals_is_refused(command: Command, footage: Path) -> None:
    result = command("batch", footage, "-o", footage)
    assert result.code == 2
    assert "holds the originals" in result.err


def test_results_may_go_above_the_footage_but_never_over_it(command: Command, clip: Path, tmp_path: Path) -> None:
    footage = tmp_path / "day" / "day"
    (footage / "day").mkdir(parents=True)
    for path in (footage / "a.mp4", footage / "day" / "a.mp4"):
        path.write_bytes(clip.read_bytes())
    result = command("batch", footage, "-o", tmp_path / "day", "--overwrite")
    assert result.code == 1
    assert "is an original, which is never written over" in result.err
    assert (footage / "a.mp4").read_bytes() == clip.read_bytes()
    assert (tmp_path / "day" / "a.mp4").is_file()


def test_a_per_cent_sign_in_a_name_is_no_time(command: Command, clip: Path, tmp_path: Path) -> None:
    footage = tmp_path / "in"
    footage.mkdir()
    names = ["a 100%.mp4", "b%20two.mp4", "c.mp4", "d%.mp4"]
    for name in names:
        (footage / name).write_bytes(clip.read_bytes())
    result = command("batch", footage, "-o", tmp_path / "out 50%S")
    assert result.code == 0
    assert sorted(p.name for p in (tmp_path / "out 50%S").glob("*.mp4")) == names
    with av.open(str(tmp_path / "out 50%S" / names[0])) as container:
        assert len(container.streams.audio) == 1
        assert container.metadata["comment"].startswith("ENHANCED by")


def test_two_videos_that_would_become_one_are_reported(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_video(folder / "a.avi", 2, codec="mpeg4")
    make_video(folder / "a.avi.mp4", 3)
    result = command("batch", folder, "-o", tmp_path / "out")
    assert result.code == 1
    assert "rename one of them" in result.err
    assert states(result.out) == {"a.avi": "done", "a.avi.mp4": "failed"}


@pytest.mark.parametrize("text", ["[1, 2", '{"files": []}', '{"files": {"a.mp4": 3}}'])
def test_a_manifest_that_is_none_is_reported(command: Command, footage: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_text(text)
    result = command("batch", footage, "-o", tmp_path / "out")
    assert result.code == 2
    assert "is not a manifest of this program; move it away" in result.err


def test_quiet_says_nothing_and_json_lines_are_json(command: Command, footage: Path, tmp_path: Path) -> None:
    result = command("batch", footage, "-o", tmp_path / "out", "--quiet")
    assert (result.out, result.err) == ("", "")
    result = command("batch", footage, "-o", tmp_path / "other", "--log-json")
    lines = [json.loads(line) for line in result.err.splitlines()]
    assert sum("frames at" in line["message"] for line in lines) == 2


def test_hidden_files_are_left_out(footage: Path) -> None:
    (footage / ".trash").mkdir()
    shutil.copy(footage / "yard.mp4", footage / ".trash" / "old.mp4")
    shutil.copy(footage / "yard.mp4", footage / ".yard.mp4")
    assert [str(p.relative_to(footage)) for p in videos_in(footage)[0]] == ["gate/night.avi", "yard.mp4"]
    with pytest.raises(SourceError, match="no such folder"):
        videos_in(footage / "nowhere")


def test_unknown_suffixes_are_looked_into_and_what_is_passed_over_is_listed(
    command: Command, footage: Path, tmp_path: Path
) -> None:
    names = {"a.dav": "mpegts", "b.m2t": "mpegts", "c.tp": "mpegts", "d.ivf": "ivf", "e.3g2": "3g2", "f": "matroska"}
    for name, form in names.items():
        make_video(footage / name, 3, codec="libvpx" if form == "ivf" else "libx264", form=form)
    make_video(footage / "g.mp4", 2).rename(footage / "photo.jpg")  # an image by its suffix
    (footage / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nyard.mp4\n")
    (footage / "concat").write_text("ffconcat version 1.0\nfile yard.mp4\n")
    (footage / "README.txt").write_text("\x1b[31mnot a video\n" * 100)
    result = command("batch", footage, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    assert set(states(result.out)) == {*names, "yard.mp4", "gate/night.avi"}
    (line,) = [line for line in result.err.splitlines() if "files that hold no video are passed over" in line]
    assert all(word in line for word in ("2 .txt", "1 .m3u8", "1 .jpg", "1 without a suffix"))


def test_a_second_batch_on_one_folder_is_refused(
    started: Callable[..., Popen[str]], command: Command, long_footage: Path, tmp_path: Path
) -> None:
    process = started("batch", long_footage, "-o", tmp_path / "out")
    begun(tmp_path / "out" / "a.part.mp4", process)
    result = command("batch", long_footage, "-o", tmp_path / "out", "--overwrite")
    assert result.code == 2
    assert "another batch is writing there; wait until it has ended" in result.error
    result = command("run", long_footage / "b.mp4", "-o", tmp_path / "out" / "a.mp4", "--overwrite")
    assert result.code in (1, 2)
    assert "another run is writing it" in result.err
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert not (tmp_path / "out" / "a.mp4").exists()


def test_a_full_disk_leaves_no_file_that_looks_finished(
    command: Command, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mp4", 100)
    disk = small_disk("size=64k")
    result = command("batch", tmp_path / "in", "-o", disk, "--set", "sink.crf=12")
    assert result.code == 1
    assert states(result.out) == {"a.mp4": "failed"}
    assert not (disk / "a.mp4").exists()


def test_a_kind_of_file_that_cannot_be_written_becomes_mp4() -> None:
    assert output_name(Path("a/b.mp4")) == Path("a/b.mp4")
    assert output_name(Path("a/b.MOV")) == Path("a/b.MOV")
    assert output_name(Path("a/b.avi")) == Path("a/b.avi.mp4")


def test_it_can_be_stopped_between_files(models: Models, footage: Path, tmp_path: Path) -> None:
    done: list[Item] = []
    with Pipeline(models.config()) as pipeline:
        for item in enhance_folder(pipeline, footage, tmp_path / "out", stopping=lambda: len(done) == 1):
            done.append(item)
    assert [item.state for item in done] == ["done"]
    assert "night.avi  done" in table(done)


@pytest.fixture
def long_footage(long_clip: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "long"
    folder.mkdir()
    shutil.copy(long_clip, folder / "a.mp4")
    make_video(folder / "b.mp4", 3)
    return folder


def begun(part: Path, process: Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 20_000:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_finishes_the_current_file(started: Callable[..., Popen[str]], tmp_path: Path, footage: Path) -> None:
    shutil.copy(footage / "yard.mp4", footage / "z.mp4")
    make_video(footage / "a.mp4", 250, (320, 240))
    process = started("batch", footage, "-o", tmp_path / "out")
    begun(tmp_path / "out" / "a.part.mp4", process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=80)
    assert process.returncode == 130
    assert states(said) == {"a.mp4": "done"}
    assert len(luma_of(tmp_path / "out" / "a.mp4")) == 250, "all of it"


@pytest.mark.parametrize("how", ["twice", "TERM", "KILL"])
def test_what_was_torn_down_is_done_by_the_next(
    started: Callable[..., Popen[str]], command: Command, long_footage: Path, tmp_path: Path, how: str
) -> None:
    out = tmp_path / "out"
    process = started("batch", long_footage, "-o", out)
    begun(out / "a.part.mp4", process)
    if how == "twice":
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    else:
        process.send_signal(getattr(signal, f"SIG{how}"))
    process.communicate(timeout=60)
    assert process.returncode == {"twice": 130, "TERM": 143, "KILL": -9}[how]
    assert not (out / "a.mp4").exists()
    make_video(long_footage / "a.mp4", 4)  # so that the next is quick
    assert command("batch", long_footage, "-o", out).code == 0
    assert (len(luma_of(out / "a.mp4")), len(luma_of(out / "b.mp4"))) == (4, 3)
    assert not list(out.glob("*.part.*"))
