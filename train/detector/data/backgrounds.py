"""Places without faces for made scenes: the CC0 panoramas of the npm package @pmndrs/assets as PNG.

`npm pack @pmndrs/assets@1.7.0`, unpack it, and `python -m train.detector backgrounds package/hdri runs/backgrounds`.
Needs the OpenEXR package: OpenCV's wheels are built without that format.
"""

import base64
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_enhance.errors import InputError
from train.common.images import Image


def convert(folder: Path, target: Path) -> int:
    """Every `*.exr.js` of `folder` as a PNG in `target`; how many. Raises InputError where there is none."""
    sources = sorted(folder.glob("*.exr.js"))
    if not sources:
        raise InputError(f"{folder}: no *.exr.js; unpack the npm package @pmndrs/assets and name its folder hdri")
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        cv2.imwrite(str(target / f"{source.name.split('.')[0]}.png"), tone_map(read_exr_js(source))[:, :, ::-1])
    return len(sources)


def read_exr_js(path: Path) -> NDArray[np.float32]:
    """(H, W, 3) linear light, RGB, of an OpenEXR file that is base64 inside a JavaScript module."""
    try:
        import OpenEXR
    except ModuleNotFoundError:
        raise InputError("backgrounds need the OpenEXR package: pip install OpenEXR") from None
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text())
    if found is None:
        raise InputError(f"{path}: holds no base64 image")
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(base64.b64decode(found[1]))
        file.flush()
        with OpenEXR.File(file.name) as exr:
            channels = exr.channels()
            planes = [channels[name].pixels for name in (channels if len(channels) == 1 else "RGB")]
    light = planes[0] if len(planes) == 1 else np.dstack(planes)
    return np.clip(np.nan_to_num(light[..., :3].astype(np.float32), posinf=1e4), 0, 1e4)


def tone_map(light: NDArray[np.float32]) -> Image:
    """Reinhard's curve on the light over its 80th percentile, then gamma 2.2: (H, W, 3) uint8."""
    scaled = light / max(float(np.percentile(light, 80)), 1e-6)
    return (np.clip(1.7 * scaled / (1 + scaled), 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
