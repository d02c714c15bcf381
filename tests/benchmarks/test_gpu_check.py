"""The report of the GPU check has a row for each step, whatever fails, and runs on a CPU."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks import gpu_check


@pytest.mark.slow
@pytest.mark.timeout(300)  # under a minute on two idle cores
def test_quick_runs_every_step_and_writes_both_reports(tmp_path: Path) -> None:
    assert gpu_check.main(["--quick", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["quick"] is True
    assert [row["step"] for row in report["rows"]] == list(gpu_check.STEPS)
    states = {row["step"]: row["state"] for row in report["rows"]}
    assert set(states.values()) <= {"ran", "not run"}
    assert {name for name, state in states.items() if state == "not run"} <= {"gpu tests"}
    found = {row["step"]: row["figures"] for row in report["rows"]}
    assert found["unet parity"]["good"]
    assert found["detector parity"]["good"]
    assert found["line"]["frames"] == 8
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert len(lines) == 2 + len(gpu_check.STEPS)
    assert all(line.count("|") == 5 for line in lines)


def test_a_step_that_fails_is_a_row_and_the_next_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(quick: bool) -> dict[str, object]:
        raise RuntimeError("no such card | at all")

    def impossible(quick: bool) -> dict[str, object]:
        raise gpu_check.NotRun("no hammer")

    def good(quick: bool) -> dict[str, object]:
        return {"ms": 1}

    monkeypatch.setattr(gpu_check, "STEPS", {"a": broken, "b": impossible, "c": good})
    assert gpu_check.main(["--out", str(tmp_path), "--only", "a,b,c"]) == 1
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [row["state"] for row in rows] == ["failed", "not run", "ran"]
    assert rows[0]["why"] == "RuntimeError: no such card | at all"
    assert "| a | failed |" in (tmp_path / "report.md").read_text()


def test_an_unknown_step_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--out", str(tmp_path), "--only", "warp"])
    assert ended.value.code == 2
    assert "warp: no such step" in capsys.readouterr().err
