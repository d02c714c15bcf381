"""What the commands of `train/` share: how they end (one line on stderr for what went wrong, and an exit code), and
the JSON files that they are given."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in `path`, which should be `what`. Raises InputError."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name {what}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); name {what}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, not an object with keys; name {what}")
    return found
