"""``--evidence`` end to end: what a run leaves can be checked, and any change to it is found."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from stream_enhance import Pipeline
from stream_enhance.config import Config, EvidenceOptions, LiveOptions, load
from stream_enhance.errors import SinkError
from stream_enhance.evidence.credentials import read_credentials
from stream_enhance.evidence.frame_hash import frame_hash
from stream_enhance.evidence.manifest import Footer, FrameEntry, Header, read
from stream_enhance.evidence.pinned import pinned, recorded
from stream_enhance.evidence.sei import UUID, camera_signature
from stream_enhance.evidence.session import Evidence
from stream_enhance.evidence.verify import verify
from tests import media
from tests.conftest import Command, Models


@pytest.fixture(autouse=True)
def own_key(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    return folder  # type: ignore[return-value]


@pytest.fixture
def case(command: Command, clip: Path, tmp_path: Path) -> Path:
    """A folder with original, output, report, shots and evidence."""
    folder = tmp_path / "case"
    folder.mkdir()
    shutil.copy(clip, folder / "in.mp4")
    done = command(
        "run", folder / "in.mp4", "-o", folder / "out.mp4", "--evidence", "--enhancer", "unet",
        "--gallery", folder / "shots", "--report", folder / "report.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


def failures(path: Path) -> list[str]:
    return [f"{check.name}: {check.text}" for check in verify(path) if check.holds is False]


def lines_of(path: Path) -> list[Header | FrameEntry | Footer]:
    return [line for line, _ in read(path) if isinstance(line, Header | FrameEntry | Footer)]


def framehash_by_ffmpeg(path: Path, target: Path) -> list[str]:
    """The last column of FFmpeg's framehash muxer for the decoded frames of ``path``."""
    with av.open(path) as source, av.open(target, "w", format="framehash") as muxer:
        stream = muxer.add_stream("rawvideo", rate=25)
        for i, image in enumerate(source.decode(video=0)):
            if i == 0:
                stream.width, stream.height, stream.pix_fmt = image.width, image.height, image.format.name
            image.pts, image.time_base = i, Fraction(1, 25)
            muxer.mux(stream.encode(image))
        muxer.mux(stream.encode(None))
    rows = [line for line in target.read_text().splitlines() if not line.startswith("#")]
    return [row.rpartition(" ")[2] for row in rows]


@pytest.mark.parametrize(
    ("form", "width"),
    [("yuv420p", 64), ("yuv420p", 50), ("yuv422p10le", 66), ("gbrp", 34), ("nv12", 50), ("rgb24", 33), ("gray", 35)],
)
def test_a_frame_hash_is_ffmpegs(form: str, width: int, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (30, width, 3), np.uint8)
    image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=form)
    with av.open(tmp_path / "out.txt", "w", format="framehash") as muxer:
        stream = muxer.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 30, form
        image.pts, image.time_base = 0, Fraction(1, 25)
        muxer.mux(stream.encode(image))
        muxer.mux(stream.encode(None))
    *_, last = (tmp_path / "out.txt").read_text().splitlines()
    assert last.rpartition(" ")[2] == frame_hash(image)


def test_an_untouched_case_holds(case: Path, command: Command) -> None:
    assert failures(case / "out.mp4") == []
    done = command("verify", case / "out.mp4")
    assert done.code == 0
    assert "nothing was changed" in done.out
    checks = json.loads(command("verify", case / "out.mp4.evidence", "--json").out)
    assert {"signature", "signer", "files", "manifest", "completeness", "original", "credentials"} <= {
        check["name"] for check in checks if check["holds"]
    }


