"""A case's page opened from the disk in a browser: what an investigator does there."""

import json
import shutil
from pathlib import Path

import cv2
import pytest

from stream_enhance.config import load
from stream_enhance.jobs.case.build import build_case
from stream_enhance.jobs.case.files import write
from stream_enhance.jobs.case.page import page
from stream_enhance.jobs.case.record import read_case
from tests.conftest import ROOT
from tests.live.browser import Browser, needs_browser
from tests.media import read_image

pytestmark = [pytest.mark.timeout(180), needs_browser]
DEMO = ROOT / "tests" / "clips" / "demo.mp4"
NAME = "gate #2 50%.mp4"  # as it must not stand in a URL


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "case"
    footage = folder.with_name(NAME)
    shutil.copy(DEMO, footage)
    build_case([footage], folder, load(None, ["enhancer.kind=classical", "source.end=2"]))
    return folder


def opened(browser: Browser, case: Path) -> None:
    browser.open((case / "index.html").as_uri())
    browser.wait("document.documentElement?.dataset.ready === '1'")
    browser.wait("boxes[0] !== undefined && original.readyState >= 2 && enhanced.readyState >= 2")


def test_an_investigator_steps_zooms_marks_and_saves(case: Path, tmp_path: Path) -> None:
    made = read_case(case)
    track = made.videos[0].tracks[0]
    with Browser() as browser:
        opened(browser, case)
        browser.eval("document.querySelector('.card .go').click()")
        assert browser.eval("state.frame") in {shot.frame for shot in track.shots}
        before = browser.eval("state.frame")
        browser.press("ArrowRight")
        browser.press("ArrowRight")
        browser.press("ArrowLeft")
        assert browser.eval("state.frame") == before + 1
        browser.wait("!original.seeking && !enhanced.seeking")
        assert abs(browser.eval("original.currentTime - enhanced.currentTime")) < 0.001
        browser.eval("$('zoom').value = 4; $('zoom').dispatchEvent(new Event('input'))")
        assert browser.eval("$('zoomed').textContent") == "16×"
        browser.eval("$('mode').value = 'slider'; $('mode').dispatchEvent(new Event('input'))")
        assert browser.eval("!$('wipe').hidden && $('right').parentElement.hidden")
        browser.eval("$('mark').click(); document.querySelector('#marks input').value = 'here'")
        browser.eval("document.querySelector('#marks input').dispatchEvent(new Event('input'))")
        folder = str(tmp_path)
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder)
        browser.eval("$('save').click()")
        browser.wait("true")
        notes = tmp_path / "notes.json"
        for _ in range(100):
            if notes.exists():
                break
            browser.eval("new Promise(done => setTimeout(done, 100))")
        (mark,) = json.loads(notes.read_text())["marks"]
        assert (mark["video"], mark["frame"], mark["text"]) == (NAME, before + 1, "here")
        browser.eval("$('still').click()")
        assert f"--video '{NAME}' --frame {before + 1} " in browser.eval("$('command').value")
        assert not browser.errors


def test_the_page_shows_the_frame_it_names(case: Path, tmp_path: Path) -> None:
    """The clock in the demo's corner tells frames apart: what is drawn is compared with the file's own frame."""
    with Browser() as browser:
        opened(browser, case)
        browser.eval("show(0, 30)")
        browser.wait("!original.seeking && original.readyState >= 2")
        browser.eval("$('boxes').click(); $('numbers').click(); $('mode').value = 'original'; draw()")
        browser.eval("$('player').scrollIntoView()")
        browser.screenshot(tmp_path / "page.png")
        rect = browser.eval("(r => [r.x, r.y, r.width, r.height])($('left').getBoundingClientRect())")
    x, y, width, height = (round(v) for v in rect)
    shot = read_image(tmp_path / "page.png")[:, :, ::-1][y : y + height, x : x + width]
    capture = cv2.VideoCapture(str(DEMO))
    frames = [capture.read()[1] for _ in range(50)]
    scaled = [cv2.resize(frame, (shot.shape[1], height))[: shot.shape[0]] for frame in frames]
    errors = [float(cv2.norm(frame, shot, cv2.NORM_L2)) for frame in scaled]
    assert errors.index(min(errors)) == 30


def test_videos_with_any_name_play(case: Path) -> None:
    made = read_case(case)
    name = "video/gate #1, 100%?\n.mp4"
    (case / name).write_bytes((case / made.videos[0].original).read_bytes())
    video = made.videos[0].model_copy(update={"original": name})
    write(case / "odd.html", page(made.model_copy(update={"videos": (video,)})).encode())
    with Browser() as browser:
        browser.open((case / "odd.html").as_uri())
        browser.wait("document.documentElement?.dataset.ready === '1'")
        browser.wait("original.readyState >= 2 && enhanced.readyState >= 2", 20)
        assert not browser.errors
    (case / name).unlink()


def test_an_hour_with_500_tracks_opens(case: Path, tmp_path: Path) -> None:
    made = read_case(case)
    video = made.videos[0]
    track = video.tracks[0]
    many = [
        track.model_copy(update={"id": i, "first": 7.0 * i, "last": 7.0 * i + 9, "frames": 225}) for i in range(500)
    ]
    long = video.model_copy(update={"frames": 90_000, "duration": 3600.0, "tracks": tuple(many)})
    write(case / "long.html", page(made.model_copy(update={"videos": (long,)})).encode())
    with Browser() as browser:
        browser.open((case / "long.html").as_uri())
        browser.wait("document.documentElement?.dataset.ready === '1'")
        print(
            "ready after",
            browser.eval("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"),
            "ms",
        )
        assert browser.eval("document.querySelectorAll('.card').length") == 500
        assert browser.eval("bars.length") == 501
        assert not browser.errors
