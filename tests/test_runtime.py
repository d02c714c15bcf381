import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import pytest

from stream_enhance.runtime import Cancelled, Channel, Line, Stage, batches

pytestmark = pytest.mark.timeout(20)


def each(change: Callable[[Any], Any]) -> Stage:
    def stage(items: Iterable[Any]) -> Generator[Any, None, None]:
        for item in items:
            yield change(item)

    return stage


def collect(into: list[Any]) -> Stage:
    def stage(items: Iterable[Any]) -> Generator[Any, None, None]:
        for item in items:
            into.append(item)
            yield item

    return stage


def numbers(count: int) -> Generator[int, None, None]:
    yield from range(count)


def endless() -> Generator[int, None, None]:
    number = 0
    while True:
        yield number
        number += 1
        time.sleep(0.001)


def ended(line: Line, seconds: float = 10) -> BaseException | None:
    """Run ``line`` in a thread; what it raised."""
    raised: list[BaseException] = []

    def go() -> None:
        try:
            line.run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "the line hung"
    return raised[0] if raised else None


def test_everything_arrives_in_order() -> None:
    got: list[int] = []
    line = Line(numbers(1000), {"double": each(lambda x: 2 * x), "sink": collect(got)}, [Channel(4), Channel(4)])
    assert ended(line) is None
    assert got == [2 * i for i in range(1000)]
    assert [worker.count for worker in line.workers] == [1000, 1000, 1000]


@pytest.mark.parametrize("where", ["source", "middle", "sink"])
def test_an_error_in_any_stage_reaches_run_with_the_stages_name(where: str) -> None:
    def boom(item: int) -> int:
        if item == 50:
            raise ValueError("boom")
        return item

    def source() -> Iterator[int]:
        yield from (boom(i) if where == "source" else i for i in range(10_000))

    def stage(name: str) -> Stage:
        return each(boom if where == name else lambda x: x)

    before = threading.active_count()
    line = Line(source(), {"middle": stage("middle"), "sink": stage("sink")}, [Channel(2), Channel(2)])  # type: ignore[arg-type]
    error = ended(line)
    assert isinstance(error, ValueError)
    assert where in error.__notes__[0]
    assert threading.active_count() == before


def test_two_errors_at_once_are_both_reported() -> None:
    both = threading.Barrier(2)

    def boom(item: int) -> int:
        both.wait(5)
        raise ValueError(item)

    line = Line(numbers(2), {"a": each(lambda x: x), "b": each(lambda x: x)}, [Channel(2), Channel(2)])
    line.workers[1].stage = line.workers[2].stage = lambda _: (boom(i) for i in range(1))
    error = ended(line)
    assert isinstance(error, BaseExceptionGroup)
    assert len(error.exceptions) == 2


def test_the_oldest_is_dropped_and_counted_and_the_newest_kept() -> None:
    got: list[int] = []

    def slow(items: Iterable[int]) -> Generator[int, None, None]:
        for item in items:
            time.sleep(0.005)
            yield item

    first: Channel[int] = Channel(2, "drop_oldest")
    assert ended(Line(numbers(500), {"slow": slow, "sink": collect(got)}, [first, Channel(2)])) is None
    assert got == sorted(set(got))
    assert got[-1] == 499
    assert len(got) + first.dropped == 500
    assert first.dropped > 0


def test_drop_while_never_drops_the_newest() -> None:
    channel: Channel[int] = Channel(4)
    for i in range(3):
        channel.put(i)
    channel.drop_while(lambda _: True)
    assert channel.take(4) == [2]
    assert channel.dropped == 2


def test_stop_drains_what_is_in_flight_and_flushes() -> None:
    got: list[int] = []
    flushed: list[bool] = []

    def sink(items: Iterable[int]) -> Generator[int, None, None]:
        for item in items:
            got.append(item)
            yield item
        flushed.append(True)

    line = Line(endless(), {"middle": each(lambda x: x), "sink": sink}, [Channel(4), Channel(4)])
    threading.Timer(0.1, line.stop).start()
    assert ended(line) is None
    assert flushed == [True]
    assert got == list(range(len(got)))
    assert line.workers[0].count == len(got) > 0


