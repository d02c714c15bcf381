import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_enhance import Pipeline
from stream_enhance.evidence.verify import verify
from stream_enhance.jobs.case import redact
from stream_enhance.jobs.case.build import named
from stream_enhance.jobs.case.files import write_sums
from stream_enhance.jobs.case.page import page
from stream_enhance.jobs.case.pdf import latin
from stream_enhance.jobs.case.record import Case, read_case
from stream_enhance.jobs.case.shots import heat_map, unexplained
from tests.conftest import ROOT, Command, Models
from tests.media import make_video, read_image

pytestmark = pytest.mark.timeout(110)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo clip's third and fourth second."""
    path = tmp_path_factory.mktemp("footage") / "shop.mkv"
    with av.open(str(ROOT / "tests" / "clips" / "demo.mp4")) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for i, frame in enumerate(source.decode(video=0)):
            if i >= 100:
                break
            if i >= 60:
                frame.pts, frame.time_base = i - 60, Fraction(1, 25)
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def case(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of that; not to be written to."""
    from stream_enhance.config import load
    from stream_enhance.jobs.case.build import build_case

    folder = tmp_path_factory.mktemp("made") / "case"
    build_case([footage], folder, load(None, ["enhancer.kind=classical", "threads=1"]), title="Shop <at> night")
    return folder


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def test_a_case_holds_the_original_and_every_track_with_its_shots(case: Path, footage: Path) -> None:
    made = read_case(case)
    (video,) = made.videos
    assert (case / video.copy_).read_bytes() == footage.read_bytes()
    assert (video.frames, video.width, video.height, video.times) == (40, 640, 360, 25.0)
    assert len(frames_of(case / video.enhanced)) == len(frames_of(case / video.original)) == 40
    assert video.tracks
    for track in video.tracks:
        assert {name for shot in track.shots for name in shot.criteria} >= {"largest", "sharpest"}
        for shot in track.shots:
            assert {"original", "bicubic", "classical"} <= set(shot.images)
            assert ("learned" in shot.images) == (not shot.left_alone)
            for image in shot.images.values():
                assert read_image(case / image).shape == (256, 256, 3)
    assert any("heat" in shot.images for track in video.tracks for shot in track.shots)


def test_the_sums_are_those_of_coreutils(case: Path) -> None:
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=case, check=True, timeout=30)
    named = {line.split("  ", 1)[1] for line in (case / "SHA256SUMS").read_text().splitlines()}
    files = {path.relative_to(case).as_posix() for path in case.rglob("*") if path.is_file()}
    assert named == files - {"SHA256SUMS", "seal.json", "seal.json.sig", "verify.txt"}


def test_the_sums_of_a_name_with_a_line_break_are_those_of_coreutils(tmp_path: Path) -> None:
    for name in ("new\nline", "back\\slash", "\u043a\u0430\u043c\u0435\u0440\u0430 'q' \"<b>\""):
        (tmp_path / name).write_bytes(b"x")
    write_sums(tmp_path)
    subprocess.run(["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=tmp_path, check=True, timeout=30)


def test_footage_of_one_name_gets_names_of_its_own() -> None:
    names = [each.name for each in named([Path("x/a.mp4"), Path("x/a-3.mp4"), Path("y/a.mp4"), Path("z/b.mp4")])]
    assert names == ["a.mp4", "a-3.mp4", "a-4.mp4", "b.mp4"]


def test_every_edit_is_found_and_none_where_there_is_none(case: Path, tmp_path: Path) -> None:
    assert "DOES NOT HOLD" not in (case / "verify.txt").read_text().upper()
    assert not [check for check in verify(case) if check.holds is False]
    mine = tmp_path / "case"
    shutil.copytree(case, mine)
    rng = np.random.default_rng(5)
    files = sorted(path for path in mine.rglob("*") if path.is_file() and path.name != "verify.txt")
    for path in rng.choice(np.array(files, object), 25, replace=False):
        content = bytearray(path.read_bytes())
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        assert any(check.holds is False for check in verify(mine)), path
        shutil.copy(case / path.relative_to(mine), path)
    (mine / "case.json").unlink()
    assert any(check.holds is False for check in verify(mine))


def test_the_page_says_what_changed_faces_and_escapes_the_title(case: Path) -> None:
    text = (case / "index.html").read_text()
    assert "Shop &lt;at&gt; night" in text
    assert "changed by classical filters" in text
    assert "Comparison of persons is to be done on the original" in text
    assert "http" not in text.split("<script>")[0]  # nothing is fetched
    assert (case / "report.pdf").read_bytes().startswith(b"%PDF")


def test_a_learned_enhancer_must_be_named(command: Command, tmp_path: Path, models: Models) -> None:
    make_video(tmp_path / "a.mp4", 4)
    options = [*models.options, "--set", "threads=1"]
    assert command("case", tmp_path / "a.mp4", "-o", tmp_path / "plain", *options).code == 0
    assert not read_case(tmp_path / "plain").learned_video
    assert command("case", tmp_path / "a.mp4", "-o", tmp_path / "net", "--enhancer", "unet", *options).code == 0
    assert read_case(tmp_path / "net").learned_video
    assert "This is a learned method" in (tmp_path / "net" / "index.html").read_text()


def test_footage_without_a_track_makes_a_case(command: Command, tmp_path: Path) -> None:
    make_video(tmp_path / "empty.mp4", 4)
    assert command("case", tmp_path / "empty.mp4", "-o", tmp_path / "case", "--set", "detector.score=0.99").code == 0
    assert not read_case(tmp_path / "case").videos[0].tracks


def test_bad_input_is_one_line_and_exit_2(command: Command, case: Path, footage: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    for words, says in (
        (["case", "-o", tmp_path / "new"], "no footage"),
        (["case", tmp_path / "none.mp4", "-o", tmp_path / "new"], "no such file"),
        (["case", footage, footage, "-o", tmp_path / "new"], "named twice"),
        (["case", footage, "-o", tmp_path / "full"], "holds something already"),
        (["export", tmp_path, "--video", "a", "--frame", "0", "-o", tmp_path / "e"], "no case folder"),
        (["export", case, "--video", "a", "--frame", "0", "-o", tmp_path / "e"], "no such video"),
        (["export", case, "--video", "shop.mkv", "--frame", "40", "-o", tmp_path / "e"], "has frames 0 to 39"),
        (["export", case, "--video", "shop.mkv", "--frame", "1", "--redact", "me", "-o", tmp_path / "e"], "others:3,7"),
        (["export", case, "--video", "shop.mkv", "-o", tmp_path / "e"], "name --frame"),
        (["case", footage, "-o", tmp_path / "new", "--set", "source.start=1"], "source.start"),
        (["export", case, "--video", "shop.mkv", "--frame", "1", "-o", case / "e"], "is in the case"),
        (
            ["export", case, "--video", "shop.mkv", "--from-frame", "9", "--to-frame", "4", "-o", tmp_path / "e"],
            "is after --to-frame 4",
        ),
        (["case", "--notes", footage, "-o", case], "no notes (JSON)"),
        (["case", "--notes", footage, "-o", case, "--title", "x"], "name no footage or --title"),
    ):
        result = command(*words)
        assert result.code == 2, words
        assert says in result.error
    assert (tmp_path / "full" / "x").read_text() == "mine"
    done = command("case", footage, "-o", tmp_path / "new", "--overlay", "panel")  # it would change nothing
    assert done.code == 2
    assert "No such option" in done.err


def test_notes_go_into_the_case_and_its_sums(command: Command, case: Path, tmp_path: Path) -> None:
    mine = tmp_path / "case"
    shutil.copytree(case, mine)
    notes = {"text": "the man in grey", "marks": [], "offsets": {"shop.mkv": 3}}
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    assert command("case", "--notes", tmp_path / "notes.json", "-o", mine).code == 0
    found = read_case(mine).notes
    assert found is not None
    assert found.model_dump(mode="json") == notes
    assert "notes.json" in (mine / "SHA256SUMS").read_text()
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=mine, check=True, timeout=30)


def test_damaged_notes_leave_the_case_as_it_is(command: Command, case: Path, tmp_path: Path) -> None:
    others: list[object] = [{"text": "", "marks": ["x"], "offsets": {}}, []]
    for notes in [*others, {"text": "", "marks": [], "offsets": {"a": "late"}}]:
        (tmp_path / "notes.json").write_text(json.dumps(notes))
        done = command("case", "--notes", tmp_path / "notes.json", "-o", case)
        assert (done.code, "notes.json: no notes" in done.error) == (2, True)
    assert not (case / "notes.json").exists()


def test_notes_do_not_seal_what_was_changed_since(command: Command, case: Path, tmp_path: Path) -> None:
    mine = tmp_path / "case"
    shutil.copytree(case, mine)
    shot = next((mine / "shots").iterdir())
    shot.write_bytes(b"another")
    (tmp_path / "notes.json").write_text(json.dumps({"text": "", "marks": [], "offsets": {}}))
    done = command("case", "--notes", tmp_path / "notes.json", "-o", mine)
    assert done.code == 2
    assert f"{shot.name}: was changed" in done.error
    assert not (mine / "notes.json").exists()


def test_a_name_in_braces_is_no_part_of_the_template(case: Path) -> None:
    made = read_case(case)
    video = made.videos[0].model_copy(update={"name": "{{js}}"})
    text = page(made.model_copy(update={"title": "{{data}}", "videos": (video,)}))
    assert "<title>{{data}}</title>" in text
    assert '"name":"{{js}}"' in text
    assert text.count('"use strict"') == 1


def test_an_interrupted_case_says_so_by_its_exit_code(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started("case", ROOT / "tests" / "clips" / "demo.mp4", "-o", tmp_path / "case")
    while process.poll() is None and not list((tmp_path / "case").glob("video/*.evidence")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


def test_an_exported_still_is_the_frame_itself(command: Command, case: Path, footage: Path, tmp_path: Path) -> None:
    assert command("export", case, "--video", "shop.mkv", "--frame", "7", "-o", tmp_path / "still").code == 0
    still = read_image(tmp_path / "still" / "original.png")
    assert np.abs(still.astype(int) - frames_of(footage)[7]).max() <= 1
    about = json.loads((tmp_path / "still" / "manifest.json").read_text())
    assert about["frames"] == [7, 7]
    assert about["source_sha256"] == read_case(case).videos[0].sha256


def test_a_redacted_clip_shows_no_face_but_the_kept_one(command: Command, case: Path, tmp_path: Path) -> None:
    tracks = read_case(case).videos[0].tracks
    kept = max(tracks, key=lambda track: track.frames)
    words = ["export", case, "--video", "shop.mkv", "--from-frame", "10", "--to-frame", "19"]
    assert command(*words, "--redact", "all", "-o", tmp_path / "all").code == 0
    assert command(*words, "--redact", f"others:{kept.id}", "-o", tmp_path / "others").code == 0
    with Pipeline() as pipeline:
        for image in frames_of(tmp_path / "all" / "original.mp4") + frames_of(tmp_path / "all" / "enhanced.mp4"):
            assert not (pipeline.enhance(image).faces.score > 0.6).any()
        found = [pipeline.enhance(image).faces.score > 0.6 for image in frames_of(tmp_path / "others" / "original.mp4")]
    assert max(int(faces.sum()) for faces in found) == 1
    assert len(frames_of(tmp_path / "all" / "original.mp4")) == 10


def test_covers_bridge_gaps_and_outlast_the_track() -> None:
    box = [10.0, 10.0, 30.0, 30.0]
    path = redact.Path([10, 20], np.array([box, [30.0, 10.0, 50.0, 30.0]], np.float32))
    found = redact.covers(60, 10.0, {1: path}, set(), [[] for _ in range(60)])
    assert [bool(boxes) for boxes in found] == [0 <= frame <= 30 for frame in range(60)]
    x1, _, x2, _ = found[15][0]
    assert x1 < 20
    assert x2 > 40  # half way, with a margin
    lone = redact.covers(60, 10.0, {}, set(), [[(1.0, 1.0, 5.0, 5.0)] if frame == 40 else [] for frame in range(60)])
    assert [frame for frame, boxes in enumerate(lone) if boxes] == list(range(36, 45))


def test_a_kept_track_is_not_covered_by_its_own_detections() -> None:
    path = redact.Path([0, 9], np.array([[10, 10, 30, 30]] * 2, np.float32))
    detections = [[(11.0, 11.0, 31.0, 31.0), (100.0, 10.0, 120.0, 30.0)] for _ in range(10)]
    found = redact.covers(10, 10.0, {4: path}, {4}, detections)
    assert all(min(box[0] for box in boxes) > 80 for boxes in found)


def test_a_cover_leaves_one_colour() -> None:
    rng = np.random.default_rng(1)
    image = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), np.uint8), "rgb24").reformat(format="yuv420p")
    redact.cover(image, [(10, 12, 31, 41)])
    inside = image.to_ndarray()[12:40, 10:30]
    assert inside.min() == inside.max()


def test_what_the_input_explains_is_not_heated() -> None:
    rng = np.random.default_rng(2)
    small = rng.integers(60, 200, (32, 32, 3), np.uint8)
    before = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    assert unexplained(before, before, 1 / 8).max() == 0
    drawn = before.copy()
    drawn[100:104, 60:200] = 255  # a line finer than the camera's pixels
    heat = unexplained(before, drawn, 1 / 8)
    assert heat[96:108, 80:180].mean() > 10 * heat[180:, 80:180].mean() + 1
    assert heat_map(before, heat).shape == (256, 256, 3)


def test_names_in_any_script_do_not_end_the_report() -> None:
    assert latin("Жук – 4×") == "\\u0416\\u0443\\u043a - 4x"


def test_a_case_of_another_version_is_refused(tmp_path: Path) -> None:
    from stream_enhance.errors import InputError

    (tmp_path / "case.json").write_text("{}")
    with pytest.raises(InputError, match="not a case of this version"):
        read_case(tmp_path)
    assert Case.model_fields["format"].default == "stream-enhance-case"
