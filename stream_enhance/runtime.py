"""Threads and channels: how a line of stages runs.

A stage is a function from an inbox to a generator.  Each stage gets one thread; a bounded ``Channel`` joins it to the
next.  Without threads the same stages compose by hand, ``sink(overlay(enhance(detect(source))))``, which is how most
tests call them.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds, upper bounds of ``Worker.took``
Stage = Callable[[Iterable[Any]], Generator[Any, None, None]]


class Cancelled(Exception):
    """The line is being torn down; unwinds a stage blocked on a channel."""


class Channel(Generic[T]):
    """A bounded FIFO between two stages that knows when it has ended.

    ``close`` ends it gently: the consumer still gets what is queued.  ``cancel`` ends it now, on both sides.
    Counts what it ``dropped``, its longest queue, and the seconds each side ``waited`` on it.

    Args:
        size: items that it holds.
        when_full: what ``put`` does then.
        cost: what one item costs, in the unit of ``budget`` (bytes, say).
        budget: what all items in it may cost together; one item always fits.
    """

    def __init__(
        self,
        size: int,
        when_full: Literal["wait", "drop_oldest"] = "wait",
        cost: Callable[[T], int] = lambda item: 0,
        budget: int = 0,
    ) -> None:
        self.size, self.when_full = size, when_full
        self._cost, self._budget, self._spent = cost, budget, 0
        self.dropped = self.longest = 0
        self.put_waited = self.take_waited = 0.0
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = self._cancelled = False

    def put(self, item: T) -> None:
        """Queue ``item``, waiting for room or dropping the oldest; raises ``Cancelled`` once cancelled."""
        with self._changed:
            cost = self._cost(item)
            if self._is_full(cost) and not self._cancelled:
                if self.when_full == "drop_oldest":
                    while self._is_full(cost):
                        self._pop()
                        self.dropped += 1
                else:
                    started = time.monotonic()
                    self._changed.wait_for(lambda: not self._is_full(cost) or self._cancelled)
                    self.put_waited += time.monotonic() - started
            if self._cancelled:
                raise Cancelled
            self._items.append(item)
            self._spent += cost
            self.longest = max(self.longest, len(self._items))
            self._changed.notify_all()

    def take(self, limit: int = 1) -> list[T]:
        """Wait for one item, then take what is already there, up to ``limit``.  Empty at the end."""
        with self._changed:
            if not (self._items or self._closed or self._cancelled):
                started = time.monotonic()
                self._changed.wait_for(lambda: bool(self._items) or self._closed or self._cancelled)
                self.take_waited += time.monotonic() - started
            if self._cancelled:
                raise Cancelled
            taken = [self._pop() for _ in range(min(limit, len(self._items)))]
            self._changed.notify_all()
            return taken

    def _is_full(self, cost: int) -> bool:
        """Whether an item of ``cost`` has no room."""
        over_budget = bool(self._items) and 0 < self._budget < self._spent + cost
        return len(self._items) >= self.size or over_budget

    def _pop(self) -> T:
        item = self._items.popleft()
        self._spent -= self._cost(item)
        return item

    def drop_while(self, too_old: Callable[[T], bool]) -> None:
        """Drop, and count, items at the head for which ``too_old`` holds, but never the newest."""
        with self._changed:
            while len(self._items) > 1 and too_old(self._items[0]):
                self._pop()
                self.dropped += 1
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        while taken := self.take():
            yield taken[0]

    def close(self) -> None:
        """There will be no more items; what is queued can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """End now; what was queued is dropped and counted."""
        with self._changed:
            self._cancelled = True
            self.dropped += len(self._items)
            self._items.clear()
            self._spent = 0
            self._changed.notify_all()


def batches(items: Iterable[T], limit: int) -> Iterator[list[T]]:
    """What is waiting in a channel, up to ``limit`` at once; of any other iterable, one at a time."""
    if isinstance(items, Channel):
        while batch := items.take(limit):
            yield batch
    else:
        for item in items:
            yield [item]


