"""Networks that judge a result and that no loss has seen: embedders, LPIPS-Alex, an expression and a face detector.

Each is a callable on aligned patches, (S, S, 3) uint8 RGB as the runtime cuts them. Their weights are files that the
user names; what is missing is an InputError that says what to install or to name.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.images import Image
from train.enhancer.metrics import DLIB, POINTS, dlib_models

SIZE = 256  # pixels: side of an aligned patch
HAPPY = 3  # of the seven expressions of FER-2013


class Embedder(Protocol):
    """Who is on a patch, as a vector."""

    def __call__(self, patches: Sequence[Image]) -> NDArray[np.float32]:
        """(n, d) unit vectors of `patches`, which show one person; the first is the best image of them."""


class OnnxEmbedder:
    """By an ONNX file that takes float32 (n, 3, 256, 256) RGB of 0 to 255, an aligned patch, and crops it itself."""

    def __init__(self, path: Path):
        self.session = open_onnx(path)

    def __call__(self, patches: Sequence[Image]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors of the patches, each (256, 256, 3) uint8 RGB."""
        batch = np.stack(patches).transpose(0, 3, 1, 2).astype(np.float32)
        return unit(self.session.run(None, {self.session.get_inputs()[0].name: batch})[0])


class DlibEmbedder:
    """By dlib's ResNet (King, 2017); all patches are aligned by the landmarks of the first."""

    def __init__(self, folder: Path | None = None):
        if importlib.util.find_spec("dlib") is None:
            raise InputError("the dlib embedder needs dlib: pip install dlib-bin face-recognition-models")
        import dlib

        folder = folder or dlib_models()
        self.dlib = dlib
        self.landmarks = dlib.shape_predictor(str(folder / POINTS))
        self.network = dlib.face_recognition_model_v1(str(folder / DLIB))

    def __call__(self, patches: Sequence[Image]) -> NDArray[np.float32]:
        """(n, 128) float32 unit vectors; the landmarks are those of the first patch, so that all are cropped alike."""
        box = self.dlib.rectangle(*(round(SIZE * v) for v in (0.22, 0.24, 0.78, 0.80)))
        place = self.landmarks(np.ascontiguousarray(patches[0]), box)
        chips = [self.dlib.get_face_chip(np.ascontiguousarray(p), place, 150, 0.25) for p in patches]
        return unit(np.array([np.array(d) for d in self.network.compute_face_descriptor(chips)]))


class AlexLpips:
    """LPIPS 0.1 with AlexNet (Zhang et al., CVPR 2018).

    From one .safetensors file: `features.*` as torchvision names them, and the heads `lin0.model.1.weight` to `lin4`.
    """

    def __init__(self, path: Path):
        import torch
        from torchvision.models import alexnet

        from train.common.checkpoints import load_weights

        tensors = load_weights(path)
        self.torch, self.features = torch, alexnet(weights=None).features.eval().requires_grad_(False)
        self.features.load_state_dict(
            {name.removeprefix("features."): t for name, t in tensors.items() if name.startswith("features.")}
        )
        self.heads = [tensors[f"lin{k}.model.1.weight"] for k in range(5)]
        self.mean = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        self.std = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)

    def __call__(self, patches: Sequence[Image], target: Image) -> list[float]:
        """The distance of each of `patches` from `target`; 0 is equal."""
        torch = self.torch
        with torch.inference_mode():
            batch = np.stack([target, *patches]).transpose(0, 3, 1, 2).astype(np.float32)
            x = (torch.from_numpy(batch) / 127.5 - 1 - self.mean) / self.std
            total, heads = torch.zeros(len(patches)), iter(self.heads)
            for layer in self.features:
                x = layer(x)
                if isinstance(layer, torch.nn.ReLU):
                    normed = x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
                    total += ((normed[1:] - normed[:1]) ** 2 * next(heads)).sum(1).mean((1, 2))
        return [float(value) for value in total]


class Expression:
    """Which of FER-2013's seven expressions a face has, by an ONNX file that takes (n, 64, 64, 1) grey of -1 to 1."""

    def __init__(self, path: Path):
        self.session = open_onnx(path)

    def __call__(self, patches: Sequence[Image]) -> NDArray[np.int64]:
        """(n,): the likeliest one's number."""
        top, bottom, left, right = (round(v * SIZE) for v in (0.2, 0.86, 0.15, 0.81))
        faces = [cv2.cvtColor(p[top:bottom, left:right], cv2.COLOR_RGB2GRAY) for p in patches]
        small = np.stack([cv2.resize(f, (64, 64), interpolation=cv2.INTER_AREA) for f in faces]).astype(np.float32)
        found = self.session.run(None, {self.session.get_inputs()[0].name: small[..., None] / 127.5 - 1})[0]
        return np.asarray(found).argmax(1)


class PatchDetector:
    """The score of a face that fills the middle of a patch, by YuNet (Wu et al., 2023)."""

    def __init__(self, path: Path):
        self.network = open_yunet(path, SIZE, 0.1)

    def __call__(self, patch: Image) -> float:
        """0 where there is none; a face counts from a third of the patch's height."""
        _, found = self.network.detect(np.ascontiguousarray(patch[..., ::-1]))
        if found is None:
            return 0.0
        x, y, height = found[:, 0] + found[:, 2] / 2, found[:, 1] + found[:, 3] / 2, found[:, 3]
        near = (abs(x / SIZE - 0.5) < 0.25) & (abs(y / SIZE - 0.53) < 0.25) & (height > SIZE / 3)
        return float(found[near, 14].max(initial=0.0))


def open_yunet(path: Path, side: int, score: float) -> Any:
    """YuNet for square images of `side` pixels. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such model file; name YuNet's ONNX")
    return cv2.FaceDetectorYN.create(str(path), "", (side, side), score, 0.3, 500)


def open_onnx(path: Path) -> Any:
    """An onnxruntime session on one thread. Raises InputError."""
    import onnxruntime

    if not path.exists():
        raise InputError(f"{path}: no such model file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise InputError(
            f"{path}: not a model that onnxruntime can load ({str(error).splitlines()[0][:160]})"
        ) from None


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Each row at length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
