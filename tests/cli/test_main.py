import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_enhance import __version__
from stream_enhance.cli.options import seconds_of
from stream_enhance.errors import InputError
from tests.conftest import ROOT, Command, Models
from tests.media import luma_of, make_video

pytestmark = pytest.mark.timeout(60)

REPORT = {
    "source",
    "frames_in",
    "frames_out",
    "frames_dropped",
    "packets_corrupt",
    "faces_detected",
    "faces_enhanced",
    "faces_from_cache",
    "tracks",
    "seconds",
    "fps",
    "latency_ms",
    "stages",
    "models",
    "version",
}


def piped(arguments: list[str], given: bytes, models: Models) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stream_enhance", *arguments, *models.options]
    return subprocess.run(
        command, input=given, capture_output=True, check=False, timeout=50, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_run_writes_a_video_and_a_report(command: Command, clip: Path, tmp_path: Path) -> None:
    answer = command("run", clip, "-o", tmp_path / "out.mp4")
    assert answer.code == 0
    assert len(luma_of(tmp_path / "out.mp4")) == 12
    assert set(answer.report) >= REPORT
    assert answer.report["version"] == __version__
    assert set(answer.report["latency_ms"]) == {"p50", "p95", "p99"}
    assert all(set(stage) == {"items", "busy_s", "queue_max"} for stage in answer.report["stages"].values())
    assert all(len(model["sha256"]) == 64 for model in answer.report["models"].values())


def test_a_pipe_goes_in_and_comes_out(models: Models, tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.ts", 12, sound=True)
    done = piped(["run", "-", "-o", "-", "--quiet"], path.read_bytes(), models)
    assert done.returncode == 0
    assert done.stderr == b""
    (tmp_path / "out.ts").write_bytes(done.stdout)
    assert len(luma_of(tmp_path / "out.ts")) == 12


def test_an_empty_pipe_is_bad_input(models: Models, tmp_path: Path) -> None:
    done = piped(["run", "-", "-o", str(tmp_path / "out.mp4")], b"", models)
    assert done.returncode == 2
    assert b"standard input: cannot be opened" in done.stderr


def test_options_override_the_file(command: Command, clip: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("overlay: {mode: panel, scale: 2}\nsink: {crf: 30}\n")
    words = ["run", clip, "--config", settings, "--overlay", "inplace", "--set", "sink.crf=25"]
    assert command(*words, "-o", tmp_path / "two.mp4").code == 0
    assert luma_of(tmp_path / "two.mp4")[0].shape == (240, 320)
    assert command(*words, "--scale", "1", "-o", tmp_path / "one.mp4").code == 0
    assert luma_of(tmp_path / "one.mp4")[0].shape == (120, 160)


def test_the_enhancer_can_be_chosen(command: Command, clip: Path, tmp_path: Path) -> None:
    for kind, faces in (("unet", 12), ("classical", 12), ("none", 0)):
        answer = command("run", clip, "-o", tmp_path / f"{kind}.mp4", "--enhancer", kind)
        assert answer.code == 0
        assert answer.report["faces_enhanced"] == faces


def test_duration_ends_a_run_cleanly(command: Command, tmp_path: Path, long_clip: Path) -> None:
    answer = command("run", long_clip, "-o", tmp_path / "out.mp4", "--duration", "500ms")
    assert answer.code == 0
    assert 0 < answer.report["frames_out"] < 10_000
    assert len(luma_of(tmp_path / "out.mp4")) == answer.report["frames_out"]


def test_the_gallery_is_written(command: Command, clip: Path, tmp_path: Path) -> None:
    assert command("run", clip, "-o", tmp_path / "out.mp4", "--gallery", tmp_path / "faces").code == 0
    assert (tmp_path / "faces" / "index.html").is_file()


def test_quiet_prints_nothing_and_errors_still_come(command: Command, clip: Path, tmp_path: Path) -> None:
    answer = command("run", clip, "-o", tmp_path / "out.mp4", "--quiet")
    assert (answer.out, answer.err) == ("", "")
    answer = command("run", clip, "-o", tmp_path / "out.mp4", "--quiet")
    assert answer.code == 2
    assert "already exists" in answer.err


def test_log_json_gives_a_json_document_a_line(command: Command, clip: Path, tmp_path: Path) -> None:
    answer = command("run", clip, "-o", tmp_path / "out.mp4", "--log-json")
    lines = [json.loads(line) for line in answer.err.splitlines()]
    assert lines
    assert all(set(line) == {"time", "level", "message"} for line in lines)
    answer = command("run", clip, "-o", tmp_path / "out.mp4", "--log-json")
    assert json.loads(answer.err)["level"] == "error"


def test_without_a_terminal_it_is_plain_lines(command: Command, clip: Path, tmp_path: Path) -> None:
    answer = command("run", clip, "-o", tmp_path / "out.mp4")
    assert answer.err.startswith("info: ")
    assert "12 frames at" in answer.err
    assert "\r" not in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "in.mp4"],
        ["run", "in.mp4", "-o", "out.mp4", "--overlay", "sideways"],
        ["run", "in.mp4", "-o", "out.mp4", "--nonsense"],
        ["walk"],
        ["batch", "in"],
        ["probe"],
    ],
)
def test_a_wrong_command_line_is_bad_input(command: Command, words: list[str]) -> None:
    answer = command(*words)
    assert answer.code == 2
    assert answer.err


