"""Settings of a run that can be repeated: everything that makes two runs differ is held fast, and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from ..config import Config
from ..errors import redact


def pinned(config: Config) -> Config:
    """``config`` with single precision on the CPU, one thread a network, one face at a time and frames in the host's
    memory, where they are hashed.

    What the user has named stays: a provider, a number of threads, an enhancer.  Where none was named, faces are
    changed by classical filters, which learn nothing.
    """
    enhancer = config.enhancer.model_copy(update={"batch": 1})
    if "kind" not in config.enhancer.model_fields_set:
        enhancer = enhancer.model_copy(update={"kind": "classical"})
    return config.model_copy(
        update={
            "enhancer": enhancer,
            "frames": "host",
            "threads": config.threads or 1,
            "precision": "fp32" if config.precision == "auto" else config.precision,
            "provider": "cpu" if config.provider == "auto" else config.provider,
        }
    )


def recorded(config: Config) -> dict[str, object]:
    """``config`` as a manifest or a case holds it: without credentials."""
    evidence, live = config.evidence, config.live
    hidden = {
        "evidence": evidence.model_copy(update={"tsa": evidence.tsa and redact(evidence.tsa)}),
        "live": live.model_copy(update={"detect_url": redact(live.detect_url)}),
    }
    return config.model_copy(update=hidden).model_dump(mode="json")


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV's functions work in one thread: its optical flow depends on their number."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
