"""Engines on the disk, and building them for a card that is not here."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stream_enhance.backends import engines, tensorrt_rtx
from stream_enhance.backends.card import file_sha256
from stream_enhance.backends.half import half_file, is_half, to_half
from stream_enhance.errors import ModelError
from tests.conftest import ROOT, Models

SHIPPED = [("unet.onnx", "face-enhancement", 256, 24), ("yolov8n-face.onnx", "face-detection", 640, 73)]
KEY = engines.EngineKey(
    model="unet.onnx",
    model_sha256="ab",
    library="tensorrt-rtx",
    library_version="1.7",
    target="sm86",
    precision="fp16",
    profile="1x3x256x256..4x3x256x256..16x3x256x256",
)


def test_an_engine_comes_back_whole_and_only_for_its_key(tmp_path: Path) -> None:
    path = engines.store(tmp_path, KEY, b"an engine", 0.5)
    assert engines.load(path, KEY) == b"an engine"
    other = KEY.model_copy(update={"library_version": "1.8"})
    assert other.file_name != KEY.file_name
    with pytest.raises(ModelError, match=r"built for library_version 1\.7, not 1\.8; build it again"):
        engines.load(path, other)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "holds 7 bytes, its card says 9"),
        (lambda path: path.write_bytes(b"an ENGINE"), "is not the engine that its card describes"),
        (lambda path: engines.card_of(path).unlink(), "has no card beside it"),
        (lambda path: engines.card_of(path).write_text('{"key": 1}'), "not an engine's card"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
    ids=["truncated", "swapped", "no card", "bad card", "gone"],
)
def test_a_damaged_engine_is_refused_in_one_line(tmp_path: Path, damage: object, says: str) -> None:
    path = engines.store(tmp_path, KEY, b"an engine", 0.5)
    assert callable(damage)
    damage(path)
    with pytest.raises(ModelError, match=says) as raised:
        engines.load(path, KEY)
    assert "\n" not in str(raised.value)


def test_prune_deletes_what_can_no_longer_be_used(tmp_path: Path) -> None:
    kept = engines.store(tmp_path, KEY, b"kept", 0)
    old = engines.store(tmp_path, KEY.model_copy(update={"library_version": "1.6"}), b"old", 0)
    stale = engines.store(tmp_path, KEY.model_copy(update={"model_sha256": "cd"}), b"stale", 0)
    broken = engines.store(tmp_path, KEY.model_copy(update={"target": "sm89"}), b"broken", 0)
    broken.write_bytes(b"")
    deleted = dict(engines.prune(tmp_path, {"unet.onnx": "ab"}, {"tensorrt-rtx": "1.7"}))
    assert set(deleted) == {old, stale, broken}
    assert [path for path, _ in engines.listing(tmp_path)] == [kept]


@pytest.mark.parametrize(("name", "task", "size", "convolutions"), SHIPPED)
def test_the_shipped_networks_become_half_throughout(
    tmp_path: Path, name: str, task: str, size: int, convolutions: int
) -> None:
    path = ROOT / "engines" / name
    assert not is_half(onnx.load(str(path))), "its weights are stored as half and cast"
    half = onnx.load(str(half_file(path, tmp_path)))
    assert is_half(half)
    assert {p.key for p in half.metadata_props} >= {"card"}
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def pix2pix(folder: Path) -> Path:
    """The original's 54.4 M network with random weights, exported as ``train.enhancer export`` does."""
    pytest.importorskip("torch")
    import torch

    from train.common.onnx_export import to_onnx
    from train.enhancer.models import build

    network = build({"name": "pix2pix"}).eval()
    assert sum(p.numel() for p in network.parameters()) > 54e6
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    path = folder / "pix2pix.onnx"
    onnx.save(to_onnx(network, torch.rand(1, 3, 256, 256), ("input", "output"), axes), str(path))
    return path


@pytest.mark.timeout(300)
def test_engines_for_the_rtx_3050_are_built_without_it(tmp_path: Path) -> None:
    try:
        tensorrt_rtx.bindings()
    except ModelError as error:
        pytest.skip(str(error))
    folder = engines.cache_folder(tmp_path / "cache")
    for name, task, size, convolutions in SHIPPED:
        model = ROOT / "engines" / name
        profile = tensorrt_rtx.profile_of(task, size)
        with pytest.raises(ModelError, match=f"not a half-precision graph \\({convolutions} FLOAT\\)"):
            tensorrt_rtx.build(model, "sm86", profile)
        half = half_file(model, folder)
        assert tensorrt_rtx.convolution_types(half) == {"HALF": convolutions}
        began = time.monotonic()
        engine = tensorrt_rtx.build(half, "sm86", profile)
        key = KEY.model_copy(update={"model": name, "model_sha256": file_sha256(model), "profile": str(profile)})
        path = engines.store(folder, key, engine, time.monotonic() - began)
        assert engines.load(path, key) == engine
    half = half_file(pix2pix(tmp_path), folder)
    assert set(tensorrt_rtx.convolution_types(half)) == {"HALF"}
    assert len(tensorrt_rtx.build(half, "sm86", tensorrt_rtx.profile_of("face-enhancement", 256))) > 100e6
    with pytest.raises(ModelError, match="sm35: no target of TensorRT for RTX; use one of sm75"):
        tensorrt_rtx.build(half, "sm35", profile)


def test_a_model_that_is_none_is_named(tmp_path: Path, models: Models) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        half_file(tmp_path / "bad.onnx", tmp_path)
    with pytest.raises(ModelError, match="no such model file"):
        half_file(tmp_path / "none.onnx", tmp_path)


def test_a_graph_that_is_half_already_stays_as_it_is(tmp_path: Path, models: Models) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, (3, 3, 1, 1), np.eye(3, dtype=np.float32).ravel())
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    shape: list[str | int | None] = ["n", 3, 8, 8]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weight],
    )
    half = to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    onnx.save(half, str(tmp_path / "half.onnx"))
    assert half_file(tmp_path / "half.onnx", tmp_path) == tmp_path / "half.onnx"
