"""Which commit the code stands at, for the cards of exported networks."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that this checkout stands at, or "unknown" outside a checkout."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return found.stdout.strip() if found.returncode == 0 else "unknown"
