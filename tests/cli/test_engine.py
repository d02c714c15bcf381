"""``stream-enhance engine``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, Command

pytestmark = pytest.mark.timeout(200)


def test_engines_are_built_listed_and_pruned(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    model = ROOT / "engines" / "unet.onnx"
    built = command("engine", "build", "--cache", tmp_path, "--model", model)
    assert built.code == 0, built.err
    (engine,) = tmp_path.glob("*.engine")
    listed = command("engine", "list", "--cache", tmp_path)
    assert f"{engine.name}: unet.onnx fp16 for sm86, tensorrt-rtx" in listed.out
    engine.write_bytes(engine.read_bytes()[:1000])
    assert "DAMAGED" in command("engine", "list", "--cache", tmp_path).out
    assert "deleted (damaged)" in command("engine", "prune", "--cache", tmp_path).out
    assert not list(tmp_path.glob("*.engine"))


def test_an_empty_cache_says_what_to_do(command: Command, tmp_path: Path) -> None:
    assert "build them with `stream-enhance engine build`" in command("engine", "list", "--cache", tmp_path).out


def test_a_file_in_the_place_of_the_cache_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = command("engine", "prune", "--cache", tmp_path / "file")
    assert refused.code == 2
    assert "compiled engines cannot be kept there (File exists); set engine_cache" in refused.err
    assert refused.err.count("\n") == 1


def test_a_target_that_is_none_is_one_line(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    refused = command("engine", "build", "--target", "sm35", "--cache", tmp_path)
    assert refused.code == 2
    assert refused.err.strip().count("\n") == 0
    assert "use one of sm75, sm80, sm86" in refused.err


def test_half_precision_is_right_on_both_networks(command: Command) -> None:
    pytest.importorskip("torch")
    checked = command("engine", "check", "--faces", "2")
    assert checked.code == 0, checked.out
    assert checked.out.count(": right") == 2


def test_bench_times_what_is_there_and_says_where_there_is_no_card(command: Command) -> None:
    timed = command("engine", "bench", "--rounds", "1")
    assert timed.code == 0
    if "cuda" not in timed.out:
        assert timed.out.startswith("no GPU that onnxruntime can use: only the CPU is timed")
    assert "unet.onnx 256x256, batch 1: " in timed.out
    refused = command("engine", "bench", "--provider", "warp")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
