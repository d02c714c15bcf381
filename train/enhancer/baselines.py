"""What a user would take instead: every method as a function of a `Sample`, giving a (S, S, 3) uint8 RGB patch."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.backends import Session
from stream_enhance.errors import InputError
from stream_enhance.imaging.crop import cut, scale_of
from stream_enhance.stages.classical import Classical
from stream_enhance.stages.networks import UNet
from train.common.images import Image
from train.enhancer.data import Portrait

log = logging.getLogger("train.enhancer.evaluate")
SCALE = 4  # of every super-resolution network here


@dataclass(frozen=True)
class Sample:
    """One face as a camera gives it, and the truth."""

    portrait: Portrait
    face_px: int  # height of the face in the frame
    kind: str  # "mixed", or the one defect
    frame: Image  # (F, F, 3) what was decoded
    place: NDArray[np.float32]  # (2, 3) patch -> frame
    low: Image  # (S, S, 3) the patch as the runtime cuts it, by bicubic enlargement
    clean: Image  # (S, S, 3) the true face

    @property
    def size(self) -> int:
        """Side of the patch in pixels."""
        return self.low.shape[0]

    def native(self) -> Image:
        """The patch at the frame's own resolution."""
        side = max(8, round(self.size * scale_of(self.place)))
        step = self.size / side
        place = self.place.copy()
        place[:, 2] += place[:, :2] @ np.full(2, 0.5 * step - 0.5, np.float32)
        place[:, :2] *= step
        return cut(self.frame, place, side)


Method = Callable[[Sample], Image]


def bicubic(sample: Sample) -> Image:
    """What the runtime shows without a network."""
    return sample.low


def lanczos(sample: Sample) -> Image:
    """Enlarged by Lanczos's kernel."""
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    size = (sample.size, sample.size)
    return cv2.warpAffine(sample.frame, sample.place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(
        np.uint8
    )


def classical(sample: Sample) -> Image:
    """The project's own chain without networks, as the runtime runs it."""
    return Classical()(sample.low[None], np.array([scale_of(sample.place)], np.float32))[0]


def network(session: Session) -> Method:
    """An exported enhancer, run by the runtime's own code."""
    unet = UNet(session)
    return lambda sample: unet(sample.low[None], np.array([scale_of(sample.place)], np.float32))[0]


def fitted(image: Image, size: int) -> Image:
    """`image` (square) at `size` pixels a side: averaged down or bicubic up."""
    how = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_CUBIC
    return cv2.resize(image, (size, size), interpolation=how).astype(np.uint8)


class Unfold:
    """TensorFlow's DepthToSpace for OpenCV, which has it only in opencv-contrib's dnn_superres."""

    def __init__(self, params: object, blobs: object):
        pass

    def getMemoryShapes(self, inputs: list[list[int]]) -> list[list[int]]:
        """OpenCV asks: (n, 16, h, w) becomes (n, 1, 4h, 4w)."""
        n, channels, height, width = inputs[0]
        return [[n, channels // SCALE**2, SCALE * height, SCALE * width]]

    def forward(self, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """OpenCV calls it."""
        n, _, height, width = inputs[0].shape
        folded = inputs[0].reshape(n, SCALE, SCALE, height, width).transpose(0, 3, 1, 4, 2)
        return [np.ascontiguousarray(folded.reshape(n, 1, SCALE * height, SCALE * width))]


@cache
def teach_opencv() -> None:
    """Let cv2.dnn know Unfold, once: it takes no layer twice."""
    cv2.dnn_registerLayer("DepthToSpace", Unfold)  # type: ignore[arg-type]  # its stub wants one output, OpenCV a list


def luma_network(path: Path) -> Method:
    """ESPCN or FSRCNN as OpenCV's samples ship them (.pb): four times the luma; the colours are enlarged by bicubic.

    Raises InputError where this OpenCV cannot run it (ESPCN: 4.10 can, 4.14 and 5.0 cannot).
    """
    if not path.exists():
        raise InputError(f"{path}: no such model file")
    try:
        teach_opencv()
        net = cv2.dnn.readNetFromTensorflow(str(path))
        net.setInput(np.zeros((1, 1, 8, 8), np.float32))
        net.forward()
    except cv2.error as error:
        why = f"OpenCV {cv2.__version__} cannot run it ({error.func or 'dnn'}); OpenCV 4.10 can"
        raise InputError(f"{path}: {why}") from None

    def run(sample: Sample) -> Image:
        ycc = cv2.cvtColor(sample.native(), cv2.COLOR_RGB2YCrCb)
        net.setInput(ycc[:, :, 0].astype(np.float32)[None, None] / 255)
        luma = np.clip(net.forward().squeeze() * 255, 0, 255).astype(np.uint8)
        large = cv2.resize(ycc, luma.shape[::-1], interpolation=cv2.INTER_CUBIC)
        large[:, :, 0] = luma
        return fitted(cv2.cvtColor(large, cv2.COLOR_YCrCb2RGB).astype(np.uint8), sample.size)

    return run


def ncnn_network(folder: Path, name: str, threads: int = 1) -> Method:
    """SPAN or Real-ESRGAN, four times, from `name`.param and .bin. Raises InputError without ncnn or these files."""
    try:
        import ncnn
    except ImportError:
        raise InputError(f"{name} needs ncnn: pip install ncnn") from None
    for suffix in (".param", ".bin"):
        if not (folder / (name + suffix)).exists():
            raise InputError(f"{folder / (name + suffix)}: no such file")
    net = ncnn.Net()
    net.opt.use_vulkan_compute, net.opt.num_threads = False, threads
    net.load_param(str(folder / (name + ".param")))
    net.load_model(str(folder / (name + ".bin")))
    taken, given = net.input_names()[0], net.output_names()[0]

    def run(sample: Sample) -> Image:
        native = np.ascontiguousarray(sample.native().transpose(2, 0, 1).astype(np.float32) / 255)
        extractor = net.create_extractor()
        extractor.input(taken, ncnn.Mat(native))
        _, out = extractor.extract(given)
        large = np.clip(np.array(out).transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
        return fitted(large, sample.size)

    return run


def peers(models: Path | None, ncnn_models: Path | None) -> dict[str, Method]:
    """The methods that can be compared with here: always the first three, and the networks in the folders named."""
    found: dict[str, Method] = {"bicubic": bicubic, "lanczos": lanczos, "classical": classical}
    if models is not None:
        for name in ("ESPCN", "FSRCNN"):
            try:
                found[f"{name} x4"] = luma_network(models / f"{name}_x4.pb")
            except InputError as error:
                log.warning("left out: %s", error)
    if ncnn_models is not None:
        found["SPAN x4"] = ncnn_network(ncnn_models, "spanx4_ch48")
        found["Real-ESRGAN x4"] = ncnn_network(ncnn_models, "realesrgan-x4plus")
    return found
