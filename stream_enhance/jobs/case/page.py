"""The case as one page that works from a disk: timeline, player, faces, notes and method."""

from __future__ import annotations

import html
import json
import re
from importlib import resources

from .method import Section, notice, sections
from .record import Case
from .shots import HOTTEST


def page(case: Case) -> str:
    """``index.html``."""
    static = resources.files(__package__) / "static"
    parts = {name: (static / f"case.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    values = {
        "title": html.escape(case.title),
        "notice": html.escape(notice(case)),
        "hottest": f"{HOTTEST:.0f}",
        "method": "\n".join(_section(section) for section in sections(case)),
        "css": parts["css"],
        "data": _script_json(case),
        "js": parts["js"],
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], parts["html"])  # once: a title may hold {{js}}


def _script_json(case: Case) -> str:
    """The case as JSON that cannot end the script it stands in."""
    data = case.model_dump(mode="json", by_alias=True, exclude={"settings"})
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _section(section: Section) -> str:
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in section.rows)
    text = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs)
    return f"<h2>{html.escape(section.title)}</h2>{text}" + (f"<table>{rows}</table>" if rows else "")
