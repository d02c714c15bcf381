"""Fixtures that many tests share: tiny networks, tiny videos, and the command called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import media
import pytest

from stream_enhance import Config
from stream_enhance.cli import main


@dataclass(frozen=True)
class Models:
    """A detector that sees one face at ``media.FACE`` and an enhancer that brightens it."""

    detector: Path
    enhancer: Path

    @property
    def options(self) -> list[str]:
        """For the command."""
        return ["--set", f"detector.model={self.detector}", "--set", f"enhancer.model={self.enhancer}"]

    def config(self, **sections: dict[str, Any]) -> Config:
        """Settings with these models; ``sections`` change single keys."""
        data: dict[str, Any] = {
            "detector": {"model": str(self.detector)},
            "enhancer": {"model": str(self.enhancer)},
            "threads": 1,
        }
        for name, values in sections.items():
            data[name] = {**data.get(name, {}), **values}
        return Config.model_validate(data)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    return Models(
        media.make_detector(folder / "boxes.onnx"),
        media.make_enhancer(folder / "brighten.onnx"),
    )


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames, H.264 and AAC in MP4.  Not to be written to."""
    return media.make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", sound=True)


@dataclass(frozen=True)
class Told:
    """What a command answered."""

    code: int
    out: str
    err: str
    report: dict[str, Any]


Command = Callable[..., Told]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], models: Models, tmp_path: Path) -> Command:
    """Calls the real command line with the tiny networks; `run` also gives its report."""

    def call(*arguments: str | Path, with_models: bool = True) -> Told:
        words = [str(word) for word in arguments]
        report = tmp_path / ".report.json"
        report.unlink(missing_ok=True)
        if words[0] in ("run", "batch") and with_models:
            words += [*models.options, "--set", "threads=1"]
        if words[0] == "run":
            words += ["--report", str(report)]
        with pytest.raises(SystemExit) as leaving:
            main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        code = leaving.value.code if isinstance(leaving.value.code, int) else 0
        return Told(code, out, err, json.loads(report.read_text()) if report.exists() else {})

    return call
