"""A decoding device that cannot be used is one line that says why, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_enhance.cli.main import main
from stream_enhance.errors import SourceError
from stream_enhance.sources.base import Reading, SourceOptions
from stream_enhance.sources.connection import LiveOptions
from stream_enhance.sources.open import open_source
from tests.conftest import ROOT

CLIP = ROOT / "tests" / "clips" / "demo.mp4"
NAMES = {
    "vaapi": "this PyAV's FFmpeg has .*cuda.*; use one of them, or leave hwaccel empty to decode on the CPU",
    "nonsense": "this PyAV's FFmpeg has .*; use one of them",
    "drm": "FFmpeg's decoders do not use it; leave hwaccel empty",
}


@pytest.mark.parametrize("name", NAMES)
def test_of_a_recording(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=f"hwaccel={name}: {NAMES[name]}"):
        open_source(str(CLIP), SourceOptions(hwaccel=name))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(CLIP), "-o", str(tmp_path / "o.mp4"), "--set", f"source.hwaccel={name}"])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has the driver")
@pytest.mark.parametrize("owned", [False, True])
def test_a_device_whose_driver_is_not_there(owned: bool) -> None:
    with pytest.raises(SourceError, match="hwaccel=cuda: the device does not start"):
        open_source(str(CLIP), Reading(hwaccel="cuda", owned=owned))


@pytest.mark.parametrize("name", NAMES)
def test_of_a_camera(name: str) -> None:
    source = open_source("udp://127.0.0.1:9", None, LiveOptions(hwaccel=name, timeout=0.5))
    with pytest.raises(SourceError, match=f"hwaccel={name}: "):
        source.wait_ready()
