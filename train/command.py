"""How the commands of `train/` end: one line on stderr for what went wrong, and an exit code."""

import sys
from collections.abc import Callable

from stream_enhance.errors import InputError, StreamEnhanceError


def ended(act: Callable[[], None]) -> int:
    """Run `act`: 0, or 2 where what was given cannot be used, or 1 where the run failed."""
    try:
        act()
    except (InputError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"error: {told}", file=sys.stderr)
        return 2
    except StreamEnhanceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
