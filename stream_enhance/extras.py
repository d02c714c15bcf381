"""How to install what an optional feature needs, into the installation that runs.

stream-enhance is installed from a checkout or a wheel, not from the Python Package Index, so the command depends on
where this installation came from (PEP 610: pip leaves that in ``direct_url.json``).
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit


def install_hint(extra: str) -> str:
    """The command that adds the optional dependencies ``extra`` (``web``, ``mqtt``, ...) to this installation."""
    python = sys.executable or "python3"
    return f"{python} -m pip install {_origin(extra)}"


def _origin(extra: str) -> str:
    """What pip installs again, with ``extra``."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return f"-e '{checkout}[{extra}]'"
    url = _direct_url()
    if url.startswith("file://"):
        return f"'{unquote(urlsplit(url).path)}[{extra}]'"
    return f"'stream-enhance[{extra}] @ {url}'" if url else f"'stream-enhance[{extra}]'"


def _direct_url() -> str:
    """Where pip found this distribution; "" where it came from an index or was not installed."""
    try:
        written = metadata.distribution("stream-enhance").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return ""
    return str(json.loads(written)["url"]) if written else ""