def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    answer = command("run", clip, "-o", tmp_path / "out.mp4", report=tmp_path / "none" / "report.json")
    assert answer.code == 2
    assert "cannot be written" in answer.err
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["v.part.mp4", "-o", "v.mp4"],
        ["v.part.mp4", "-o", "v.mp4", "--overwrite"],
        ["v.part.mp4", "-o", "v.part.mp4", "--overwrite"],
        ["v.part.mp4", "-o", "v.part.mp4", "-o", "x.mkv", "--overwrite"],
        ["v.part.mp4", "-o", "x.mkv", "-o", "link.mp4", "--overwrite"],
        ["v.part.mp4", "-o", "x.mkv", "--report", "v.part.mp4"],
        ["images", "-o", "images/", "--overwrite"],
        ["images", "-o", "x.mkv", "--report", "images/0.png"],
    ],
    ids=" ".join,
)
def test_the_original_is_never_written_over(
    command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    video, image = tmp_path / "v.part.mp4", tmp_path / "images" / "0.png"
    video.write_bytes(clip.read_bytes())
    (tmp_path / "link.mp4").symlink_to(video)
    image.parent.mkdir()
    cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint8))
    before = video.read_bytes(), image.read_bytes()
    answer = command("run", *words)
    assert answer.code == 2
    assert re.search("is the original, which is never written over|already exists", answer.err)
    assert (video.read_bytes(), image.read_bytes()) == before


def test_a_report_under_the_outputs_name_is_refused_before_the_work(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    answer = command("run", clip, "-o", tmp_path / "x.mp4", "--report", tmp_path / "x.mp4")
    assert answer.code == 2
    assert "is the output too" in answer.err
    assert not list(tmp_path.glob("x*"))


def test_a_run_that_was_cut_off_keeps_what_it_wrote(command: Command, clip: Path, tmp_path: Path) -> None:
    part = tmp_path / "x.part.mp4"
    part.write_bytes(b"mine")
    answer = command("run", clip, "-o", tmp_path / "x.mp4")
    assert (answer.code, part.read_bytes()) == (2, b"mine")
    assert "x.part.mp4: already exists, left by an interrupted run" in answer.err
    assert command("run", clip, "-o", tmp_path / "x.mp4", "--overwrite").code == 0
    assert [p.name for p in tmp_path.glob("x*")] == ["x.mp4"]


def test_a_colon_in_an_outputs_name_is_no_protocol(
    command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("run", clip, "-o", "12:30:05.mp4").code == 0
    assert (tmp_path / "12:30:05.mp4").stat().st_size > 1000


def test_version_and_help(command: Command) -> None:
    assert __version__ in command("--version").out
    answer = command("--help")
    assert answer.code == 0
    assert all(verb in answer.out for verb in ("run", "batch", "probe", "doctor"))
    assert "not evidence" in answer.out


def test_a_password_reaches_no_error(command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = command("run", "gopher://bob:hush@host/live?password=hush", "-o", tmp_path / "out.mp4")
    assert answer.code == 2
    assert "hush" not in answer.out + answer.err + caplog.text


def test_starting_needs_neither_torch_nor_a_network(tmp_path: Path) -> None:
    code = (
        "import stream_enhance.cli.main, sys; "
        "print([m for m in ('torch', 'onnxruntime', 'cv2', 'av') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("300ms", 0.3), ("5m", 300), ("1h", 3600), ("7", 7), ("0.5s", 0.5)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 parsecs", "-3s", "0", "1d", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        seconds_of(text)
