"""The best shot of each track, before and after, as PNGs, a contact sheet and a page to leaf through.

``Gallery.observe`` sees every frame's enhanced faces and keeps one shot a track: the one of highest size x detector
score x sharpness.  Shots are written while the run goes on, so that a run of days needs no more memory than one of
minutes, and one that is killed leaves its frames; the sheet and the page come with ``close``.
"""

from __future__ import annotations

import html
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SinkError, redact
from ..safe_files import Originals, try_lock, write_whole
from ..types import Enhanced

log = logging.getLogger(__name__)

_OWN = re.compile(r"track_\d{5,}_(before|after)\.png|contact_sheet\.png|index\.html")  # a gallery's files
_HELD = 32  # tracks whose frames are in memory at once
_GONE = 2.0  # seconds unseen after which a track's best shot is written and its frames let go
_SETTLED = 1.0  # seconds from a track's beginning to its first writing: the first frames improve fast
_NOTABLY = 1.5  # times better than what is on the disk: written again
_KEPT = 1000  # tracks; beyond, the poorest shot is deleted
_SHEET = 240  # tracks on the contact sheet, the best ones
_CELL, _LABEL, _COLUMNS = 128, 22, 10  # of the contact sheet, pixels and cells


@dataclass(slots=True)
class Shot:
    """A track's best moment."""

    track: int
    seconds: float  # from the first frame
    height: int  # of the face's box, frame pixels
    quality: float
    before: NDArray[np.uint8] | None  # (S, S, 3) RGB; None once let go: the files hold it
    after: NDArray[np.uint8] | None
    begun: float  # seconds, when the track was first seen
    seen: float  # seconds, when it was last seen
    written: float = 0.0  # quality of what is on the disk; 0: nothing yet

    @property
    def names(self) -> tuple[str, str]:
        """File names of the frames before and after."""
        return f"track_{self.track:05d}_before.png", f"track_{self.track:05d}_after.png"

    @property
    def time(self) -> str:
        """When, as h:mm:ss.s or m:ss.s."""
        tenths = round(self.seconds * 10)
        hours, minutes, rest = tenths // 36_000, tenths // 600 % 60, tenths % 600 / 10
        return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


