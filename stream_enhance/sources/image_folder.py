"""A folder of images, read as a video."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ..errors import SourceError
from ..imaging.planes import LAYOUTS
from ..types import Frame, StreamInfo
from .base import SourceOptions, SourceStatus
from .container import open_file
from .formats import IMAGES

log = logging.getLogger(__name__)


class ImageFolder:
    """The images of a folder in name order, as a video of ``options.rate`` frames a second.

    Raises:
        SourceError: no images in it.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        self.name, self._options = str(folder), options
        self.started = time.monotonic()
        try:
            self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
        except OSError as error:
            raise SourceError(f"{folder}: cannot be read ({error.strerror})") from None
        if not self._files:
            raise SourceError(f"{folder}: holds no images; for a folder of videos use `stream-enhance batch`")
        self._rate = Fraction(options.rate).limit_denominator(1001)
        first = round(options.start * self._rate)
        last = None if options.end is None else round(options.end * self._rate)
        self._files = self._files[first:last]
        count = len(self._files)
        self._info = StreamInfo(
            self.name, rate=self._rate, frame_count=count, format="images", duration=count / options.rate, stills=True
        )
        self._corrupt = 0
        self._stopping = threading.Event()

    @property
    def info(self) -> StreamInfo:
        """What is known of the images."""
        return self._info

    def status(self) -> SourceStatus:
        """How it is at this moment."""
        return SourceStatus(corrupt=self._corrupt)

    def wait_ready(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """It is ready at once."""

    def stop(self) -> None:
        """End ``frames`` after the image that is being read."""
        self._stopping.set()

    def close(self) -> None:
        """Nothing is held open."""

    def frames(self, side_packets: bool = True) -> Generator[Frame, None, None]:
        """Each image that can be read, as a frame named after its file.

        Raises:
            SourceError: there was not one.
        """
        time_base = 1 / self._rate
        one = self._options.model_copy(update={"start": 0.0, "end": None})
        index = 0
        for path in self._files:
            if self._stopping.is_set():
                break
            try:
                with closing(open_file(path, str(path), one)) as source, closing(source.frames()) as frames:
                    frame = next(frames)
            except SourceError as error:
                self._corrupt += 1
                reason = str(error).removeprefix(f"{path}: ")
                log.warning("%s: not a readable image, passed over (%s)", path, reason)
                continue
            image = frame.image
            if LAYOUTS[image.format.name].kind == "gray" and int(image.color_range) == 0:
                image.color_range = 2  # as in every grey image file; a PGM has no tag for it
            image.pts, image.time_base = index, time_base
            yield replace(
                frame, index=index, pts=index, time_base=time_base, duration=1, name=path.name, stream=self._info
            )
            index += 1
        if index == 0:
            raise SourceError(f"{self.name}: not one image in it could be read")
