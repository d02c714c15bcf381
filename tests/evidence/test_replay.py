"""A recorded run gives the same frames again, or it is said what differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stream_enhance.errors import EvidenceError
from stream_enhance.evidence.replay import replay
from tests import media
from tests.conftest import Command, Models


@pytest.fixture
def out(command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    shutil.copy(clip, tmp_path / "in.mp4")
    done = command("run", tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", "--evidence", "--enhancer", "unet")
    assert done.code == 0, done.err
    return tmp_path / "out.mp4"


def test_a_second_run_is_equal(out: Path, command: Command) -> None:
    result = replay(out)
    assert result.equal
    assert result.frames == 12
    done = command("replay", out, "--quiet")
    assert done.code == 0
    assert "equal: all 12 frames" in done.out


def test_a_source_elsewhere_is_named(out: Path, tmp_path: Path) -> None:
    moved = (tmp_path / "in.mp4").rename(tmp_path / "moved.mp4")
    with pytest.raises(EvidenceError, match="--source"):
        replay(out)
    assert replay(out, moved).equal
    media.make_video(tmp_path / "in.mp4")
    with pytest.raises(EvidenceError, match="is not the file that was run"):
        replay(out)


def test_another_network_is_refused_and_other_settings_differ(out: Path, models: Models, tmp_path: Path) -> None:
    manifest = out.with_name("out.mp4.evidence") / "manifest.jsonl.gz"
    from tests.evidence.test_manifest import rewritten

    rewritten(manifest, lambda settings: settings["enhancer"].update(strength=0.1))
    result = replay(out)
    assert not result.equal
    assert result.outputs > 0
    assert result.inputs == 0
    assert result.strength > 0.1
    assert "different: " in result.in_words()
    rewritten(manifest, lambda settings: settings["detector"].update(model=str(models.enhancer)))
    with pytest.raises(Exception, match="brighten"):
        replay(out)


def test_settings_of_another_version_are_named(out: Path) -> None:
    from tests.evidence.test_manifest import rewritten

    manifest = out.with_name("out.mp4.evidence") / "manifest.jsonl.gz"
    rewritten(manifest, lambda settings: settings.update(later=1))
    with pytest.raises(EvidenceError, match="later, which this version does not know"):
        replay(out)