class Gallery:
    """Collects the best shot of each track into a folder.

    It is a side product: what cannot be written is counted and warned of once, and the run goes on.

    Args:
        folder: created if it is not there.
        source_name: what was watched, for the page's title; nothing that it reads is written over.
        changed_by: what changed the faces, for the page's notice.
        on_saved: called with the path of each file that was written.
        overwrite: replace the gallery that is there, all of it.

    Raises:
        SinkError: there is a gallery already, or the folder holds the originals.
    """

    def __init__(
        self,
        folder: Path,
        source_name: str,
        changed_by: str = "a neural network",
        on_saved: Callable[[Path], object] = lambda path: None,
        overwrite: bool = False,
    ) -> None:
        self._on_saved = on_saved
        self.folder, self._source, self._changed_by = Path(folder), redact(source_name), changed_by
        self._originals = Originals.of(source_name)
        self.failed = 0  # files that could not be written
        self.problem = ""  # why the first of them could not
        self._shots: dict[int, Shot] = {}  # every track's
        self._held: dict[int, Shot] = {}  # those with frames in memory, longest unseen first
        self._start: float | None = None
        self._deleted = False
        self._originals.refuse(self.folder)
        self._lock: int | None = None  # the open folder, locked until ``close``
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_folder()
            self._replace_gallery(overwrite)
        except OSError as error:
            self._fail(error)
        except SinkError:
            self._release_folder()
            raise

    def _take_folder(self) -> None:
        """Lock the folder against other runs."""
        self._lock = None if os.name == "nt" else os.open(self.folder, os.O_RDONLY)  # Windows opens no folder
        if self._lock is not None and not try_lock(self._lock):
            raise SinkError(f"{self.folder}: another run is writing its gallery there; name another folder")

    def _release_folder(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _replace_gallery(self, overwrite: bool) -> None:
        """Delete the files of a gallery that is there, so that none of its tracks is taken for one of this run."""
        there = [path for path in self.folder.iterdir() if _OWN.fullmatch(path.name)]
        if there and not overwrite:
            raise SinkError(f"{self.folder}: holds a gallery already; name another folder, or use --overwrite")
        self._originals.refuse(*there)
        for path in there:
            path.unlink()

    def observe(self, enhanced: Enhanced) -> None:
        """Look at a frame's faces; keep and write what is better than before."""
        faces, frame = enhanced.scene.faces, enhanced.scene.frame
        if self._start is None:
            self._start = frame.seconds
        now = frame.seconds - self._start
        for i, row in enumerate(enhanced.faces):
            track = int(faces.track[row])
            if track < 0:
                continue
            if (shot := self._shots.get(track)) is not None:
                shot.seen = now
                if track in self._held:
                    self._held[track] = self._held.pop(track)
            if i < len(enhanced.cached) and enhanced.cached[i]:
                continue  # its after is of an earlier moment than its before
            height = float(faces.xyxy[row, 3] - faces.xyxy[row, 1])
            quality = height * float(faces.score[row]) * _sharpness(enhanced.originals[i])
            if shot is None or quality > shot.quality:
                pair = [
                    _upright(p[i], enhanced.to_frame[i], frame.rotation) for p in (enhanced.originals, enhanced.patches)
                ]
                self._take(track, now, round(height), quality, pair)
        self._write_due(now)

    def close(self, sheet: bool = True) -> None:
        """Write what is left and the page, and with ``sheet`` the contact sheet, which takes seconds of many tracks."""
        for shot in list(self._held.values()):
            self._let_go(shot)
        shots = sorted(self._shots.values(), key=lambda s: (s.seconds, s.track))
        if sheet and shots:
            best = sorted(shots, key=lambda s: -s.quality)[:_SHEET]
            self._save("contact_sheet.png", _png(self._contact_sheet(sorted(best, key=lambda s: (s.seconds, s.track)))))
        page = self._page(shots, sheet).encode(errors="replace")  # a file's name may be no UTF-8
        self._save("index.html", page)
        self._release_folder()
        if self.failed:
            log.warning("%s: the gallery lacks %d files that could not be written", self.folder, self.failed)

    def _take(self, track: int, now: float, height: int, quality: float, pair: list[NDArray[np.uint8]]) -> None:
        known = self._shots.get(track)
        begun, written = (known.begun, known.written) if known else (now, 0.0)
        shot = Shot(track, now, height, quality, pair[0], pair[1], begun, now, written)
        self._shots[track] = shot
        self._held.pop(track, None)
        self._held[track] = shot

    def _write_due(self, now: float) -> None:
        for shot in list(self._held.values()):
            if now - shot.seen > _GONE or len(self._held) > _HELD:
                self._let_go(shot)
            elif now - shot.begun >= _SETTLED and shot.quality >= _NOTABLY * max(shot.written, 1e-9):
                self._write(shot)
        while len(self._shots) > _KEPT:
            self._delete(min(self._shots.values(), key=lambda s: s.quality))

    def _let_go(self, shot: Shot) -> None:
        """Write the shot if the disk has not got it, and keep its frames no longer."""
        if shot.quality > shot.written:
            self._write(shot)
        shot.before = shot.after = None
        self._held.pop(shot.track, None)

    def _write(self, shot: Shot) -> None:
        for name, frame in zip(shot.names, (shot.before, shot.after), strict=True):
            assert frame is not None
            self._save(name, _png(frame))
        shot.written = shot.quality

    def _delete(self, shot: Shot) -> None:
        for name in shot.names if shot.written else ():
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
        del self._shots[shot.track]
        self._held.pop(shot.track, None)
        self._deleted = True

    def _save(self, name: str, content: bytes) -> None:
        """Write a file in one piece: a full disk leaves no half image."""
        try:
            write_whole(self.folder / name, content, self._originals, replace=True)
        except (OSError, SinkError) as error:
            self._fail(error)
        else:
            self._on_saved(self.folder / name)

    def _fail(self, error: Exception) -> None:
        if not self.failed:
            self.problem = str(getattr(error, "strerror", None) or error)
            log.warning("%s: the gallery cannot be written there (%s); the run goes on", self.folder, self.problem)
        self.failed += 1

    def _contact_sheet(self, shots: list[Shot]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: each track's frame before above the one after, labelled."""
        columns = min(_COLUMNS, max(4, len(shots)))
        rows = -(-len(shots) // columns)
        gap, top = 6, 54
        width, height = _CELL + gap, 2 * _CELL + _LABEL + gap
        sheet = np.full((top + rows * height, columns * width + gap, 3), 24, np.uint8)
        title = self._source.encode("ascii", "replace").decode()
        _text(sheet, title, (gap, 20), 0.5)
        _text(sheet, f"above: the camera's; below: changed by {self._changed_by}", (gap, 42), 0.4)
        for i, shot in enumerate(shots):
            x, y = gap + i % columns * width, top + i // columns * height
            for k, name in enumerate(shot.names):
                sheet[y + k * _CELL : y + (k + 1) * _CELL, x : x + _CELL] = self._thumbnail(name)
            _text(sheet, f"track {shot.track}  {shot.time}", (x + 2, y + 2 * _CELL + 15), 0.4)
        return sheet

    def _thumbnail(self, name: str) -> NDArray[np.uint8]:
        frame = None
        with suppress(OSError, cv2.error):
            frame = cv2.imdecode(np.fromfile(self.folder / name, np.uint8), cv2.IMREAD_COLOR)
        if frame is None:  # it could not be written, or was taken away meanwhile
            return np.full((_CELL, _CELL, 3), 60, np.uint8)
        small = cv2.resize(frame, (_CELL, _CELL), interpolation=cv2.INTER_AREA)
        return small[:, :, ::-1].astype(np.uint8, copy=False)

    def _page(self, shots: list[Shot], with_sheet: bool) -> str:
        source, by = html.escape(self._source), html.escape(self._changed_by)
        cards = "\n".join(_card(shot) for shot in shots)
        count = f"{len(shots)} track{'' if len(shots) == 1 else 's'}"
        if self._deleted:
            count += ", the best of more"
        sheet = ' · <a href="contact_sheet.png">contact sheet</a>' if shots and with_sheet else ""
        return (
            _PAGE.replace("{{count}}", count + sheet)
            .replace("{{cards}}", cards or "<p>No face was enhanced in this run.</p>")
            .replace("{{by}}", by)
            .replace("{{source}}", source)
        )


def _sharpness(patch: NDArray[np.uint8]) -> float:
    """Standard deviation of the Laplacian of a (S, S, 3) patch (Pech-Pacheco et al., ICPR 2000).

    At 64 x 64, which is about what a camera gives of a face: larger, it would measure the enlargement.
    """
    small = cv2.resize(patch, (64, 64), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(cv2.GaussianBlur(small[:, :, 1], (3, 3), 0), cv2.CV_32F).std())


def _upright(patch: NDArray[np.uint8], to_frame: NDArray[np.float32], rotation: int) -> NDArray[np.uint8]:
    """A copy of ``patch``, turned as a player turns the frame unless its five points have turned it already."""
    tilt = abs(float(np.degrees(np.arctan2(to_frame[1, 0], to_frame[0, 0]))))
    return np.rot90(patch, rotation // 90 if tilt < 45 else 0).copy()


def _png(rgb: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def _text(image: NDArray[np.uint8], text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (230, 230, 230), 1, cv2.LINE_AA)


def _card(shot: Shot) -> str:
    before, after = shot.names
    what = f"track {shot.track} at {shot.time}"
    return f"""<figure>
<div class="pair"><img src="{after}" alt="{what}, enhanced" loading="lazy" width="256" height="256">
<img class="before" src="{before}" alt="{what}, as the camera saw it" loading="lazy" width="256" height="256"></div>
<input type="range" min="0" max="100" value="50" aria-label="How much of {what} to show as the camera saw it">
<figcaption><b>Track {shot.track}</b> · {shot.time} · face {shot.height} px high<br>
<a href="{before}">before</a> · <a href="{after}">after</a></figcaption>
</figure>"""


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Faces in {{source}}</title>
<style>
:root { color-scheme: light dark; --ground: #f6f6f4; --card: #fff; --ink: #1c1c1c; --soft: #5a5a5a; --line: #d5d5d0;
  --link: #0b57b0; --warn: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ground: #161616; --card: #212121; --ink: #ececec; --soft: #a8a8a8;
  --line: #3a3a3a; --link: #8ab8ff; --warn: #3a2f12; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
.count { color: var(--soft); margin: 0 0 1rem; }
.notice { background: var(--warn); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem;
  margin: 0 0 1.25rem; }
a { color: var(--link); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .75rem; }
.pair { position: relative; --x: 50%; }
.pair img { display: block; width: 100%; height: auto; border-radius: 4px; }
.pair .before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--x)) 0 0); }
.pair::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--x); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 2px #000; pointer-events: none; }
input { width: 100%; height: 2.25rem; margin: .25rem 0 0; cursor: ew-resize; touch-action: pan-y; }
figcaption { font-size: .9rem; color: var(--soft); }
figcaption b { color: var(--ink); }
</style>
<noscript><style>
.pair .before { position: static; clip-path: none; margin-top: .25rem; }
.pair::after, input { display: none; }
</style></noscript>
<h1>Faces in {{source}}</h1>
<p class="count">{{count}}</p>
<p class="notice"><b>The faces on the right were changed by {{by}}.</b> They show what such a face may
have looked like, not what the camera saw; that is on the left. Nothing here identifies anyone, and it is no evidence of
who anyone is.</p>
<main>
{{cards}}
</main>
<script>
document.querySelectorAll("input").forEach(function (slider) {
  slider.addEventListener("input", function () {
    slider.parentNode.querySelector(".pair").style.setProperty("--x", slider.value + "%");
  });
});
</script>
</html>
"""
