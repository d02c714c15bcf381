"""Quantising: what is prepared in float32 stays equal, and the written file runs on bytes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")  # the materials' makers need the train extra

from stream_enhance.backends.card import file_sha256, read_card
from tests.conftest import ROOT
from train.quantize.cli import main
from train.quantize.graph import between, ends, layers, prepared
from train.quantize.integers import run, session_of
from train.quantize.make import ENHANCER, make, score_error
from train.quantize.material import Material

UNET, DETECTOR = ROOT / "engines/unet.onnx", ROOT / "engines/yolov8n-face.onnx"


def images(count: int, side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(("path", "side", "most"), [(UNET, 256, 1e-5), (DETECTOR, 96, 1e-3)])
def test_the_prepared_graph_gives_what_the_file_gives(path: Path, side: int, most: float) -> None:
    batch = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    model = prepared(path)
    exact, other = run(session_of(onnx.load(str(path))), batch), run(session_of(model), batch)
    assert np.abs(exact - other).max() < most
    names = {node.name for node in model.graph.node}
    assert {name for layer in layers(model.graph).values() for name in layer} <= names
    assert set(between(model.graph)) <= names
    assert len(ends(model.graph)) == (1 if path == UNET else 9)


def test_the_written_file_names_its_source_and_takes_bytes(tmp_path: Path) -> None:
    target, said = tmp_path / "unet.int8.onnx", list[object]()
    make(UNET, target, Material.of(images(4, 256)), ENHANCER, ["minmax"], said.append)
    card = read_card(target)
    assert (card.source_sha256, card.precision, card.input_type) == (file_sha256(UNET), "int8", "uint8")
    assert card.metrics["int8"]["ranges"] == "minmax"
    assert len(said) >= 1
    patch = images(1, 256)[0][None]
    assert run(session_of(onnx.load(str(target))), patch).shape == patch.shape


def test_only_cells_in_which_either_sees_a_face_count() -> None:
    exact, other = np.zeros((1, 20, 3), np.float32), np.zeros((1, 20, 3), np.float32)
    exact[0, 4], other[0, 4] = [0.9, 0.05, 0.5], [0.8, 0.01, 0.4]
    assert score_error([exact], [other]) == pytest.approx(0.1)
    assert score_error([exact[:, :, 1:2]], [other[:, :, 1:2]]) == 0


def test_an_existing_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "net.int8.onnx"
    there.write_bytes(b"")
    assert main(["enhancer", "--out", str(there)]) == 2
    assert "exists already" in capsys.readouterr().err
