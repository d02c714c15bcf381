import json
from pathlib import Path

import pytest

from stream_enhance import shipped
from stream_enhance.backends.onnx import available
from stream_enhance.cli import doctor
from stream_enhance.errors import ModelError
from stream_enhance.sinks.codecs import opens
from tests.conftest import Command, Models

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def whole(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation with its default networks: the tiny ones."""
    files = {shipped.DETECTOR: models.detector, shipped.UNET: models.enhancer}
    monkeypatch.setattr(shipped, "default_model", files.__getitem__)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without networks."""

    def none(name: str) -> Path:
        raise ModelError(f"{name}: not in this installation")

    monkeypatch.setattr(shipped, "default_model", none)


@pytest.mark.usefixtures("whole")
def test_a_whole_installation_is_ready_and_says_what_it_has(command: Command) -> None:
    answer = command("doctor", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["ready"] is True
    assert found["missing"] == []
    assert set(found["providers"]) == set(available())
    assert found["encoders"] == {name: opens(name) for name in found["encoders"]}
    assert found["encoders"]["libx264"] is True
    assert found["decoders"]["h264"] is True
    assert {"av", "numpy", "onnxruntime", "opencv-python-headless", "ffmpeg"} <= set(found["libraries"])
    card = found["models"]["unet.onnx"]
    assert (card["name"], card["task"], card["license"]) == ("brighten", "face-enhancement", "AGPL-3.0-or-later")
    assert len(card["sha256"]) == 64


@pytest.mark.usefixtures("whole")
def test_for_people_it_is_lines(command: Command) -> None:
    answer = command("doctor")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "Ready."
    for words in (
        "Networks run on: ",
        "Encoders that open: libx264",
        "Model unet.onnx: face-enhancement at 64",
        "\n  data: ",
    ):
        assert words in answer.out


@pytest.mark.usefixtures("bare")
def test_what_is_missing_is_named_with_its_cure_and_the_code_is_one(command: Command) -> None:
    answer = command("doctor")
    assert answer.code == 1
    assert answer.out.splitlines()[-1] == "Not ready."
    assert "MISSING: unet.onnx: not in this installation" in answer.out
    assert "--set detector.model=FILE" in answer.out


def test_a_damaged_network_is_missing(models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(models.enhancer.read_bytes()[:50])
    files = {shipped.DETECTOR: models.detector, shipped.UNET: tmp_path / "cut.onnx"}
    monkeypatch.setattr(shipped, "default_model", files.__getitem__)
    found = doctor.examine()
    assert found["ready"] is False
    (lack,) = found["missing"]
    assert "cut.onnx" in lack["what"]
    assert shipped.DETECTOR in found["models"]


def test_a_library_that_does_not_import_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor._LIBRARIES, "no_such_library", "no-such-package")
    found = doctor.examine()
    assert found["ready"] is False
    assert "no-such-package does not import" in found["missing"][0]["what"]
    assert found["missing"][0]["cure"].endswith("-m pip install -U no-such-package")
    assert doctor.format_summary(found).endswith("Not ready.")
