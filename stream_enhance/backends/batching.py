"""One network for many callers: what they ask for at the same moment runs as one batch.

Each caller waits for its own answer, so no caller can have more than one request in the queue, and the queue is served
in order: that is all the fairness there is to it.  A request that makes the network fail fails alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import LineError
from . import Session, infer
from .preprocessing import Batch

if TYPE_CHECKING:
    import torch

_ACTIVE = 1.0  # seconds since its last request in which a caller is still worth waiting for


@dataclass(eq=False)
class _Request:
    batch: Batch | torch.Tensor
    done: threading.Event = field(default_factory=threading.Event)
    result: NDArray[np.float32] | None = None
    error: Exception | None = None


class BatchingSession:
    """A ``Session`` that merges the requests of several threads.

    Args:
        session: the network; closed with this.
        limit: rows of a batch at most; a single larger request still runs.
        wait: seconds to wait for the other callers of late, once there is something to do.
    """

    def __init__(self, session: Session, limit: int = 16, wait: float = 0.005) -> None:
        self._session, self._limit, self._wait = session, limit, wait
        self.card, self.path, self.sha256, self.provider = session.card, session.path, session.sha256, session.provider
        self.precision = session.precision
        self.input_size = session.input_size
        self.sizes: Counter[int] = Counter()  # rows: batches of so many
        self._requests: deque[_Request] = deque()
        self._callers: dict[int, float] = {}  # thread: when it last asked
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"batches of {session.card.name}", daemon=True)
        self._thread.start()

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """See ``Session``; run in one batch with other callers' rows.

        Raises:
            LineError: the session is closed.
        """
        return self._asked(_Request(batch))

    def from_device(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """See ``TakesTensors``."""
        return self._asked(_Request(batch))

    def _asked(self, request: _Request) -> NDArray[np.float32]:
        with self._changed:
            if self._closed:
                raise LineError(f"{self.card.name}: asked after it was closed")
            self._callers[threading.get_ident()] = time.monotonic()
            self._requests.append(request)
            self._changed.notify_all()
        request.done.wait()
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    def _run(self) -> None:
        while taken := self._take():
            self._answer(taken)

    def _take(self) -> list[_Request]:
        """The next requests of one shape, oldest first; none once closed."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._requests) or self._closed)
            if not self._requests:
                return []
            now = time.monotonic()
            self._callers = {caller: asked for caller, asked in self._callers.items() if now - asked < _ACTIVE}
            expected = len(self._callers)
            self._changed.wait_for(lambda: len(self._requests) >= expected or self._closed, self._wait)
            first = self._requests.popleft()
            taken, rows, left = [first], len(first.batch), deque[_Request]()
            for request in self._requests:
                if _kind(request.batch) == _kind(first.batch) and rows + len(request.batch) <= self._limit:
                    taken.append(request)
                    rows += len(request.batch)
                else:
                    left.append(request)
            self._requests = left
            return taken

    def _answer(self, taken: list[_Request]) -> None:
        try:
            whole = _stacked([request.batch for request in taken])
            result = infer(self._session, whole)
            self.sizes[len(whole)] += 1
        except Exception as error:  # the caller's to handle, whatever it is
            if len(taken) > 1:
                for request in taken:  # only the one to blame shall fail
                    self._answer([request])
                return
            taken[0].error = error
            taken[0].done.set()
            return
        start = 0
        for request in taken:
            request.result = result[start : start + len(request.batch)]
            start += len(request.batch)
            request.done.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._session.__exit__(kind, error, trace)


def _kind(batch: Any) -> tuple[object, ...]:
    """Batches of one kind can be merged."""
    return type(batch), *batch.shape[1:]


def _stacked(batches: list[Any]) -> Any:
    if len(batches) == 1:
        return batches[0]
    if isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)
    import torch

    return torch.cat(batches)
