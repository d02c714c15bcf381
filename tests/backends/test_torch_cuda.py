"""On a GPU: torch replays captured graphs, pads and cuts batches, and stays near float32."""

from __future__ import annotations

import numpy as np
import pytest

from stream_enhance.backends import open_session
from tests.conftest import ROOT

torch = pytest.importorskip("torch")

from stream_enhance.backends.torch_session import TorchSession, open_torch  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]
UNET = ROOT / "engines" / "unet.onnx"


@pytest.mark.parametrize("rows", [1, 3, 16, 19])
def test_every_batch_gives_what_the_cpu_gives(rows: int) -> None:
    batch = np.random.default_rng(0).random((rows, 3, 256, 256), dtype=np.float32)
    with (
        open_session(UNET, "face-enhancement", "cpu", precision="fp32") as exact,
        open_torch(UNET, "face-enhancement", 0) as session,
    ):
        wanted = exact(batch)
        for _ in range(2):  # captured, then replayed
            found = session(batch)
            assert found.shape == wanted.shape
            assert -10 * np.log10(((found - wanted) ** 2).mean()) > 60


def test_a_second_size_does_not_disturb_the_first() -> None:
    rng = np.random.default_rng(0)
    small, large = (rng.random((1, 3, *size), dtype=np.float32) for size in ((96, 160), (288, 480)))
    with TorchSession(ROOT / "engines" / "yolov8n-face.onnx", "face-detection", "fp16", "cuda") as session:
        first = session(small)
        session(large)
        assert np.array_equal(session(small), first)
