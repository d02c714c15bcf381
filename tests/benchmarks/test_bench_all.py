"""The report of all benchmarks has every part, whatever fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from benchmarks import bench_all, bench_baselines, bench_cameras, bench_session, roofline


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_writes_both_reports_and_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_session, "this_cpu", lambda: roofline.CARDS["rtx3050"])
    assert bench_all.main(["--quick", "--out", str(tmp_path), "--only", "session,cards"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["parts"]) == {"session", "cards"}
    rows = report["parts"]["session"]["U-Net"]["rows"]
    assert {row["provider"] for row in rows} >= {"cpu", "bare session.run", "torch"}
    assert all(row["ms"] > 0 for row in rows)
    text = (tmp_path / "report.md").read_text()
    assert "commit" in text
    assert "*predicted*" in text
    assert (tmp_path / "session.png").stat().st_size > 5000


def test_a_part_that_fails_is_a_line_and_the_next_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("no such clip")

    monkeypatch.setattr(bench_baselines, "measure", broken)
    assert bench_all.main(["--out", str(tmp_path), "--only", "baselines,cards"]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["failed"] == {"baselines": "RuntimeError: no such clip"}
    assert list(report["parts"]) == ["cards"]


def test_the_baselines_table_says_how_many_times_as_fast() -> None:
    found = {"fps": {"original": 2.0, "ultralytics script": 10.0, "line": 30.0}, "times": {"original": 15.0}}
    assert "| original | 2.0 | 15.0 | 8.0 |" in bench_baselines.table(found)


def test_an_unknown_part_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_all.main(["--out", str(tmp_path), "--only", "warp"])
    assert "warp: no such part" in capsys.readouterr().err


def test_the_cameras_table_says_how_many_are_kept_up_with() -> None:
    row = {"age_ms": {"p50": 40.0, "p95": 60.0, "p99": 80.0}, "dropped": 1, "frames": 374, "fps": 24.9}
    found = {"size": "640x360", "rate": 25, "limit_ms": 300, "cameras": 1, "table": {1: row}}
    lines = bench_cameras.table(found)
    assert "| 1 | 40.0 | 60.0 | 80.0 | 1 of 375 | 24.9 |" in lines
    assert lines[-1].endswith(": 1 cameras of 640x360 at 25 frames/s.")


@pytest.mark.slow
def test_quick_shows_the_age_of_one_camera(tmp_path: Path) -> None:
    assert bench_all.main(["--quick", "--out", str(tmp_path), "--only", "cameras"]) == 0
    (row,) = json.loads((tmp_path / "report.json").read_text())["parts"]["cameras"]["table"].values()
    assert set(row["age_ms"]) == {"p50", "p95", "p99"}, "None where the machine is too busy for one frame in time"
