"""``--evidence`` of a camera: each segment signed by itself, every frame in the manifest, dropped ones too."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_enhance.evidence.credentials import read_credentials
from stream_enhance.evidence.manifest import Event, Footer, FrameEntry, Header, read
from stream_enhance.evidence.verify import verify
from tests.conftest import Command
from tests.live.cameras import Camera, needs_camera

pytestmark = needs_camera


def test_a_cameras_segments_are_signed_and_every_frame_is_accounted_for(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    rec = tmp_path / "rec"
    rec.mkdir()
    with Camera() as camera:
        words = ["-o", rec / "%H%M%S.mp4", "--segment", "2s", "--duration", "5s", "--evidence"]
        done = command("run", camera.url, *words, report=tmp_path / "report.json")
    assert done.code == 0, done.err
    segments = sorted(rec.glob("*.mp4"))
    assert len(segments) >= 2
    assert all((found := read_credentials(path)) and found.state == "valid" for path in segments)
    (evidence,) = rec.glob("*.evidence")
    assert [check for check in verify(evidence) if check.holds is False] == []
    header, *lines = [line for line, _ in read(evidence / "manifest.jsonl.gz")]
    assert isinstance(header, Header)
    assert header.source.kind == "camera"
    assert header.source.begun
    frames = [line for line in lines if isinstance(line, FrameEntry)]
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(frame.wall and frame.input for frame in frames)
    footer = lines[-1]
    assert isinstance(footer, Footer)
    assert footer.complete
    assert footer.frames_out == done.report["frames_out"]
    noted = [line.file.path for line in lines if isinstance(line, Event) and line.event == "segment" and line.file]
    assert noted == [f"../{path.name}" for path in segments]
    segments[0].unlink()
    assert any("is missing" in check.text for check in verify(evidence) if check.holds is False)