def test_the_manifest_says_what_was_decided_and_its_hashes_are_ffmpegs(case: Path, tmp_path: Path) -> None:
    header, *frames, footer = lines_of(case / "out.mp4.evidence" / "manifest.jsonl.gz")
    assert isinstance(header, Header)
    assert isinstance(footer, Footer)
    assert header.learned
    assert header.settings["threads"] == 1
    assert header.settings["enhancer"]["batch"] == 1
    entries = [frame for frame in frames if isinstance(frame, FrameEntry)]
    assert [entry.input for entry in entries] == framehash_by_ffmpeg(case / "in.mp4", tmp_path / "hashes")
    assert all(entry.output and entry.output != entry.input for entry in entries)
    (face,) = entries[0].faces
    assert face.decision == "enhanced"
    assert face.affine is not None
    assert sum(footer.faces.values()) == sum(len(entry.faces) for entry in entries)
    report = json.loads((case / "report.json").read_text())
    assert footer.faces.get("cached", 0) == report["faces_from_cache"]
    assert (footer.frames_in, footer.frames_out) == (report["frames_in"], report["frames_out"])


def test_credentials_name_the_learned_network_and_the_original(case: Path) -> None:
    found = read_credentials(case / "out.mp4")
    assert found is not None
    assert found.state == "valid"
    assert found.source_type == "compositeWithTrainedAlgorithmicMedia"
    *_, (_, before_footer), _ = read(case / "out.mp4.evidence" / "manifest.jsonl.gz")
    assert found.evidence["chain"] == before_footer
    assert found.evidence["original"]["bytes"] == (case / "in.mp4").stat().st_size
    with av.open(case / "out.mp4") as container:
        assert "evidence run" in container.metadata["comment"]
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_classical_filters_unless_a_learned_network_is_named(command: Command, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert command("run", clip, "-o", out, "--evidence").code == 0
    header = lines_of(tmp_path / "out.mkv.evidence" / "manifest.jsonl.gz")[0]
    assert isinstance(header, Header)
    assert (header.learned, header.changed_by) == (False, "classical filters")
    found = read_credentials(out, tmp_path / "out.mkv.evidence" / "out.mkv.c2pa")
    assert found is not None
    assert found.source_type == "algorithmicallyEnhanced"
    assert failures(out) == []


def test_single_bit_edits_are_found(case: Path) -> None:
    random.seed(1)
    evidence = case / "out.mp4.evidence"
    shots = sorted(path for path in (case / "shots").iterdir() if path.is_file())
    sealed = [evidence / "manifest.jsonl.gz", evidence / "seal.json", evidence / "seal.json.sig"]
    for path in [case / "out.mp4", case / "report.json", *sealed, *shots]:
        whole = path.read_bytes()
        for _ in range(4):
            data, at = bytearray(whole), random.randrange(len(whole) * 8)
            data[at // 8] ^= 1 << at % 8
            path.write_bytes(data)
            assert failures(case / "out.mp4"), f"{path.name}, bit {at}"
        path.write_bytes(whole)
    assert failures(case / "out.mp4") == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda case: (case / "in.mp4").write_bytes(b"another"), "in.mp4: was changed: 7 bytes"),
        (lambda case: (case / "report.json").unlink(), "report.json: is missing"),
        (lambda case: (case / "out.mp4.evidence" / "more.txt").write_text("x"), "more.txt: is not named in seal.json"),
        (lambda case: (case / "out.mp4.evidence" / "seal.json.sig").unlink(), "seal.json.sig: cannot be read"),
        (lambda case: (case / "out.mp4.evidence" / "seal.json").write_text("{"), "seal.json: is damaged"),
        (lambda case: (case / "out.mp4.evidence" / "seal.json").unlink(), "seal.json: is missing"),
        (lambda case: _cut(case / "out.mp4.evidence" / "manifest.jsonl.gz"), "manifest.jsonl.gz: was cut off"),
        (lambda case: _remux(case / "out.mp4"), "out.mp4: holds no content credentials; they were removed"),
    ],
)
def test_what_does_not_hold_is_named(case: Path, spoil: object, says: str) -> None:
    spoil(case)  # type: ignore[operator]
    found = failures(case / "out.mp4")
    assert any(says in text for text in found), found
    assert not any("\n" in text for text in found)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _remux(path: Path) -> None:
    """Strip all but the video, as an editor does."""
    moved = path.rename(path.with_name("with.mp4"))
    with av.open(moved) as source, av.open(path, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    moved.unlink()


def test_a_case_can_be_moved_and_read_only(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "elsewhere" / "case"
    shutil.move(case, moved)
    subprocess.run(["chmod", "-R", "a-w", moved], check=True)
    try:
        assert failures(moved / "out.mp4") == []
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another machine"))
        checks = {check.name: check for check in verify(moved / "out.mp4")}
        assert checks["signer"].holds is None
        assert "unknown here" in checks["signer"].text
    finally:
        subprocess.run(["chmod", "-R", "u+w", moved], check=True)


def test_the_installations_key_is_its_owners_alone(case: Path, own_key: Path) -> None:
    assert (own_key / "stream-enhance" / "evidence-key.pem").stat().st_mode & 0o777 == 0o600


def test_an_earlier_case_is_not_overwritten(case: Path, command: Command) -> None:
    done = command("run", case / "in.mp4", "-o", case / "other.mp4", "--evidence")
    assert done.code == 0
    (case / "other.mp4").unlink()
    done = command("run", case / "in.mp4", "-o", case / "other.mp4", "--evidence")
    assert done.code == 2
    assert "other.mp4.evidence: already exists" in done.error
    assert command("run", case / "in.mp4", "-o", case / "other.mp4", "--evidence", "--overwrite").code == 0
    assert failures(case / "other.mp4") == []


def test_the_manifest_of_a_failed_run_is_seen_before_the_work(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4.evidence").mkdir()
    (tmp_path / "out.mp4.evidence" / "manifest.jsonl.gz").write_bytes(b"of a run without a seal")
    done = command("run", clip, "-o", tmp_path / "out.mp4", "--evidence")
    assert done.code == 2
    assert "out.mp4.evidence: already exists" in done.error
    assert not (tmp_path / "out.mp4").exists()


def test_a_manifest_that_cannot_be_completed_is_named(clip: Path, models: Models, tmp_path: Path) -> None:
    config = pinned(load(None, [word for word in models.options if word != "--set"]))
    with Pipeline(config) as pipeline:
        evidence = Evidence(pipeline, str(clip), [tmp_path / "out.mp4"])
        name = evidence.folder / "manifest.jsonl.gz"
        with pytest.raises(SinkError, match="cannot be written"):
            pipeline.run(clip, tmp_path / "out.mp4", recorder=evidence, watch=lambda run: name.touch())


def test_no_password_is_recorded() -> None:
    live = LiveOptions(detect_url="rtsp://admin:hidden@camera/sub?token=hidden")
    settings = recorded(Config(live=live, evidence=EvidenceOptions(tsa="https://admin:hidden@authority/tsa")))
    assert "hidden" not in json.dumps(settings)
    assert Config.model_validate(settings).live.detect_url.startswith("rtsp://***@camera/sub")


def test_a_folder_may_be_named_in_a_roundabout_way(case: Path) -> None:
    assert failures(case / ".." / case.name / "out.mp4.evidence") == []


def test_a_named_signer_is_not_taken_on_trust_without_the_evidence(command: Command, case: Path, own_key: Path) -> None:
    shutil.rmtree(case / "out.mp4.evidence")
    certificate = own_key / "stream-enhance" / "evidence-certificate.pem"
    done = command("verify", case / "out.mp4", "--certificate", certificate)
    assert done.code == 2
    assert "out.mp4.evidence" in done.error
    assert command("verify", case / "out.mp4").code == 0


def test_evidence_needs_an_output_on_disk(command: Command, clip: Path) -> None:
    done = command("run", clip, "-o", "udp://127.0.0.1:9", "--evidence")
    assert done.code == 2
    assert "no output is a video file" in done.error


def test_the_original_is_kept(command: Command, clip: Path, tmp_path: Path) -> None:
    assert command("run", clip, "-o", tmp_path / "out.mp4", "--evidence", "--keep-original").code == 0
    assert (tmp_path / "out.mp4.evidence" / "original" / clip.name).read_bytes() == clip.read_bytes()
    assert failures(tmp_path / "out.mp4") == []


def test_a_stream_has_no_original_to_keep(command: Command, tmp_path: Path) -> None:
    done = command("run", "rtsp://u:p@127.0.0.1:9/x", "-o", tmp_path / "out.mp4", "--evidence", "--keep-original")
    assert done.code == 2
    assert "rtsp://***@127.0.0.1:9/x: is no file or folder" in done.error


def test_segments_are_each_signed(command: Command, clip: Path, tmp_path: Path) -> None:
    done = command("run", clip, "-o", tmp_path / "%H%M%S.mp4", "--segment", "200ms", "--evidence")
    assert done.code == 0, done.err
    segments = sorted(tmp_path.glob("*.mp4"))
    assert len(segments) > 1
    assert all((found := read_credentials(path)) and found.state == "valid" for path in segments)
    (evidence,) = tmp_path.glob("*.evidence")
    assert failures(evidence) == []
    segments[0].unlink()
    assert any("is missing" in text for text in failures(evidence))


def test_a_cameras_signature_is_seen(tmp_path: Path) -> None:
    plain = media.raw_h264(tmp_path / "plain.h264", [(64, 48)])
    signed = tmp_path / "signed.h264"
    content = UUID + b"\1" * 20
    sei = b"\0\0\0\1\6\5" + bytes([len(content)]) + content + b"\x80"
    data = plain.read_bytes()
    slice_at = data.find(b"\0\0\1\x65")
    signed.write_bytes(data[:slice_at] + sei + data[slice_at:])
    assert (camera_signature(plain), camera_signature(signed)) == ("absent", "present")
    assert camera_signature(tmp_path / "none.mp4") == "not checked"


def test_batch_keeps_the_evidence_of_each_file(command: Command, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mkv"):
        media.make_video(tmp_path / "in" / name)
    assert command("batch", tmp_path / "in", "-o", tmp_path / "out").code == 0
    done = command("batch", tmp_path / "in", "-o", tmp_path / "out", "--evidence")
    assert done.code == 0, done.err
    for name in ("a.mp4", "b.mkv"):
        assert failures(tmp_path / "out" / name) == []
    assert "2 kept" in command("batch", tmp_path / "in", "-o", tmp_path / "out", "--evidence").out


def test_a_full_disk_is_one_line(command: Command, clip: Path, small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("size=16k")
    done = command("run", clip, "-o", disk / "out.mp4", "--evidence")
    assert done.code in (1, 2)
    assert "No space left on device" in done.error


def test_a_certificate_that_has_expired_or_belongs_to_another_key_is_refused(
    command: Command, clip: Path, case: Path, own_key: Path, tmp_path: Path
) -> None:
    from tests.evidence.tsa import Authority

    folder = own_key / "stream-enhance"
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.new().certificate.public_bytes(Encoding.PEM))
    key = f"evidence.key={folder / 'evidence-key.pem'}"
    done = command(
        "run", clip, "-o", tmp_path / "o.mp4", "--evidence", "--set", f"evidence.certificate={other}", "--set", key
    )
    assert done.code == 2
    assert "is not the certificate of the key" in done.error
    done = command("run", clip, "-o", tmp_path / "o.mp4", "--evidence", "--set", key)
    assert done.code == 2
    assert "set both" in done.error
    assert command("verify", case / "out.mp4", "--certificate", other).code == 1
    assert command("verify", case / "out.mp4", "--certificate", folder / "evidence-certificate.pem").code == 0
