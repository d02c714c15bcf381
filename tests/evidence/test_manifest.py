"""The manifest: what is written is read again, and nothing in it can be changed unseen."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from stream_enhance.errors import EvidenceError
from stream_enhance.evidence.manifest import (
    GENESIS,
    Event,
    FaceEntry,
    FileEntry,
    Footer,
    FrameEntry,
    Header,
    Line,
    ModelEntry,
    OutputEntry,
    ProgramEntry,
    SourceEntry,
    chained,
    read,
)

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "ab" * 32


def example() -> list[Line]:
    program = ProgramEntry(version="0", python="3", system="Linux", processor="x", cores=2, libraries={"av": "18"})
    source = SourceEntry(name="a.mp4", kind="file", width=64, height=48, time_base="1/25")
    face = FaceEntry(
        track=1,
        box=(1, 2, 30.5, 40),
        points=((1, 2),) * 5,
        score=0.9,
        decision="enhanced",
        affine=((0.1, 0, 3), (0, 0.1, 4)),
        strength=0.5,
        consistency=0.97,
    )
    return [
        Header(
            run="r",
            started="2026-01-01T00:00:00+00:00",
            program=program,
            source=source,
            learned=True,
            settings={"threads": 1},
            settings_sha256=DIGEST,
        ),
        FrameEntry(index=0, pts=0, input=DIGEST, output=DIGEST, faces=(face,)),
        Event(event="damaged", frame=1, count=2),
        FrameEntry(index=1, pts=1, input=DIGEST, output=None, dropped=True),
        Footer(
            complete=True,
            ended="2026-01-01T00:00:01+00:00",
            frames_in=2,
            frames_out=1,
            frames_dropped=1,
            faces={"enhanced": 1},
        ),
    ]


def written(path: Path, lines: list[Line]) -> list[bytes]:
    value, raw = GENESIS, []
    for line in lines:
        value, text = chained(value, line)
        raw.append(text)
    path.write_bytes(gzip.compress(b"".join(raw)))
    return raw


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl.gz"
    written(path, example())
    assert [line for line, _ in read(path)] == example()


def test_a_changed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl.gz"
    raw = written(path, example())
    raw[1] = raw[1].replace(b'"decision":"enhanced"', b'"decision":"cached"')
    path.write_bytes(gzip.compress(b"".join(raw)))
    with pytest.raises(EvidenceError, match="line 2: does not follow"):
        list(read(path))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[:-20], "cut off"),
        (lambda data: gzip.compress(b"".join(gzip.decompress(data).splitlines(True)[:-1])), "without a footer"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-5]), "cut off"),
        (lambda data: data + b"x", "behind its end"),
        (lambda data: b"nonsense" + data, "not a whole gzip file"),
        (
            lambda data: gzip.compress(gzip.decompress(data).replace(b'"version":1,', b'"version":9,', 1)),
            "schema version 9",
        ),
        (lambda data: gzip.compress(b"".join(gzip.decompress(data).splitlines(True)[1:])), "line 1"),
        (lambda data: gzip.compress(b'{"a":1}\n'), "line 1: has no chain value"),
        (lambda data: gzip.compress(b""), "without a footer"),
    ],
)
def test_a_damaged_manifest_is_one_clear_line(tmp_path: Path, spoil: object, says: str) -> None:
    path = tmp_path / "manifest.jsonl.gz"
    written(path, example())
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(EvidenceError, match=re.escape(says)) as caught:
        list(read(path))
    assert "\n" not in str(caught.value)


def test_parts_are_chained(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl.gz"
    header, *rest = example()
    assert isinstance(header, Header)
    later = header.model_copy(update={"part": 2, "previous": DIGEST})
    value, first = chained(DIGEST, later)
    raw = [first]
    for line in rest:
        value, text = chained(value, line)
        raw.append(text)
    path.write_bytes(gzip.compress(b"".join(raw)))
    assert [v for _, v in read(path)][-1] == value


@pytest.mark.parametrize(
    "model",
    [Header, SourceEntry, ProgramEntry, ModelEntry, FrameEntry, FaceEntry, Event, Footer, OutputEntry, FileEntry],
)
def test_the_reference_describes_every_field(model: type[BaseModel]) -> None:
    page = (ROOT / "docs" / "reference" / "manifest.md").read_text()
    assert not [name for name in model.model_fields if f"`{name}`" not in page]


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the manifest at ``path`` again with changed settings, as who has no key can."""
    lines = [line for line, _ in read(path)]
    header = lines[0]
    assert isinstance(header, Header)
    change(header.settings)
    written(path, lines)
