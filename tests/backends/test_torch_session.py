"""The shipped networks on torch, beside onnxruntime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_enhance.backends import open_session
from stream_enhance.errors import ModelError
from tests.conftest import ROOT, Models

torch = pytest.importorskip("torch")

from stream_enhance.backends.torch_session import TorchSession  # noqa: E402

NETWORKS = [
    ("unet.onnx", "face-enhancement", (2, 3, 256, 256)),
    ("yolov8n-face.onnx", "face-detection", (1, 3, 96, 160)),
]


def smooth(shape: tuple[int, int, int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).random((shape[2], shape[3], shape[0] * shape[1]), dtype=np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3).transpose(2, 0, 1).reshape(shape).astype(np.float32)


@pytest.mark.parametrize(("name", "task", "shape"), NETWORKS)
def test_it_gives_what_onnxruntime_gives(name: str, task: str, shape: tuple[int, int, int, int]) -> None:
    batch = smooth(shape)
    with open_session(ROOT / "engines" / name, task, "cpu", 1, precision="fp32") as reference:
        wanted = reference(batch)
    reach = np.ptp(wanted)
    with TorchSession(ROOT / "engines" / name, task) as session:
        assert np.abs(session(batch) - wanted).max() < 1e-5 * reach
    with TorchSession(ROOT / "engines" / name, task, "fp16") as session:
        found = session(batch)
    if task == "face-enhancement":
        assert -10 * np.log10(((found - wanted) ** 2).mean()) > 60, "dB between half and float32"
    else:
        assert np.abs(found[:, :4] - wanted[:, :4]).max() < 1, "pixels of a box"
        assert np.abs(found[:, 4] - wanted[:, 4]).max() < 0.01, "of a score"


def test_what_cannot_be_used_is_one_line(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cuda:9: torch cannot use it"):
        TorchSession(models.enhancer, "face-enhancement", device="cuda:9")
    with pytest.raises(ModelError, match="is for face-enhancement, not for face-detection"):
        TorchSession(models.enhancer, "face-detection")
    (tmp_path / "bad.onnx").write_bytes(b"\x00")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        TorchSession(tmp_path / "bad.onnx", "face-enhancement")
