"""Which file is run: 8 bits where the processor is made for them and the file fits its source."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from stream_enhance.backends import open_session
from stream_enhance.backends.card import file_sha256, read_card, write_card
from stream_enhance.backends.precision import Precision, byte_products, choose, flagged, sibling
from stream_enhance.backends.preprocessing import to_images, to_input
from stream_enhance.errors import ModelError
from tests.conftest import ROOT, Models

SHIPPED = sorted(path for path in (ROOT / "engines").glob("*.onnx") if sibling(path).is_file())


def with_sibling(models: Models, folder: Path, source_sha256: str | None = None) -> Path:
    """The tiny enhancer with an 8-bit file beside it: the same graph, with the card that such a file has."""
    path = Path(shutil.copy(models.enhancer, folder / "net.onnx"))
    card = read_card(path)
    made_from = file_sha256(path) if source_sha256 is None else source_sha256
    model = onnx.load(str(path))
    write_card(model, card.model_copy(update={"precision": "int8", "source_sha256": made_from}))
    onnx.save(model, str(sibling(path)))
    return path


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", "AVX-512 VNNI"),
        ("flags\t\t: fpu avx2 avx_vnni\n", "AVX-VNNI"),
        ("Features\t: fp asimd asimddp\n", "Arm dot products"),
        ("flags\t\t: fpu avx2 avx512f\n", ""),  # byte products saturate
        ("model name\t: avx512_vnni\n", ""),
        ("", ""),
    ],
)
def test_the_processor_is_known_by_its_flags(cpuinfo: str, has: str) -> None:
    assert flagged(cpuinfo) == has


@pytest.mark.parametrize(
    ("asked", "has", "name", "reason"),
    [
        ("auto", "AVX-VNNI", "net.int8.onnx", "AVX-VNNI"),
        ("auto", "", "net.onnx", "no VNNI or Arm dot products found"),
        ("fp32", "AVX-VNNI", "net.onnx", "precision=fp32"),
        ("int8", "", "net.int8.onnx", "precision=int8"),
    ],
)
def test_what_is_asked_for_and_the_processor_choose_the_file(
    models: Models, tmp_path: Path, asked: Precision, has: str, name: str, reason: str
) -> None:
    choice = choose(with_sibling(models, tmp_path), asked, lambda: has)
    assert (choice.path.name, choice.reason) == (name, reason)


def test_a_model_without_an_8_bit_file_runs_as_it_is(models: Models) -> None:
    choice = choose(models.enhancer, "auto", lambda: "AVX-VNNI")
    assert (choice.path, choice.precision) == (models.enhancer, "fp32")
    with pytest.raises(ModelError, match=r"brighten\.int8\.onnx: no such model file for precision=int8"):
        choose(models.enhancer, "int8")


def test_a_session_says_its_precision_and_why(models: Models, tmp_path: Path) -> None:
    path = with_sibling(models, tmp_path)
    with open_session(path, "face-enhancement", "cpu", 1, precision="int8") as session:
        assert (session.path, session.precision) == (sibling(path), "int8 (precision=int8)")
    with open_session(path, "face-enhancement", "cpu", 1, precision="fp32") as session:
        assert (session.path, session.precision) == (path, "fp32 (precision=fp32)")
    with open_session(sibling(path), "face-enhancement", "cpu", 1) as session:
        assert session.precision == "int8 (the file named)"


def test_an_8_bit_file_of_another_source_is_refused(models: Models, tmp_path: Path) -> None:
    path = with_sibling(models, tmp_path, source_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"net\.int8\.onnx: was not made from net\.onnx; make it again with") as raised:
        open_session(path, "face-enhancement", "cpu", 1, precision="int8")
    assert "\n" not in str(raised.value)
    open_session(path, "face-enhancement", "cpu", 1, precision="fp32").__exit__(None, None, None)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_each_shipped_8_bit_file_was_made_from_the_file_beside_it(path: Path) -> None:
    card = read_card(sibling(path))
    assert card.source_sha256 == file_sha256(path), "run `python -m train.quantize` again: the fp32 file has changed"
    assert (card.precision, card.input_type, card.task) == ("int8", "uint8", read_card(path).task)


def test_the_shipped_enhancer_has_an_8_bit_file() -> None:
    assert "unet.onnx" in [path.name for path in SHIPPED]


@pytest.mark.skipif(not byte_products(), reason="byte products may saturate on this processor")
def test_the_8_bit_enhancer_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (256, 256, 3)) + np.linspace(40, 200, 256)[:, None, None]
    patch = noise.clip(0, 255).astype(np.uint8)
    results = []
    for precision in ("fp32", "int8"):
        with open_session(ROOT / "engines/unet.onnx", "face-enhancement", "cpu", 1, precision=precision) as session:
            batch = to_input([patch, patch], session.card)
            results.append(to_images(session(batch), session.card).astype(np.float32))
    assert results[1].shape == (2, 256, 256, 3)
    decibels = 10 * np.log10(255**2 / ((results[0] - results[1]) ** 2).mean())
    assert decibels > 40, "noise without a face is far from what the ranges were measured on"
