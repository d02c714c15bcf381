"""Enhancement without a learned model, for those who may not use one: every step is a published formula.

Patches come in as the network would get them, are taken back to the resolution the camera really gave, and there go
through denoising, low-light correction and deblurring, then up again by Lanczos with back-projection and a mild
unsharp mask.  Each step measures first and does nothing where there is nothing to mend, so a clean face stays as it
was.  Nothing is random, nothing is remembered: the same patch gives the same result, on every run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..options import Options

Gray = NDArray[np.float32]  # (h, w) luma, 0..255
Deblur = Literal["none", "wiener", "richardson-lucy"]
_SMALLEST = 16  # pixels: below this side there is nothing to measure noise or blur on
_NOISE = (1.5, 3.0)  # grey levels: denoising sets in at the first and is whole from the second
_DARK = (85.0, 50.0)  # mean luma: low-light correction sets in at the first and is whole from the second
_SPECTRUM = 64  # pixels: the side at which motion blur is looked for
_CERTAIN = (0.5, 0.6)  # correlation from which a motion is believed, and wholly; still faces stay below the first


class ClassicalOptions(Options):
    """Which steps the chain takes."""

    denoise: bool = Field(default=True, description="Non-local means, as strong as the measured noise.")
    deblur: Deblur = Field(default="wiener", description="Deconvolution of motion blur, where some is found.")
    sharpen: bool = Field(default=True, description="Back-projection and a mild unsharp mask after enlarging.")
    low_light: bool = Field(default=True, description="Gamma and CLAHE on dark faces.")


class Classical:
    """The deterministic chain, as a ``Network`` for ``enhance.Enhancer``.

    See ``denoised``, ``motion``, ``brightened``, ``enlarged`` and ``sharpened`` for its steps.
    """

    def __init__(self, options: ClassicalOptions = ClassicalOptions()) -> None:
        self._denoise, self._deblur = options.denoise, options.deblur
        self._sharpen, self._low_light = options.sharpen, options.low_light

    def __call__(self, patches: NDArray[np.uint8], scales: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Enhanced patches.

        Args:
            patches: (n, S, S, 3) uint8 RGB, cut to size by bicubic enlargement.
            scales: (n,) float32 frame pixels a patch pixel: patch i truly holds about S * scales[i] pixels a side.

        Returns:
            (n, S, S, 3) uint8 RGB.
        """
        done = [self._one(patch, float(scale)) for patch, scale in zip(patches, scales, strict=True)]
        return np.stack(done) if done else patches.copy()

    def _one(self, patch: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        side = patch.shape[0]
        native = min(side, max(_SMALLEST, round(side * scale)))
        small: Any = cv2.resize(patch, (native, native), interpolation=cv2.INTER_AREA) if native < side else patch
        ycc: Any = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
        noise = noise_level(ycc[:, :, 0])
        if self._denoise:
            ycc = denoised(ycc)
        luma = ycc[:, :, 0].astype(np.float32)
        if self._deblur != "none" and (found := motion(luma)) is not None:
            kernel, trust = found
            sharp = wiener(luma, kernel, noise) if self._deblur == "wiener" else richardson_lucy(luma, kernel)
            luma = cv2.addWeighted(sharp, trust, luma, 1 - trust, 0).astype(np.float32, copy=False)
        if self._low_light:
            before, luma = luma, brightened(luma)
            if luma is not before:  # colour grows with the light, or the face would turn grey
                gain = np.clip(luma / np.maximum(before, 8), 1, 2.0)[:, :, None]
                ycc = _bytes(128 + (ycc.astype(np.float32) - 128) * gain)  # its luma is replaced just below
        ycc = cv2.merge([_bytes(luma), ycc[:, :, 1], ycc[:, :, 2]])
        rgb: Any = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)
        if native < side:
            rgb = enlarged(rgb, side, project=self._sharpen)
        if self._sharpen:
            rgb = sharpened(rgb, side / native, noise)
        return _bytes(rgb)