@pytest.mark.parametrize("how", ["the end", "cancel", "an error after it"])
def test_what_a_stage_opens_it_closes_in_its_own_thread(how: str) -> None:
    seen: list[str] = []

    def stage(items: Iterable[int]) -> Generator[int, None, None]:
        seen.append(threading.current_thread().name)
        try:
            yield from items
        finally:
            seen.append(threading.current_thread().name)

    def sink(items: Iterable[int]) -> Generator[int, None, None]:
        for item in items:
            if how == "an error after it" and item == 5:
                raise RuntimeError("sink")
            yield item

    source = numbers(10) if how == "the end" else endless()
    line = Line(source, {"enhance": stage, "sink": sink}, [Channel(2), Channel(2)])
    if how == "cancel":
        threading.Timer(0.1, line.cancel).start()
    error = ended(line)
    assert isinstance(error, RuntimeError) if how == "an error after it" else error is None
    assert seen == ["enhance", "enhance"]


@pytest.mark.parametrize("how", ["stop", "cancel", "an error in the sink"])
def test_the_source_is_closed_in_its_own_thread(how: str) -> None:
    closed: list[str] = []

    def source() -> Generator[int, None, None]:
        try:
            yield from endless()
        finally:
            closed.append(threading.current_thread().name)

    def sink(items: Iterable[int]) -> Generator[int, None, None]:
        for count, item in enumerate(items):
            if count == 5 and how == "an error in the sink":
                raise ValueError
            yield item

    line = Line(source(), {"middle": each(lambda x: x), "sink": sink}, [Channel(2), Channel(2)])
    if how in ("stop", "cancel"):
        threading.Timer(0.1, getattr(line, how)).start()
    ended(line)
    assert closed == ["source"]


def test_cancel_wakes_a_stage_that_waits_on_either_side() -> None:
    full: Channel[int] = Channel(1)
    empty: Channel[int] = Channel(1)
    full.put(1)
    woken: list[str] = []

    def waits(name: str, call: Callable[[], Any]) -> threading.Thread:
        def go() -> None:
            with pytest.raises(Cancelled):
                call()
            woken.append(name)

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        return thread

    threads = [waits("put", lambda: full.put(2)), waits("take", empty.take)]
    time.sleep(0.05)
    full.cancel()
    empty.cancel()
    for thread in threads:
        thread.join(5)
    assert sorted(woken) == ["put", "take"]
    assert full.dropped == 1, "what was queued is counted"


def test_what_waits_runs_as_one_batch() -> None:
    sizes: list[int] = []
    got: list[int] = []

    def batcher(items: Iterable[int]) -> Generator[int, None, None]:
        for batch in batches(items, 8):
            sizes.append(len(batch))
            time.sleep(0.002)
            yield from batch

    line = Line(numbers(200), {"batch": batcher, "sink": collect(got)}, [Channel(16), Channel(16)])
    assert ended(line) is None
    assert got == list(range(200))
    assert 1 < max(sizes) <= 8


def test_without_a_channel_batches_are_of_one() -> None:
    assert list(batches([1, 2, 3], 8)) == [[1], [2], [3]]


def test_a_channel_after_the_last_stage_gives_what_it_yields() -> None:
    line = Line(numbers(50), {"double": each(lambda x: 2 * x)}, [Channel(2), Channel(2)])
    line.start()
    assert list(line.channels[-1]) == [2 * i for i in range(50)]
    line.join()


def test_busy_time_leaves_out_waiting_for_neighbours() -> None:
    def slow(items: Iterable[int]) -> Generator[int, None, None]:
        for item in items:
            time.sleep(0.01)
            yield item

    line = Line(numbers(30), {"slow": slow, "sink": each(lambda x: x)}, [Channel(2), Channel(2)])
    assert ended(line) is None
    source, middle, sink = line.workers
    assert middle.busy >= 0.3, "it slept thirty times a hundredth"
    assert source.busy + sink.busy < middle.busy, "they only waited for it"


def test_the_number_of_channels_is_checked() -> None:
    with pytest.raises(ValueError, match="one channel"):
        Line(numbers(1), {"a": each(lambda x: x)}, [])
