"""Many threads, one network: right answers, merged batches, failures that stay with their cause."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream_enhance.backends import open_session
from stream_enhance.backends.batching import BatchingSession
from stream_enhance.errors import LineError
from tests.conftest import Models

pytestmark = pytest.mark.timeout(60)


class Doubling:
    """A slow network that doubles its input, and fails on a negative one."""

    card: Any = SimpleNamespace(name="doubling")
    path, sha256, provider, precision = Path("doubling.onnx"), "", "cpu", "fp32"
    input_size: tuple[int, int] | None = None
    closed = False

    def __call__(self, batch: Any) -> Any:
        time.sleep(0.01)
        if (batch < 0).any():
            raise ValueError("poison")
        return 2 * batch

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def together(count: int, work: Any) -> None:
    """Call ``work(i)`` in so many threads, started at once."""
    gate = threading.Barrier(count)

    def go(i: int) -> None:
        gate.wait()
        work(i)

    threads = [threading.Thread(target=go, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_each_caller_gets_its_own_answer_whatever_was_merged() -> None:
    wrong: list[int] = []
    with BatchingSession(Doubling(), limit=8, wait=0.05) as session:

        def work(i: int) -> None:
            for k in range(20):
                rows, side = 1 + (i + k) % 3, 4 if i % 3 else 6
                batch = np.full((rows, 3, side, side), 100 * i + k, np.float32)
                if not np.array_equal(session(batch), 2 * batch):
                    wrong.append(i)

        together(6, work)
        assert not wrong
        assert max(session.sizes) > 3, "batches of several callers"
        assert max(session.sizes) <= 8


def test_a_poisoned_request_fails_alone() -> None:
    results: dict[int, Any] = {}
    with BatchingSession(Doubling(), wait=0.2) as session:
        session(np.ones((1, 1), np.float32))

        def work(i: int) -> None:
            try:
                results[i] = session(np.full((1, 1), -1 if i == 2 else i, np.float32)).item()
            except ValueError as error:
                results[i] = str(error)

        together(4, work)
    assert results == {0: 0, 1: 2, 2: "poison", 3: 6}


def test_a_lone_caller_does_not_wait_for_others() -> None:
    with BatchingSession(Doubling(), wait=5.0) as session:
        session(np.ones((1, 1), np.float32))  # with a wait of five seconds each, the time limit would be passed
        for _ in range(30):
            session(np.ones((1, 1), np.float32))


def test_nobody_starves() -> None:
    counts = [0] * 4
    end = time.monotonic() + 2
    with BatchingSession(Doubling(), limit=4) as session:

        def work(i: int) -> None:
            rows = 4 if i == 0 else 1  # one greedy caller fills a batch by itself
            while time.monotonic() < end:
                session(np.ones((rows, 2), np.float32))
                counts[i] += 1

        together(4, work)
    assert min(counts) * 3 > max(counts)


def test_closing_ends_its_thread_and_the_network() -> None:
    inner = Doubling()
    before = threading.active_count()
    with BatchingSession(inner) as session:
        session(np.ones((1, 1), np.float32))
    assert inner.closed
    assert threading.active_count() == before
    with pytest.raises(LineError):
        session(np.ones((1, 1), np.float32))


def test_merged_answers_are_those_of_the_network_alone(models: Models) -> None:
    generator = np.random.default_rng(3)
    batches = [generator.random((n, 3, 64, 64), np.float32) for n in (1, 2, 1)]
    with open_session(models.enhancer, "face-enhancement", "cpu", 1) as alone:
        expected = [alone(batch) for batch in batches]
    results: dict[int, Any] = {}
    with BatchingSession(open_session(models.enhancer, "face-enhancement", "cpu", 1), wait=0.2) as session:
        together(3, lambda i: results.__setitem__(i, session(batches[i])))
    for i, wanted in enumerate(expected):
        np.testing.assert_allclose(results[i], wanted, atol=1e-5)