def noise_level(channel: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise in a (h, w) uint8 frame, grey levels.

    Immerkær's difference of Laplacians (CVIU 1996), over the flatter half of the frame so that edges do not count as
    noise (Tai and Yang, 2008).
    """
    image = channel.astype(np.float32)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(image, -1, mask))[1:-1, 1:-1]
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    slope = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))[1:-1, 1:-1]
    flat = response[slope <= np.median(slope)]
    return float(np.sqrt(np.pi / 2) / 6 * flat.mean())


def denoised(ycc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 YCrCb with luma and chroma each denoised as far as their measured noise asks.

    Non-local means (Buades, Coll and Morel, CVPR 2005).
    """
    side = min(ycc.shape[:2])
    search = 13 if side <= 64 else 9
    luma: Any = ycc[:, :, 0]
    chroma: Any = np.ascontiguousarray(ycc[:, :, 1:])
    level = noise_level(luma)
    if (part := _ramp(level, *_NOISE)) > 0:
        luma = cv2.addWeighted(cv2.fastNlMeansDenoising(luma, None, 0.9 * level, 5, search), part, luma, 1 - part, 0)
    level = max(noise_level(chroma[:, :, 0]), noise_level(chroma[:, :, 1]))
    if (part := _ramp(level, *_NOISE)) > 0:
        calm: Any = chroma
        if side > 64:  # cameras code chroma at half the resolution: looking there takes a quarter of the time
            calm = cv2.resize(chroma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        calm = cv2.resize(cv2.fastNlMeansDenoising(calm, None, 1.2 * level, 5, search), luma.shape[::-1])
        chroma = cv2.addWeighted(calm, part, chroma, 1 - part, 0)
    return _bytes(cv2.merge([luma, chroma[:, :, 0], chroma[:, :, 1]]))


def motion(luma: Gray) -> tuple[Gray, float] | None:
    """The straight, even motion that blurred ``luma``, or None where none is found.

    Such motion by L pixels multiplies the spectrum with a sinc of evenly spaced zeros, L to the sampling frequency and
    square to the motion (Gennery, JOSA 1973; Cannon, IEEE Trans. ASSP 1976).  Cannon looks for their trough in the
    cepstrum, which a face of 40 pixels is too small for; so the log spectrum itself is compared with that of every
    motion in ``_motions``, all zeros at once, after the mean of every ring of frequencies, which holds defocus and the
    natural decline of spectra, is taken off both.

    Returns:
        (k, k) float32 kernel that sums to 1, k odd; and 0..1, how far it is to be trusted.
    """
    side = min(luma.shape)
    if side < 2 * _SMALLEST:
        return None
    reduced = min(1.0, _SPECTRUM / side)
    if reduced < 1:
        luma = np.asarray(cv2.resize(luma, (_SPECTRUM, _SPECTRUM), interpolation=cv2.INTER_AREA), np.float32)
    window = np.outer(np.hanning(luma.shape[0] + 2)[1:-1], np.hanning(luma.shape[1] + 2)[1:-1])
    power = np.abs(np.fft.rfft2((luma - luma.mean()) * window, s=(_SPECTRUM, _SPECTRUM))) ** 2
    templates, lengths, angles = _motions()
    seen = _unringed(np.log1p(power))
    correlation = templates @ (seen / max(float(np.linalg.norm(seen)), 1e-6))
    correlation[lengths > min(side, _SPECTRUM) / 4] = 0
    best = int(correlation.argmax())
    trust = _ramp(float(correlation[best]), *_CERTAIN)
    if trust == 0:
        return None
    length = float(lengths[best]) / reduced
    return motion_kernel(length * np.cos(angles[best]), length * np.sin(angles[best])), trust


@lru_cache(maxsize=1)
def _motions() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The log spectra (m, f) of unit norm that motions of lengths (m,) pixels and angles (m,) radians leave."""
    fy, fx = np.fft.fftfreq(_SPECTRUM)[:, None], np.fft.rfftfreq(_SPECTRUM)[None, :]
    turns = np.linspace(0, np.pi, 16, endpoint=False)
    length, angle = (a.ravel() for a in np.meshgrid([3, 4, 5, 6, 7, 8, 9, 11, 13, 15], turns, indexing="ij"))
    rows = []
    for size, turn in zip(length, angle, strict=True):
        row = _unringed(np.log(np.abs(np.sinc(size * (fx * np.cos(turn) + fy * np.sin(turn)))) + 0.08))
        rows.append(row / np.linalg.norm(row))
    return np.array(rows), length.astype(np.float64), angle


def _unringed(spectrum: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(f,) the part of a ``rfft2`` spectrum that lies above the lowest frequencies and below the noise, each ring of
    equal frequency less its mean."""
    radius = np.hypot(np.fft.fftfreq(_SPECTRUM)[:, None], np.fft.rfftfreq(_SPECTRUM)[None, :])
    band = (radius > 0.04) & (radius < 0.35)
    ring = np.rint(radius[band] * _SPECTRUM).astype(np.int64)
    values = spectrum[band]
    result: NDArray[np.float64] = values - (np.bincount(ring, values) / np.maximum(1, np.bincount(ring)))[ring]
    return result


def motion_kernel(dx: float, dy: float) -> Gray:
    """(k, k) float32 that sums to 1: the average over straight, even motion by (dx, dy) pixels."""
    half = int(np.ceil(max(abs(dx), abs(dy)) / 2)) + 1
    fine = 8  # drawn this much larger, then averaged, so that slanted lines are smooth
    canvas = np.zeros(((2 * half + 1) * fine,) * 2, np.float32)
    middle = (2 * half + 1) * fine / 2 - 0.5
    reach = fine / 2 * (1 - 1 / max(1.0, float(np.hypot(dx, dy))))  # the line's round ends add a pixel to its length
    ends = [(round(middle + s * dx * reach), round(middle + s * dy * reach)) for s in (-1, 1)]
    cv2.line(canvas, ends[0], ends[1], 1.0, fine)
    kernel = cv2.resize(canvas, (2 * half + 1,) * 2, interpolation=cv2.INTER_AREA)
    result: Gray = kernel / kernel.sum()
    return result


def wiener(luma: Gray, kernel: Gray, noise: float) -> Gray:
    """(h, w) float32: Wiener's least-squares inverse of ``kernel`` (Wiener 1949; Helstrom, JOSA 1967).

    The noise-to-signal ratio comes from ``noise``, its standard deviation in grey levels.
    """
    pad = 2 * kernel.shape[0]
    wide, transfer = _padded(luma, kernel, pad)
    ratio = max(0.03, (max(noise, 1.0) / max(float(luma.std()), 1.0)) ** 2)
    inverse = np.conj(transfer) / (np.abs(transfer) ** 2 + ratio)
    sharp = np.fft.irfft2(np.fft.rfft2(wide - luma.mean()) * inverse, s=wide.shape) * (1 + ratio) + luma.mean()
    return _calmed(sharp[pad:-pad, pad:-pad].astype(np.float32), luma)


def richardson_lucy(luma: Gray, kernel: Gray, rounds: int = 12) -> Gray:
    """(h, w) float32: the most likely original under ``kernel`` (Richardson, JOSA 1972; Lucy, AJ 1974).

    Stopped after ``rounds``: it turns noise into grain when run for long.
    """
    pad = 2 * kernel.shape[0]
    seen = np.maximum(cv2.copyMakeBorder(luma, pad, pad, pad, pad, cv2.BORDER_REFLECT), 1)
    guess = seen.copy()
    mirrored = cv2.flip(kernel, -1)
    for _ in range(rounds):
        ratio = seen / np.maximum(cv2.filter2D(guess, -1, kernel, borderType=cv2.BORDER_REFLECT), 1)
        guess *= cv2.filter2D(ratio, -1, mirrored, borderType=cv2.BORDER_REFLECT)
    return _calmed(guess[pad:-pad, pad:-pad], luma)


def brightened(luma: Gray) -> Gray:
    """(h, w) float32: a dark face made lighter; a light one as it was.

    A gamma that lifts the mean to mid-grey, at most 1/2.2, then contrast-limited adaptive histogram equalisation
    (Zuiderveld, Graphics Gems IV, 1994).
    """
    height, width = luma.shape  # what is dark behind a face says nothing of the face
    mean = float(luma[height // 4 : height * 9 // 10, width // 4 : width - width // 4].mean())
    part = _ramp(-mean, -_DARK[0], -_DARK[1])
    if part == 0:
        return luma
    gamma = max(1 / 2.2, np.log(110 / 255) / np.log(max(mean, 1) / 255))
    lifted = _bytes(255 * (np.maximum(luma, 0) / 255) ** gamma)
    tiles = int(np.clip(min(luma.shape) // 16, 1, 4))  # a tile of fewer pixels has no histogram worth equalising
    even = cv2.createCLAHE(clipLimit=1.5, tileGridSize=(tiles, tiles)).apply(lifted)
    light = cv2.addWeighted(lifted.astype(np.float32), 0.5, even.astype(np.float32), 0.5, 0)
    return (light * part + luma * (1 - part)).astype(np.float32)


def enlarged(rgb: NDArray[np.uint8], side: int, project: bool) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: Lanczos enlargement (Duchon, J. Appl. Met. 1979).

    With ``project``, one round of back-projection (Irani and Peleg, CVGIP 1991) makes it shrink to what it came from.
    """
    native = rgb.shape[0]
    large: Any = cv2.resize(rgb.astype(np.float32), (side, side), interpolation=cv2.INTER_LANCZOS4)
    if project:
        missing = rgb - cv2.resize(large, (native, native), interpolation=cv2.INTER_AREA)
        large += cv2.resize(missing, (side, side), interpolation=cv2.INTER_CUBIC)
    return _bytes(large)


def sharpened(rgb: NDArray[np.uint8], factor: float, noise: float) -> NDArray[np.uint8]:
    """(S, S, 3) uint8 under a mild unsharp mask as wide as the enlargement ``factor`` asks, weaker on noisy frames.

    Never beyond the values that lie around a pixel, so without halos.
    """
    amount = 0.35 * _ramp(factor, 1.0, 2.5) / (1 + noise / 4)
    if amount == 0:
        return rgb
    sharp = cv2.addWeighted(rgb, 1 + amount, cv2.GaussianBlur(rgb, (0, 0), 0.5 * factor), -amount, 0)
    box = np.ones((2 * round(factor) + 1,) * 2, np.uint8)
    return _bytes(cv2.max(cv2.min(sharp, cv2.dilate(rgb, box)), cv2.erode(rgb, box)))


def _padded(luma: Gray, kernel: Gray, pad: int) -> tuple[Gray, NDArray[np.complexfloating[Any, Any]]]:
    """``luma`` with a mirrored rim, so that its edges do not ring, and ``kernel``'s transfer function at that size."""
    wide = cv2.copyMakeBorder(luma, pad, pad, pad, pad, cv2.BORDER_REFLECT).astype(np.float32, copy=False)
    spread = np.zeros(wide.shape, np.float32)
    k = kernel.shape[0]
    spread[:k, :k] = kernel
    return wide, np.fft.rfft2(np.roll(spread, (-(k // 2), -(k // 2)), (0, 1)))


def _calmed(sharp: Gray, luma: Gray) -> Gray:
    """``sharp`` held near the values around each pixel of ``luma``: deconvolution may steepen, not ring."""
    box, slack = np.ones((5, 5), np.uint8), np.float32(12)
    return np.clip(sharp, cv2.erode(luma, box) - slack, cv2.dilate(luma, box) + slack)


def _ramp(value: float, start: float, whole: float) -> float:
    """0 up to ``start``, 1 from ``whole``, straight between: no step that would flicker from frame to frame."""
    return float(np.clip((value - start) / (whole - start), 0, 1))


def _bytes(image: Any) -> NDArray[np.uint8]:
    """Rounded and held within 0..255."""
    result: Any = image if image.dtype == np.uint8 else cv2.addWeighted(image, 1, image, 0, 0, dtype=cv2.CV_8U)
    return result  # type: ignore[no-any-return]
