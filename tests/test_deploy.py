"""The files for operators agree with the program."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Models

pytest.importorskip("fastapi")

from stream_enhance.server import metrics
from stream_enhance.server.config import read
from stream_enhance.server.supervisor import Supervisor

CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_example_of_cameras_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream_enhance.config import Config, merged, validated

    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    config, cameras = read(str(CONFIGS / "cameras.yaml"))
    assert set(cameras) == {"door", "yard"}
    for camera in cameras.values():
        assert validated(Config, merged(config.settings, camera.settings), "example").live.max_age == 0.5


def test_the_dashboard_asks_only_for_figures_that_there_are(models: Models) -> None:
    settings = {"detector": {"model": str(models.detector)}, "enhancer": {"model": str(models.enhancer)}, "threads": 1}
    cameras = Supervisor(settings, None)
    published = set(re.findall(r"# TYPE (\w+)", metrics.text(cameras)))
    cameras.close()
    panels = json.loads((CONFIGS / "grafana.json").read_text())["panels"]
    asked = {n for p in panels for t in p["targets"] for n in re.findall(r"stream_enhance_\w+", t["expr"])}
    assert {name.removesuffix("_bucket") for name in asked} <= published
    assert len(panels) == len({p["id"] for p in panels})
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(places) == len(panels), "no panel lies on another"
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["type"] in ("timeseries", "state-timeline", "stat", "heatmap")
        assert {t["refId"] for t in panel["targets"]}


def test_the_container_copies_what_is_there_and_the_unit_starts_what_there_is() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (CONFIGS / "Containerfile").read_text(), re.M)
    for name in " ".join(copied).split():
        assert (CONFIGS.parent / name).exists(), name
    assert "stream-enhance serve" in (CONFIGS / "stream-enhance.service").read_text()


def test_the_unit_is_confined() -> None:
    lines = (CONFIGS / "stream-enhance.service").read_text().splitlines()
    wanted = ["UMask=0077", "RestrictNamespaces=yes", "SystemCallArchitectures=native", "NoNewPrivileges=yes"]
    wanted += [f"ProtectKernel{what}=yes" for what in ("Logs", "Modules", "Tunables")]
    assert set(wanted) <= set(lines)


def test_grafanas_own_types_take_all_of_the_dashboard() -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    written = json.loads((CONFIGS / "grafana.json").read_text())
    read = models.Dashboard.from_json(written)
    back = json.loads(JSONEncoder(sort_keys=True).encode(read))
    assert len(read.panels) > 5
    assert holds(back, written), "no key that Grafana does not know, no value that it changes"


def holds(whole: object, part: object) -> bool:
    """Whether ``whole`` has all that ``part`` has, at every depth."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and holds(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(holds, whole, part))
    return whole == part
