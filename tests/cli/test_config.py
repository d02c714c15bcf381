"""``stream-enhance config``: what it prints can be given back."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from stream_enhance.config import Config, load
from tests.conftest import Command

SET = [
    "detector.every=7",
    "enhancer=classical",
    "overlay.watermark=false",
    "sink.pixel_format=yuv420p",
    "live.wait=yes",
]


@pytest.mark.parametrize("overrides", [[], SET], ids=["defaults", "changed"])
def test_what_show_prints_is_the_configuration(command: Command, tmp_path: Path, overrides: list[str]) -> None:
    shown = command("config", "show", *(word for override in overrides for word in ("--set", override)))
    assert shown.code == 0
    path = tmp_path / "shown.yaml"
    path.write_text(shown.out)
    assert load(path) == load(None, overrides)


def test_show_says_what_each_key_does(command: Command) -> None:
    lines = command("config", "show").out.splitlines()
    assert "  # Least score of a face." in lines
    for above, line in pairwise(lines):
        if ":" in line and not line.lstrip().startswith("#"):
            assert above.lstrip().startswith("#"), f"nothing describes {line}"


def test_keys_outside_sections_come_first(command: Command) -> None:
    lines = command("config", "show").out.splitlines()
    assert lines[0].startswith("# ")
    sections = lines[lines.index("") :]  # a blank line before each
    assert [line for line in sections if line and line[0] not in " #" and not line.endswith(":")] == []


def test_show_reads_a_file_and_refuses_a_wrong_one(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("detector: {every: 5}\n")
    assert "  every: 5" in command("config", "show", "--config", path).out.splitlines()
    path.write_text("detector: {evry: 5}\n")
    wrong = command("config", "show", "--config", path)
    assert wrong.code == 2
    assert "did you mean detector.every" in wrong.error


def test_the_schema_knows_every_key_and_its_bounds(command: Command) -> None:
    schema = json.loads(command("config", "schema").out)
    assert set(schema["properties"]) == set(Config.model_fields)
    every = schema["$defs"]["DetectorOptions"]["properties"]["every"]
    assert every["minimum"] == 1
    assert every["default"] == Config().detector.every
    assert every["description"]
    assert schema["$defs"]["DetectorOptions"]["additionalProperties"] is False
