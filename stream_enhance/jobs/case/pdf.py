"""The case as a PDF of A4 pages, by fpdf2: what was done to which footage, and the faces' best shots."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...extras import install_hint
from .files import write
from .method import notice, sections
from .record import Case, Notes, ShotEntry, TrackEntry

_CAPTIONS = {
    "original": "camera's pixels",
    "bicubic": "bicubic",
    "classical": "classical",
    "learned": "learned",
    "heat": "added by it",
}
_IMAGE, _GAP = 34.0, 3.0  # mm


def write_pdf(case: Case, folder: Path) -> None:
    """Write ``report.pdf``.

    Raises:
        InputError: fpdf2 is not installed.
        SinkError: it cannot be written.
    """
    try:
        from fpdf import FPDF
    except ModuleNotFoundError:
        raise InputError(f"a case's PDF needs fpdf2; {install_hint('evidence')}") from None
    pdf: Any = FPDF()
    pdf.set_title(latin(case.title))
    pdf.set_creator(case.program)
    pdf.set_creation_date(datetime.fromisoformat(case.made))
    pdf.set_auto_page_break(True, 15)
    pdf.add_page()
    _heading(pdf, case.title, 18)
    pdf.set_fill_color(255, 243, 214)
    _paragraph(pdf, notice(case), fill=True)
    _paragraph(pdf, f"Made {case.made} by {case.program}.  Case {case.id}.")
    for section in sections(case):
        _heading(pdf, section.title, 13)
        for paragraph in section.paragraphs:
            _paragraph(pdf, paragraph)
        for name, value in section.rows:
            _paragraph(pdf, f"{name}: {value}")
    if case.notes:
        _notes(pdf, case.notes)
    for video in case.videos:
        pdf.add_page()
        _heading(pdf, f"Faces in {video.name}", 13)
        if not video.tracks:
            _paragraph(pdf, "No face was found in this footage.")
        for track in video.tracks:
            _track(pdf, folder, track)
    write(folder / "report.pdf", bytes(pdf.output()))


def latin(text: str) -> str:
    """``text`` in the letters of the PDF's own fonts; others as their code after a backslash."""
    return text.replace("–", "-").replace("×", "x").encode("latin-1", "backslashreplace").decode("latin-1")


def _heading(pdf: Any, text: str, size: int) -> None:
    pdf.set_font("Helvetica", "B", size)
    pdf.ln(2)
    pdf.multi_cell(0, size / 2, latin(text), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)


def _paragraph(pdf: Any, text: str, fill: bool = False) -> None:
    pdf.set_font("Helvetica", "", 9)
    pdf.multi_cell(
        0,
        4.4,
        latin(text),
        fill=fill,
        align="L",
        new_x="LMARGIN",
        new_y="NEXT",
        wrapmode="CHAR" if _long(text) else "WORD",
    )
    pdf.ln(1)


def _long(text: str) -> bool:
    return any(len(word) > 90 for word in text.split())


def _notes(pdf: Any, notes: Notes) -> None:
    _heading(pdf, "The investigator's notes", 13)
    if notes.text:
        _paragraph(pdf, notes.text)
    for mark in notes.marks:
        _paragraph(pdf, f"{mark.video}, frame {mark.frame}: {mark.text}")
    for name, seconds in notes.offsets.items():
        _paragraph(pdf, f"{name} is taken to begin {seconds} seconds later than its clock says.")


def _track(pdf: Any, folder: Path, track: TrackEntry) -> None:
    if pdf.will_page_break(_IMAGE + 20):
        pdf.add_page()
    pdf.set_font("Helvetica", "B", 10)
    enhanced = f"enhanced on {track.enhanced} of {track.frames} frames" if track.enhanced else "left alone"
    when = f"{track.first:.2f} to {track.last:.2f} s"
    text = f"Track {track.id}: {when}, {track.small} to {track.large} pixels high, {enhanced}"
    pdf.multi_cell(0, 5, latin(text), new_x="LMARGIN", new_y="NEXT")
    for shot in track.shots:
        _shot(pdf, folder, shot)


def _shot(pdf: Any, folder: Path, shot: ShotEntry) -> None:
    if pdf.will_page_break(_IMAGE + 14):
        pdf.add_page()
    yaw = "" if shot.yaw is None else f", turned {shot.yaw:.2f}"
    about = f"{', '.join(shot.criteria)}: frame {shot.frame}, {shot.seconds:.2f} s, {shot.height:.0f} pixels high"
    about += f", score {shot.score:.2f}{yaw}"
    if "learned" in shot.images:
        about += f"; strength {shot.strength:.2f}, {shot.added:.1f} grey levels added on average"
    if shot.left_alone:
        about += f"; the network leaves it alone: {shot.left_alone}"
    pdf.set_font("Helvetica", "", 8)
    pdf.multi_cell(0, 4, latin(about), new_x="LMARGIN", new_y="NEXT")
    top, x = pdf.get_y() + 1, pdf.l_margin
    for kind, caption in _CAPTIONS.items():
        if kind not in shot.images:
            continue
        pdf.image(str(folder / shot.images[kind]), x=x, y=top, w=_IMAGE)
        pdf.set_xy(x, top + _IMAGE)
        pdf.cell(_IMAGE, 4, caption)
        x += _IMAGE + _GAP
    pdf.set_xy(pdf.l_margin, top + _IMAGE + 5)
