"""What the documentation names is there: files, options, settings; and the site builds."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from stream_enhance.cli.main import cli
from stream_enhance.config import Config
from stream_enhance.report import Report
from stream_enhance.stages.enhance import LeftAlone

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "engines").glob("*.md")])
GENERATED = {
    "reference/cli.md", "reference/configuration.md", "reference/cameras.md", "reference/report.md", "security.md",
    "contributing.md", "changelog.md", "models/unet.md", "models/yolov8n-face.md",
}  # fmt: skip


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        yield prefix + name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_point_to_what_there_is(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text()):
        if "://" in target:
            continue
        there = (page.parent / target).resolve()
        generated = (ROOT / "docs") in there.parents and there.relative_to(ROOT / "docs").as_posix() in GENERATED
        assert there.exists() or generated, f"{page.name}: {target}"


CURRENT = [
    page for page in PAGES if page.name != "detector.md" and page.parent.name != "reports"
]  # not of older versions


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_settings_and_options_exist(page: Path) -> None:
    text = page.read_text()
    if page.name == "CHANGELOG.md":  # has old names, too
        text = text[: text.index("### Deprecated")]
    known, sections = set(keys(Config)), "source|live|detector|tracker|enhancer|overlay|sink|segments|evidence"
    for key in re.findall(rf"`(?:--set )?((?:{sections})\.[a-z_.]+)", text):
        assert key in known, f"{page.name}: {key}"
    for line in re.findall(r"^(?:\S*/)?stream-enhance ([a-z].*?)(?:#.*)?$", text, re.M):
        command, *words = line.split()
        assert isinstance(cli, click.Group)
        found = cli.get_command(click.Context(cli), command)
        assert found is not None, f"{page.name}: {command}"
        options = {option for parameter in found.params for option in parameter.opts} | {"-h", "--help"}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= options, f"{page.name}: {line}"


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material: pip install '.[docs]'")
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    text = (tmp_path / "reference" / "configuration.html").read_text()
    assert all(key in text for key in keys(Config))
    assert "--gallery" in (tmp_path / "reference" / "cli.html").read_text()


@pytest.mark.parametrize("reason", [field.name for field in fields(LeftAlone)])
def test_each_reason_to_leave_a_face_alone_is_explained(reason: str) -> None:
    assert reason in (Report.model_fields["faces_left_alone"].description or "")
    assert f"| `{reason}` |" in (ROOT / "docs" / "how-to" / "footage.md").read_text()
