"""What the line asks of a sink."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Protocol

from ..types import Rendered


class Sink(Protocol):
    """A stage that writes frames and yields them on; ``finish`` after the line has ended."""

    name: str
    takes_side_packets: bool  # whether the source's other streams are of use to it
    upright: bool  # whether frames must be turned as a player shows them, as its files hold no rotation

    def __call__(self, items: Iterable[Rendered]) -> Generator[Rendered, None, None]:
        """Write each frame, then yield it."""
        ...

    def finish(self) -> None:
        """Make what was written the finished output.

        Raises:
            OutputError: an output of a recording is incomplete.
        """
        ...

    def outputs(self) -> list[dict[str, Any]] | None:
        """For the report: what each output got; None where that is the frames alone."""
        ...
