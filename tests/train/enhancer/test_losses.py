"""Each loss is zero for equal images, grows with the error, and agrees with others' code where there is some."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.train import portraits

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

from stream_enhance.errors import ModelError
from train.common.checkpoints import load_weights
from train.common.onnx_export import to_onnx
from train.enhancer import losses, metrics

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)[None]


@pytest.fixture(scope="module")
def faces() -> Pair:
    return portraits.draw(1, 128), portraits.draw(2, 128)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> losses.Vgg:
    """VGG16 with random weights: its real ones are a download, and its arithmetic is the same."""
    torchvision = pytest.importorskip("torchvision")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vgg")
    save_file(torchvision.models.vgg16(weights=None).features.state_dict(), folder / "vgg.safetensors")
    heads = {f"lin{k}": torch.rand(n) for k, n in enumerate((64, 128, 256, 512, 512))}
    save_file(heads, folder / "heads.safetensors")
    return losses.Vgg(folder / "vgg.safetensors", folder / "heads.safetensors")


def test_bels_are_tenths_of_psnr_up_to_their_floor(faces: Pair) -> None:
    a, b = (tensor(face) for face in faces)
    assert losses.bels(a, b).item() == pytest.approx(-losses.psnr(a, b).item() / 10, abs=0.01)
    assert losses.bels(a, a).item() == pytest.approx(-4)
    small, large = (torch.full_like(a, 0.5).requires_grad_(True) for _ in range(2))
    losses.bels(small, small.detach() + 0.02).backward()
    losses.bels(large, large.detach() + 0.2).backward()
    assert small.grad is not None
    assert large.grad is not None
    assert small.grad.abs().mean() > 5 * large.grad.abs().mean()


def test_psnr_and_ssim_agree_with_scikit_image_and_with_each_other(faces: Pair) -> None:
    measure = pytest.importorskip("skimage.metrics")
    a, b = faces
    noisy = np.clip(a + np.random.default_rng(0).normal(0, 12, a.shape), 0, 255).astype(np.uint8)
    for other in (b, noisy):
        theirs = measure.peak_signal_noise_ratio(a, other)
        assert metrics.psnr(other, a) == pytest.approx(theirs, abs=1e-6)
        assert losses.psnr(tensor(other), tensor(a)).item() == pytest.approx(theirs, abs=1e-3)
        import cv2

        grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (a, other)]
        wanted = measure.structural_similarity(
            *grey, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert metrics.ssim(other, a) == pytest.approx(wanted, abs=2e-3)
        assert losses.ssim(tensor(other), tensor(a)).item() == pytest.approx(wanted, abs=1e-2)


def test_charbonnier_is_square_near_zero_and_absolute_far_away() -> None:
    zero = torch.zeros(1, 3, 4, 4)
    assert losses.charbonnier(zero, zero).item() == 0
    small, large = (losses.charbonnier(zero + e, zero, eps=0.01).item() for e in (0.001, 1.0))
    assert small == pytest.approx(0.001**2 / 0.02, rel=0.01)
    assert large == pytest.approx(0.99, abs=0.001)


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_the_adversary_is_content_when_it_is_right(kind: str) -> None:
    certain = torch.full((1, 1, 3, 3), 8.0) if kind == "bce" else torch.ones(1, 1, 3, 3)
    assert losses.adversarial(certain, True, kind) < 0.01 < losses.adversarial(certain, False, kind)


def test_psnr_ssim_falls_as_the_image_gets_better(faces: Pair) -> None:
    a, b = map(tensor, faces)
    assert losses.psnr_ssim(a, b) > losses.psnr_ssim(0.5 * (a + b), b)


def test_vgg_is_frozen_stays_in_eval_mode_and_lets_gradients_through(vgg: losses.Vgg, faces: Pair) -> None:
    vgg.train()
    assert not vgg.features.training
    assert len(vgg.features) == 31
    assert not any(p.requires_grad for p in vgg.parameters())
    a, b = (tensor(f)[..., :64, :64] for f in faces)
    a.requires_grad_(True)
    assert vgg.perceptual(b, b).item() == 0
    (vgg.perceptual(a, b) + vgg.lpips(a, b).mean()).backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0


def test_lpips_is_zero_for_equals_and_its_published_definition_otherwise(vgg: losses.Vgg, faces: Pair) -> None:
    a, b = (tensor(f)[..., :64, :64] for f in faces)
    assert vgg.lpips(b, b).item() == pytest.approx(0, abs=1e-6)
    x, total = [2 * p - 1 for p in (a, b)], 0.0
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = [(p - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1) for p in x]
    ends = (4, 9, 16, 23, 30)
    for start, end, head in zip((0, *ends), ends, vgg.heads or [], strict=False):
        x = [vgg.features[start:end](p) for p in x]
        u, v = (p / p.norm(dim=1, keepdim=True).clamp_min(1e-10) for p in x)
        total += ((u - v) ** 2 * head.view(1, -1, 1, 1)).sum(1).mean().item()
    assert vgg.lpips(a, b).item() == pytest.approx(total, rel=1e-3)


def test_an_onnx_embedder_in_torch_gives_what_onnxruntime_gives(tmp_path: Path) -> None:
    import onnxruntime

    path = write_embedder(tmp_path / "face.onnx")
    x = 255 * torch.rand(2, 3, 112, 112)
    ours = losses.Identity(path, 64)
    theirs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]
    assert np.allclose(ours.network(x).numpy(), theirs, atol=1e-4)
    a, b = torch.rand(2, 3, 64, 64, requires_grad=True), torch.rand(2, 3, 64, 64)
    assert ours(b, b).abs().max() < 1e-5
    ours(a, b).sum().backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0


def write_embedder(path: Path) -> Path:
    """A small network of the operators of MobileFaceNet, exported: (n, 3, 112, 112) RGB 0-255 -> (n, 8)."""
    torch.manual_seed(0)

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, 2, 1)
            self.act = torch.nn.PReLU(4)
            self.depth = torch.nn.Conv2d(4, 4, 7, 7, groups=4)
            self.out = torch.nn.Linear(4 * 64, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.act(self.conv((x - 127.5) * (1 / 128)))
            return self.out(torch.flatten(self.depth(y) + 0.1, 1))

    axes = {"x": {0: "n"}, "emb": {0: "n"}}
    onnx.save(to_onnx(Small().eval(), torch.rand(1, 3, 112, 112), ("x", "emb"), axes), str(path))
    return path


def test_the_alignment_puts_the_templates_points_on_arcfaces() -> None:
    from stream_enhance.imaging.crop import TEMPLATE
    from train.enhancer.data import arcface_warp

    warp = arcface_warp(256)
    eye = np.linalg.inv(warp[:, :2]) @ (TEMPLATE[0] * 256 - 0.5 - warp[:, 2])
    assert eye == pytest.approx([38.3, 51.7], abs=3)


def test_weights_that_could_run_code_are_refused(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(ModelError, match="read safely"):
        load_weights(path)
    with pytest.raises(ModelError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")