@dataclass
class Worker:
    """One stage, its thread and what it has done so far."""

    name: str
    stage: Stage
    inbox: Iterable[Any]
    outbox: Channel[Any] | None
    count: int = 0
    busy: float = 0.0  # seconds spent in the stage itself, not waiting for either neighbour
    took: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))  # items by busy seconds; the last: longer
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def start(self, on_error: Callable[[], None]) -> None:
        """Start the thread; an error in its stage calls ``on_error`` in it."""
        self.thread = threading.Thread(target=self._run, args=(on_error,), name=self.name, daemon=True)
        self.thread.start()

    def _run(self, on_error: Callable[[], None]) -> None:
        begun = time.monotonic(), self._waited()
        try:
            with closing(self.stage(self.inbox)) as items:  # its own ``with`` blocks end here, in this thread
                for item in items:
                    self.count += 1
                    busy = self._passed(begun)
                    self.busy += busy
                    self.took[bisect_left(BUCKETS, busy)] += 1
                    begun = time.monotonic(), self._waited()
                    if self.outbox is not None:
                        self.outbox.put(item)
        except Cancelled:
            pass
        except BaseException as error:
            error.add_note(f"in stage {self.name!r}, after {self.count} items")
            self.error = error
            on_error()
        finally:
            self.busy += self._passed(begun)
            if self.outbox is not None:
                self.outbox.close()

    def _waited(self) -> float:
        """Seconds spent waiting for either neighbour so far."""
        waited = self.inbox.take_waited if isinstance(self.inbox, Channel) else 0.0
        return waited + (self.outbox.put_waited if self.outbox is not None else 0.0)

    def _passed(self, begun: tuple[float, float]) -> float:
        """Busy seconds since ``begun``, a time and what had been waited by then."""
        return max(0.0, time.monotonic() - begun[0] - (self._waited() - begun[1]))


class Line:
    """A source and its stages, each in a thread of its own; ``channels[i]`` stands in front of ``stages[i]``.

    With one channel more than there are stages, what the last stage yields goes into the last channel.
    """

    def __init__(
        self, source: Generator[Any, None, None], stages: dict[str, Stage], channels: list[Channel[Any]]
    ) -> None:
        if len(channels) not in (len(stages), len(stages) + 1):
            raise ValueError("one channel in front of every stage, and at most one after the last")
        self.channels = channels
        self._stopping = threading.Event()
        self.cancelled = False
        outboxes: list[Channel[Any] | None] = [*channels[1:], None]
        self.workers = [Worker("source", lambda _: self._until_stopped(source), (), channels[0])]
        for (name, stage), inbox, outbox in zip(stages.items(), channels, outboxes, strict=False):
            self.workers.append(Worker(name, stage, inbox, outbox))

    def _until_stopped(self, source: Generator[T, None, None]) -> Generator[T, None, None]:
        with closing(source):
            for item in source:
                if self._stopping.is_set():
                    return
                yield item

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Start all threads; an error in one of them cancels the line."""
        for worker in self.workers:
            worker.start(self.cancel)

    def join(self) -> None:
        """Wait for every stage; raise the first error any of them had.

        Waits in slices, so that the main thread still sees signals.
        """
        for worker in self.workers:
            while worker.thread.is_alive():
                worker.thread.join(0.2)
        errors = [w.error for w in self.workers if w.error is not None]
        if errors:
            raise errors[0] if len(errors) == 1 else BaseExceptionGroup("stages failed", errors)

    def run(self) -> None:
        """Run to the end of the source; raise the first error any stage had."""
        self.start()
        self.join()

    def stop(self) -> None:
        """End the source; what is in flight still reaches the sink."""
        self._stopping.set()

    def cancel(self) -> None:
        """Tear down now: every blocked stage wakes up and unwinds."""
        self.cancelled = True
        self._stopping.set()
        for channel in self.channels:
            channel.cancel()
