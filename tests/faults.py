"""Where the faulty inputs that were reported are, for tests beside those that make their own."""

from pathlib import Path

import pytest

FAULTS = next(
    (folder for parent in Path(__file__).resolve().parents if (folder := parent / "shared" / "faults").is_dir()),
    Path("shared/faults"),
)
needs_faults = pytest.mark.skipif(not FAULTS.is_dir(), reason="the faulty inputs that were reported are not here")
