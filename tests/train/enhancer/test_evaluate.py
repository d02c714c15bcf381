"""The evaluation measures what it says, on any folder, with any enhancer, and writes the document that it promises."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.train import portraits

pytest.importorskip("onnx")

import onnx

from stream_enhance.backends.card import Card, weights_sha256, write_card
from train.common.bootstrap import interval
from train.enhancer import evaluate, report
from train.enhancer.baselines import bicubic, classical, lanczos, peers
from train.enhancer.cli import main
from train.enhancer.data import read_faces
from train.enhancer.metrics import Metrics, psnr, ssim


def write_enhancer(path: Path, gain: float = 1.0, size: int = 256) -> Path:
    """An enhancer that multiplies by `gain`, with its card."""
    from onnx import TensorProto, helper, numpy_helper

    shape: list[str | int | None] = ["n", 3, size, size]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["input", "gain"], ["output"])],
        "enhancer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array(gain, np.float32), "gain")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = {"name": "gain", "license": "x", "data": "x", "recipe": "x", "commit": "x"}
    write_card(model, Card(task="face-enhancement", size=size, weights_sha256=weights_sha256(model), **about))
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits.write_folder(tmp_path_factory.mktemp("eval") / "faces", people=4)


def test_the_document_has_what_was_promised_and_a_network_that_does_nothing_gains_nothing(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "open_metrics", lambda *paths: Metrics(missing={"lpips": "not here"}))
    model, out = write_enhancer(tmp_path / "same.onnx"), tmp_path / "out.json"
    order = ["--faces", str(faces), "--model", str(model), "--json", str(out), "--sizes", "24", "48"]
    assert main(["evaluate", *order, "--rows", str(tmp_path / "rows.csv"), "--threads", "1"]) == 0
    found = json.loads(out.read_text())
    assert list(found) == ["24", "48"]
    for numbers in found.values():
        assert set(numbers) == {"psnr", "ssim", "lpips", "identity", "harm_rate"}
        assert numbers["psnr"]["model"] == pytest.approx(numbers["psnr"]["bicubic"], abs=1e-9)
        assert numbers["lpips"] == {"bicubic": None, "model": None}
        assert numbers["identity"] == {"input": None, "model": None}
        assert numbers["harm_rate"] is None
    rows = evaluate.read_rows(tmp_path / "rows.csv")
    assert len(rows) == 2 * 2 * 4
    list(evaluate.written(rows, tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "rows.csv").read_text()


def test_the_two_halves_of_the_held_out_people_have_nobody_in_common(tmp_path: Path) -> None:
    root = portraits.write_folder(tmp_path / "faces", people=30, each=2, side=100)
    halves = [evaluate.choose(evaluate.Options(root, held_out=0.4, half=half)) for half in (0, 1)]
    whole = evaluate.choose(evaluate.Options(root, held_out=0.4))
    people = [{p.person for p in half} for half in halves]
    assert min(len(half) for half in people) >= 2
    assert not people[0] & people[1]
    assert people[0] | people[1] == {p.person for p in whole}


def test_the_same_faces_give_the_same_samples(faces: Path) -> None:
    portraits_ = read_faces(faces)[:2]
    twice = [list(evaluate.samples(portraits_, (32,), ("noise", "h264"), 64)) for _ in range(2)]
    assert len(twice[0]) == 2 * 3
    assert all(np.array_equal(a.low, b.low) for a, b in zip(*twice, strict=True))


def test_larger_faces_are_nearer_to_the_truth(faces: Path) -> None:
    scores: dict[int, list[float]] = {16: [], 96: []}
    for sample in evaluate.samples(read_faces(faces), (16, 96), (), 128):
        scores[sample.face_px].append(psnr(sample.low, sample.clean))
    assert np.mean(scores[96]) > np.mean(scores[16])


def test_the_peers_give_patches_of_the_right_size_that_resemble_the_face(faces: Path) -> None:
    sample = next(iter(evaluate.samples(read_faces(faces), (64,), (), 128)))
    assert set(peers(None, None)) == {"bicubic", "lanczos", "classical"}
    for method in (bicubic, lanczos, classical):
        out = method(sample)
        assert out.shape == sample.clean.shape
        assert np.corrcoef(out.ravel(), sample.low.ravel())[0, 1] > 0.8
    native = sample.native()
    assert native.shape[0] == pytest.approx(64 / 0.82, abs=12)


def row(method: str, face_px: int, identity: float, file: str = "a/1.png", kind: str = "mixed") -> evaluate.Row:
    numbers = {"psnr": 20.0, "ssim": 0.5, "lpips": None, "identity": identity, "quality": None}
    return {"method": method, "file": file, "group": "a", "face_px": face_px, "kind": kind, **numbers}


def test_harm_is_counted_from_two_hundredths_below_the_input() -> None:
    rows = [row("bicubic", 24, 0.90, str(k)) for k in range(4)]
    rows += [row("model", 24, value, str(k)) for k, value in enumerate((0.95, 0.885, 0.875, 0.5))]
    assert evaluate.summary(rows)["24"]["harm_rate"] == 0.5


def test_intervals_hold_the_mean_and_shrink_with_more_faces() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    few, many = interval(values[:20]), interval(values)
    assert few is not None
    assert many is not None
    assert few[0] < values[:20].mean() < few[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert interval(np.full(3, math.nan)) is None
    assert evaluate.mean(np.full(3, math.nan)) is None


def test_psnr_and_ssim_know_equals() -> None:
    face = portraits.draw(1, 64)
    assert ssim(face, face) == pytest.approx(1)
    assert psnr(face, face) > 100


def test_an_empty_folder_a_missing_model_and_a_wrong_one_end_with_code_2(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", "--faces", str(tmp_path / "empty")]) == 2
    assert "holds no images" in capsys.readouterr().err
    assert main(["evaluate", "--faces", str(faces), "--model", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--json", "none/out.json"], "none/out.json: cannot be written; name a file in an existing folder"),
        (["--rows", "none/rows.csv"], "none/rows.csv: cannot be written"),
        (["--json", "."], ".: cannot be written"),
        (["--sizes", "24", "-5"], "--sizes -5: not a height of a face; name pixels, 1 or more"),
        (["--people", "list.json"], "list.json: holds a list, not an object with keys; name the JSON {file: person}"),
        (["--people", "none.json"], "none.json: No such file or directory; name the JSON {file: person}"),
        (["--quality", "list.json"], "list.json: not a model that onnxruntime can load"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_measured(
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(evaluate, "measure", lambda *given: pytest.fail("measured"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[1, 2]")
    assert main(["evaluate", "--faces", str(faces), "--without", "lpips", "identity", *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert says in line


def test_the_report_is_one_page_with_tables_plots_and_the_worst_first(faces: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = [f"{p.group}/{p.path.name}" for p in read_faces(faces)]
    rows = []
    for size in (24, 48):
        for k, name in enumerate(names):
            rows += [row("bicubic", size, 0.8, name), row("model", size, 0.9 - 0.1 * k, name)]
    rows += [row("bicubic", 32, 0.8, names[0], "noise"), row("model", 32, 0.85, names[0], "noise")]
    list(evaluate.written(rows, tmp_path / "rows.csv"))
    assert report.worst(rows, "model", 1)[0][0] == names[-1]
    model = write_enhancer(tmp_path / "same.onnx")
    order = [str(tmp_path / "rows.csv"), "--out", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]
    assert main(["report", *order, "--faces", str(faces), "--model", str(model)]) == 0
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/jpeg") == 8
    assert "data:image/svg+xml" in page
    assert "| noise |" in (tmp_path / "r.md").read_text()


def test_only_images_that_all_methods_were_measured_on_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("bicubic", 24, 0.8, "a/1.png"), row("model", 24, 0.9, "a/1.png"), row("bicubic", 24, 0.1, "a/2.png")]
    assert report.common(rows) == rows[:2]
    list(evaluate.written([rows[0], row("model", 24, 0.9, "a/3.png")], tmp_path / "rows.csv"))
    assert main(["report", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "r.html")]) == 2
    assert "no image was measured by all methods" in capsys.readouterr().err


def test_groups_of_people_come_from_utkfaces_names() -> None:
    rows = []
    for name in ("u/25_1_2_2017.jpg", "u/61_0_1_2017.jpg"):
        rows += [row("bicubic", 24, 0.8, name), row("model", 24, 0.9, name)]
    lines = report.by_people(rows, "model")
    assert {line[0] for line in lines[1:]} == {"age under 30", "age 60 and over", "man", "woman", "Asian", "Black"}
