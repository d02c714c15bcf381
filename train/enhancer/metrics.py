"""How close a face is to the true one. Images are (S, S, 3) uint8 RGB patches, aligned as the runtime cuts them.

PSNR and SSIM need nothing; LPIPS needs torch and VGG16, identity needs dlib. What is missing is named, never guessed.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.images import Image

DLIB = "dlib_face_recognition_resnet_model_v1.dat"
POINTS = "shape_predictor_5_face_landmarks.dat"


def psnr(ours: Image, target: Image) -> float:
    """Peak signal-to-noise ratio over the three channels, dB."""
    error = np.mean((ours.astype(np.float64) - target) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-6)))


def ssim(ours: Image, target: Image) -> float:
    """Structural similarity of the grey images (Wang et al., TIP 2004): Gaussian window of 11, sigma 1.5."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (ours, target))

    def mean(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return cv2.GaussianBlur(z, (11, 11), 1.5)[5:-5, 5:-5].astype(np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(((2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


class Lpips:
    """LPIPS with VGG16 (Zhang et al., CVPR 2018), version 0.1. Raises InputError where a part of it is missing."""

    def __init__(self, vgg: Path | None = None, heads: Path | None = None):
        if any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision", "safetensors")):
            raise InputError("LPIPS needs torch, torchvision and safetensors: pip install 'stream-enhance[train]'")
        from urllib.error import URLError

        from train.enhancer.losses import Vgg

        try:
            self.network = Vgg(vgg, heads or find_heads())
        except (URLError, OSError) as error:
            raise InputError(
                f"LPIPS: VGG16 could not be downloaded ({error}); name its file with --vgg or STREAM_ENHANCE_VGG16"
            ) from None

    def __call__(self, ours: list[Image], target: Image) -> list[float]:
        """The distance of each of `ours` from `target`; 0 is equal."""
        import torch

        def batch(images: list[Image]) -> Any:
            return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255)

        with torch.inference_mode():
            return [float(d) for d in self.network.lpips(batch(ours), batch([target]))]


def find_heads() -> Path:
    """LPIPS's five heads: the file that STREAM_ENHANCE_LPIPS names, or those in the installed `lpips` package."""
    if os.environ.get("STREAM_ENHANCE_LPIPS"):
        return Path(os.environ["STREAM_ENHANCE_LPIPS"])
    spec = importlib.util.find_spec("lpips")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "weights" / "v0.1" / "vgg.pth"
    if path is None or not path.exists():
        raise InputError("LPIPS's heads are missing: pip install lpips, or name their file with --lpips-heads")
    return path


class DlibIdentity:
    """Face embeddings by dlib's ResNet (King, 2017), which no loss here has seen. Raises InputError without dlib."""

    def __init__(self, folder: Path | None = None):
        if importlib.util.find_spec("dlib") is None:
            raise InputError("identity needs dlib: pip install dlib-bin face-recognition-models")
        import dlib

        folder = folder or dlib_models()
        for name in (DLIB, POINTS):
            if not (folder / name).exists():
                raise InputError(f"{folder}: holds no {name}; pip install face-recognition-models brings it")
        self.dlib = dlib
        self.points = dlib.shape_predictor(str(folder / POINTS))
        self.network = dlib.face_recognition_model_v1(str(folder / DLIB))

    def __call__(self, ours: list[Image], target: Image) -> list[float]:
        """Cosine of each of `ours`'s embedding with `target`'s; all are aligned by the target's points."""
        size = target.shape[0]
        # where the face box lies in an aligned patch
        box = self.dlib.rectangle(*(round(size * v) for v in (0.22, 0.24, 0.78, 0.80)))
        shape = self.points(target, box)
        chips = [self.dlib.get_face_chip(np.ascontiguousarray(p), shape, 150, 0.25) for p in [target, *ours]]
        found = np.array([np.array(d) for d in self.network.compute_face_descriptor(chips)])  # (1 + n, 128)
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        return [float(c) for c in unit[1:] @ unit[0]]


def dlib_models() -> Path:
    """The folder of dlib's models: STREAM_ENHANCE_DLIB, or the installed face-recognition-models package's."""
    if os.environ.get("STREAM_ENHANCE_DLIB"):
        return Path(os.environ["STREAM_ENHANCE_DLIB"])
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise InputError(
            "identity needs dlib's models: pip install face-recognition-models, or set STREAM_ENHANCE_DLIB"
        )
    return Path(spec.origin).parent / "models"


class Metric(Protocol):
    """One number for each image, compared with the true one."""

    def __call__(self, ours: list[Image], target: Image) -> list[float]:
        """Of each of `ours`, in order."""
        ...


@dataclass
class Metrics:
    """The metrics available on this machine; `missing` names the others and why."""

    lpips: Metric | None = None
    identity: Metric | None = None
    quality: "Quality | None" = None
    missing: dict[str, str] = field(default_factory=dict)

    def __call__(self, ours: list[Image], target: Image) -> list[dict[str, float | None]]:
        """psnr, ssim, lpips, identity and quality of each of `ours`; None for what is missing."""
        nothing: list[float | None] = [None] * len(ours)
        lpips = self.lpips(ours, target) if self.lpips else nothing
        identity = self.identity(ours, target) if self.identity else nothing
        quality = [self.quality(p) for p in ours] if self.quality else nothing
        return [
            {"psnr": psnr(p, target), "ssim": ssim(p, target), "lpips": d, "identity": c, "quality": q}
            for p, d, c, q in zip(ours, lpips, identity, quality, strict=True)
        ]


class Quality:
    """No-reference score of a face by LightQNet (Chen et al., 2021) from its ONNX file: 0..1, higher is better."""

    def __init__(self, path: Path):
        import onnxruntime

        if not path.exists():
            raise InputError(f"{path}: no such model file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            why = str(error).splitlines()[0][:160]
            raise InputError(f"{path}: not a model that onnxruntime can load ({why}); name LightQNet's ONNX") from None
        self.name = self.session.get_inputs()[0].name

    def __call__(self, patch: Image) -> float:
        """The score of one aligned patch's face."""
        size = patch.shape[0]
        face = patch[round(0.2 * size) : round(0.84 * size), round(0.18 * size) : round(0.82 * size)]
        small = cv2.resize(face, (96, 96), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return float(self.session.run(None, {self.name: small.transpose(2, 0, 1)[None]})[0].ravel()[0])


def open_metrics(
    vgg: Path | None = None,
    heads: Path | None = None,
    dlib: Path | None = None,
    quality: Path | None = None,
    without: Sequence[str] = (),
) -> Metrics:
    """The metrics available on this machine, except those named in `without`."""
    metrics = Metrics(missing=dict.fromkeys(without, "not asked for"))
    if "lpips" not in without:
        try:
            metrics.lpips = Lpips(vgg, heads)
        except InputError as error:
            metrics.missing["lpips"] = str(error)
    if "identity" not in without:
        try:
            metrics.identity = DlibIdentity(dlib)
        except InputError as error:
            metrics.missing["identity"] = str(error)
    if quality is not None:
        metrics.quality = Quality(quality)
    return metrics
