"""Several cameras in one process: what happens to one leaves the others alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Models
from tests.live.cameras import Camera, Poisoned, needs_camera, wait_until

pytest.importorskip("fastapi")

from stream_enhance.errors import ConfigError
from stream_enhance.server.config import CameraConfig
from stream_enhance.server.shots import ShotStore
from stream_enhance.server.supervisor import Supervisor

pytestmark = [pytest.mark.timeout(300), needs_camera]


def settings(models: Models) -> dict[str, Any]:
    return {
        "detector": {"model": str(models.detector), "every": 1},
        "enhancer": {"model": str(models.enhancer)},
        "threads": 1,
        "live": {"max_age": 3, "stall": 5},
    }


def out(cameras: Supervisor, name: str) -> int:
    camera = cameras.get(name)
    assert camera is not None
    return camera.counts()["out"]


def test_a_poisoned_frame_restarts_its_own_camera_only(models: Models, tmp_path: Path) -> None:
    with Camera(paths="cam,second") as server:
        cameras = Supervisor(settings(models), ShotStore(tmp_path))
        cameras.put("good", CameraConfig(url=server.url))
        cameras.put("poisoned", CameraConfig(url=server.url.replace("/cam", "/second")))
        wait_until(lambda: out(cameras, "good") > 5 and out(cameras, "poisoned") > 5)
        bad, good = cameras.get("poisoned"), cameras.get("good")
        assert bad is not None
        assert good is not None
        run = bad._run
        assert run is not None
        run.detect._session = Poisoned(run.detect._session)
        wait_until(lambda: bad.restarts)
        assert bad.error
        before = out(cameras, "poisoned")
        wait_until(lambda: bad.state == "live" and out(cameras, "poisoned") > before + 5)
        assert bad.error == ""
        assert good.restarts == 0
        cameras.close()
    for camera in (good, bad):
        counts = camera.counts()
        assert counts["in"] == counts["out"] + counts["dropped"]


def test_adding_and_removing_leaves_no_thread_behind(models: Models, tmp_path: Path) -> None:
    before = threading.active_count()
    with Camera() as server:
        cameras = Supervisor(settings(models), ShotStore(tmp_path))
        for _ in range(3):
            cameras.put("door", CameraConfig(url=server.url))
            wait_until(lambda: out(cameras, "door") > 3)
            assert cameras.remove("door")
        cameras.close()
        wait_until(lambda: threading.active_count() <= before)


def test_cameras_share_the_networks_and_sum_up(models: Models, tmp_path: Path) -> None:
    with Camera(paths="a,b,c,d", fps=5, width=320, height=240) as server:
        cameras = Supervisor(settings(models), ShotStore(tmp_path))
        for name in "abcd":
            cameras.put(name, CameraConfig(url=server.url.replace("/cam", f"/{name}")))
        wait_until(lambda: all(out(cameras, name) > 10 for name in "abcd"))
        sizes = cameras.pipeline.sessions["face-detection"].sizes  # type: ignore[attr-defined]
        assert sum(rows * count for rows, count in sizes.items()) >= 40
        cameras.close()


@pytest.mark.parametrize(
    ("name", "own"),
    [("front door", {}), ("gate", {"detektor": {}}), ("gate", {"detector": {"model": "other.onnx"}})],
)
def test_what_cannot_be_used_changes_nothing(models: Models, tmp_path: Path, name: str, own: dict[str, Any]) -> None:
    door, yard = (CameraConfig(url=f"rtsp://127.0.0.1:9/{path}", paused=True) for path in "ab")
    cameras = Supervisor(settings(models), ShotStore(tmp_path))
    cameras.reconcile({"door": door})
    with pytest.raises(ConfigError):
        cameras.reconcile({"yard": yard, name: CameraConfig(url="rtsp://127.0.0.1:9/c", settings=own)})
    assert [camera.name for camera in cameras] == ["door"]
    cameras.close()


def test_a_pause_outlives_a_file_that_says_nothing_new_of_it(models: Models, tmp_path: Path) -> None:
    def paused() -> bool:
        camera = cameras.get("door")
        assert camera is not None
        return camera.state == "paused"

    on, off = (CameraConfig(url="rtsp://127.0.0.1:9/x", paused=paused) for paused in (False, True))
    cameras = Supervisor(settings(models), ShotStore(tmp_path))
    cameras.reconcile({"door": on})
    cameras.put("door", off)  # as the page does
    assert cameras.reconcile({"door": on}) == []
    assert paused()
    assert cameras.reconcile({"door": on.model_copy(update={"outputs": ("a.mp4",)})}) == ["door changed"]
    assert paused()
    cameras.reconcile({"door": off})
    cameras.reconcile({"door": on})
    assert not paused(), "the file's own entry has changed"
    cameras.close()
