"""Fixtures that many tests share: tiny networks, tiny videos, and the command called in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stream_enhance import Config
from stream_enhance.cli.main import main
from tests import media

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Models:
    """A detector that sees one face at ``media.FACE`` and an enhancer that brightens it."""

    detector: Path
    enhancer: Path

    @property
    def options(self) -> list[str]:
        """For the command."""
        models = [f"detector.model={self.detector}", f"enhancer.model={self.enhancer}", "detector.size=0"]
        models.append("detector.regions=off")  # it would see its one face in every crop
        return [word for setting in models for word in ("--set", setting)]

    def config(self, **sections: dict[str, Any]) -> Config:
        """Settings with these models; ``sections`` change single keys."""
        data: dict[str, Any] = {
            "detector": {"model": str(self.detector), "size": 0, "regions": "off"},
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
class Finished:
    """What a command left: exit code, output and report."""

    code: int
    out: str
    err: str
    report: dict[str, Any]

    @property
    def error(self) -> str:
        """The one error line; there must be just one."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


Command = Callable[..., Finished]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], models: Models, tmp_path: Path) -> Command:
    """Calls the real command line with the tiny networks; `run` also gives its report."""

    def call(
        *arguments: str | Path,
        detector: Path = models.detector,
        enhancer: Path = models.enhancer,
        report: Path = tmp_path / ".report.json",
    ) -> Finished:
        words = [str(word) for word in arguments]
        report.unlink(missing_ok=True)
        if words[0] in ("run", "batch"):
            words += [*Models(detector, enhancer).options, "--set", "threads=1"]
        if words[0] == "run" and "--report" not in words:
            words += ["--report", str(report)]
        with pytest.raises(SystemExit) as leaving:
            main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        code = leaving.value.code if isinstance(leaving.value.code, int) else 0
        content: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
        if content:
            assert content["frames_in"] == content["frames_out"] + content["frames_dropped"]
        return Finished(code, out, err, content)

    return call


@pytest.fixture
def started(models: Models) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command in a process of its own, to be signalled; none outlives the test."""
    processes = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stream_enhance", *map(str, arguments), *models.options]
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand frames, a run of which can be interrupted."""
    return media.make_long(tmp_path_factory.mktemp("long") / "long.mp4", 10_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with the given options; a test that needs one is skipped where it cannot."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
