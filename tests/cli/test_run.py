"""The report of ``stream-enhance run``: never over another file, and written when the run fails."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_enhance.cli.logs import configure_logging
from tests.conftest import ROOT, Command

pytestmark = pytest.mark.timeout(60)


def test_a_report_that_exists_is_refused_unless_it_may_be_replaced(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    report = tmp_path / "notes.json"
    report.write_text("mine")
    refused = command("run", clip, "-o", tmp_path / "out.mp4", "--report", report)
    assert refused.code == 2
    assert "notes.json: exists already; use --overwrite" in refused.error
    assert report.read_text() == "mine"
    assert not (tmp_path / "out.mp4").exists()
    assert command("run", clip, "-o", tmp_path / "out.mp4", "--report", report, "--overwrite").code == 0
    assert json.loads(report.read_text())["frames_out"] == 12
    assert sorted(p.name for p in tmp_path.glob("*notes*")) == ["notes.json"]


def test_a_report_does_not_follow_a_link(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").symlink_to(tmp_path / "elsewhere.json")
    refused = command("run", clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "report.json")
    assert refused.code == 2
    assert not (tmp_path / "elsewhere.json").exists()


@pytest.mark.parametrize(
    ("source", "output", "reason"),
    [
        ("nowhere.mp4", "out.mp4", "no such file"),
        ("empty.mp4", "out.mp4", "cannot be opened"),
        ("{clip}", "none/out.mp4", "none"),
        ("{clip}", "out.xyz", "unknown kind of output"),
    ],
)
def test_a_failed_run_leaves_a_report_with_the_reason(
    command: Command, clip: Path, tmp_path: Path, source: str, output: str, reason: str
) -> None:
    (tmp_path / "empty.mp4").touch()
    name = source.format(clip=clip)
    failed = command("run", tmp_path / name, "-o", tmp_path / output)
    assert failed.code == 2
    assert reason in failed.report["error"]
    assert failed.report["error"] in failed.err
    assert failed.report["frames_in"] == failed.report["frames_out"] + failed.report["frames_dropped"]


def test_a_run_that_fails_midway_reports_what_it_did(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000003.png").touch()
    failed = command("run", clip, "-o", f"{tmp_path / 'out'}/")
    assert failed.code == 2
    assert "000003.png" in failed.report["error"]
    assert failed.report["frames_out"] == 3
    assert failed.report["models"]


def test_a_run_that_worked_has_no_error_in_its_report(command: Command, clip: Path, tmp_path: Path) -> None:
    assert "error" not in command("run", clip, "-o", tmp_path / "out.mp4").report


def test_a_report_goes_to_a_device(clip: Path, tmp_path: Path, command: Command) -> None:
    if not Path("/dev/null").exists():
        pytest.skip("no /dev/null here")
    assert command("run", clip, "-o", tmp_path / "out.mp4", "--report", "/dev/null").code == 0


def test_help_comes_where_a_library_is_missing(tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('no FFmpeg here')\n")
    for words, code in ((["--help"], 0), (["run", "--help"], 0), (["doctor"], 1)):
        done = subprocess.run(
            [sys.executable, "-m", "stream_enhance", *words],
            capture_output=True, text=True, check=False, cwd=tmp_path, timeout=50,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_name_forges_no_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging([])
    logging.getLogger("stream_enhance.test").error("%s: no such file", "a\nerror: all is lost\x1b[2J.mp4")
    assert capsys.readouterr().err == "error: a\\nerror: all is lost\\x1b[2J.mp4: no such file\n"
