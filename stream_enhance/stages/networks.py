"""What changes faces: one ``match`` from ``enhancer.kind`` to a function on patches.

Another kind is a name in ``options.EnhancerKind``, a case in ``open_enhancement`` and a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..backends.preprocessing import Batch, to_images, to_input
from ..errors import ModelError
from ..options import EnhancerKind
from .classical import Classical, ClassicalOptions
from .past import THUMB, Past

# (n, S, S, 3) uint8 RGB patches and (n,) frame pixels a patch pixel, to enhanced patches
Network = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]]
# (n, S, S, 3) uint8 RGB patches and (n, 1, S, S) the past of their tracks, `Past.plane`, to enhanced patches and their
# expected absolute error (n, THUMB, THUMB) of 0..1, None from a network that does not give it
Along = Callable[[NDArray[np.uint8], NDArray[np.float32]], tuple[NDArray[np.uint8], NDArray[np.float32] | None]]


@dataclass(frozen=True, slots=True)
class Enhancement:
    """What changes faces, and the patches that it takes."""

    network: Network | None  # None: nothing is changed
    size: int = 256  # pixels, the patch's side
    align: bool = True  # by the five points where a face has them; else upright by its box
    along: Along | None = None  # in place of `network`, for one that sees a track's past; None: each frame by itself
    weighs: bool = False  # `along` gives the error that it expects
    changed_by: str = ""  # for the output's metadata and the gallery's page
    fuses: bool = False  # the network is given the mean of a track's last inputs in place of the newest


def open_enhancement(
    kind: EnhancerKind, classical: ClassicalOptions, open_session: Callable[[], Session]
) -> Enhancement:
    """What ``enhancer.kind`` names.

    Args:
        classical: the steps of the classical chain.
        open_session: opens the network, for the kinds that have one.

    Raises:
        ModelError: from ``open_session``.
    """
    match kind:
        case "none":
            return Enhancement(None)
        case "classical":
            return Enhancement(Classical(classical), changed_by="classical filters")
        case "fuse":
            return Enhancement(
                lambda patches, scales: patches, changed_by="a mean of frames, nothing learned", fuses=True
            )
        case "unet":
            session = open_session()
            aligned = session.card.alignment == "five-points"
            network = UNet(session)
            along = network.along if session.card.inputs != ("frame",) else None
            weighs = along is not None and "log_error" in session.card.outputs
            return Enhancement(network, session.card.size, aligned, along, weighs, "a neural network")


class UNet:
    """An enhancement session as a ``Network``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, patches: NDArray[np.uint8], scales: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(n, S, S, 3) uint8 RGB patches, enhanced; ``scales`` is not used.

        Raises:
            ModelError: the model gives another shape than it takes.
        """
        if self._session.card.inputs != ("frame",):
            return self.along(patches, np.stack([Past.of(patch).plane() for patch in patches]))[0]
        return to_images(self._run(to_input(list(patches), self._session.card)), self._session.card)

    def along(
        self, patches: NDArray[np.uint8], pasts: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """(n, S, S, 3) uint8 RGB patches, enhanced with what their tracks showed before, and their expected error.

        Raises:
            ModelError: the model gives another shape than it takes.
        """
        frames = to_input(list(patches), self._session.card)
        result = self._run(np.concatenate([frames, pasts], 1))
        images = to_images(np.ascontiguousarray(result[:, :3]), self._session.card)
        if "log_error" not in self._session.card.outputs:
            return images, None
        n, cell = len(result), result.shape[-1] // THUMB
        return images, np.exp(result[:, 3]).reshape(n, THUMB, cell, THUMB, cell).mean((2, 4))

    def _run(self, batch: Batch) -> NDArray[np.float32]:
        card = self._session.card
        result = self._session(batch)
        wanted = batch.shape if card.inputs == ("frame",) else (len(batch), card.channels[1], *batch.shape[2:])
        if result.shape != wanted:  # a file may leave its sides open
            raise ModelError(f"{self._session.path}: gives {result.shape}, not {wanted}; export it again")
        return result
