"""What the page and the PDF say of how a case was made, what it can show and what it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .record import Case

COMPARE = (
    "Comparison of persons is to be done on the original.  An enhanced face is an aid to the eye: what the network adds"
    " is likely for faces in general, not known of this person."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with paragraphs and rows of name and value."""

    title: str
    paragraphs: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()


def notice(case: Case) -> str:
    """What stands on top of the page and on page one."""
    by = sorted({video.changed_by for video in case.videos if video.changed_by})
    changed = f"Faces in the enhanced videos were changed by {' and '.join(by)}." if by else "No face was changed."
    if case.learned_video:
        changed += "  This is a learned method, chosen by whoever made this case."
    return f"{changed}  The originals are unchanged beside them.  {COMPARE}"


def sections(case: Case) -> list[Section]:
    """Footage, steps, literature, training, error rates and limits."""
    return [
        Section("Footage", rows=tuple(row for video in case.videos for row in _footage_rows(video.name, case))),
        Section("How it was made", _STEPS),
        Section("Literature", _LITERATURE),
        Section("What is known of the errors", _ERRORS, tuple(_card_rows(case))),
        Section("Limits", (COMPARE, *_LIMITS)),
        Section(
            "Program and networks",
            rows=(
                ("program", case.program),
                ("made", case.made),
                *((name, f"sha256 {about['sha256']}, on {about['provider']}") for name, about in case.models.items()),
            ),
        ),
    ]


def _card_rows(case: Case) -> Iterator[tuple[str, str]]:
    for name, about in case.models.items():
        yield f"{name}: trained on", about.get("data") or "not said by its card"
        yield f"{name}: known weaknesses", about.get("weaknesses") or "not said by its card"


def _footage_rows(name: str, case: Case) -> list[tuple[str, str]]:
    (video,) = (each for each in case.videos if each.name == name)
    lacks = "; ".join(video.notes)
    return [
        (
            name,
            f"{video.frames} frames, {video.duration:.2f} s, {video.width} x {video.height} pixels,"
            f" {video.bytes} bytes, sha256 {video.sha256}; recorded: {video.begun or 'not said by the file'}",
        ),
        (
            f"{name}, enhanced",
            f"{video.enhanced}, sha256 {video.enhanced_sha256}; changed by {video.changed_by or 'nothing'}"
            + (f"; lacks {lacks}" if lacks else ""),
        ),
    ]


_STEPS = (
    "1. The source was copied byte for byte and decoded; of the part shown here no frame was left out or added.",
    "2. Faces were found by a YOLOv8n detector with five points each, and followed by their overlap and motion."
    "  A track is one such sequence; its number says nothing of who it is.",
    "3. Each face was cut out, turned upright by its points and enlarged to 256 x 256 pixels by bicubic interpolation.",
    "4. Classical rendering: noise measured and removed by non-local means, motion blur by a Wiener filter where some"
    " was found, gamma and CLAHE on dark faces, Lanczos enlargement with back-projection, a mild unsharp mask.",
    "5. Learned rendering: a U-Net, trained on pairs of good and degraded faces, computes a face of the same size; it"
    " is mixed with the input by a share that is given beside each image.  Faces that are turned away, partly covered"
    " by the frame's edge, too sharp or too uncertain are left alone.",
    "6. Heat map: the result is taken down to the camera's resolution and enlarged again.  What is lost on the way was"
    " never recorded, and what then differs from the input contradicts it; both are shown, in grey levels.",
)
_LITERATURE = (
    "Detection: Jocher et al., Ultralytics YOLOv8, 2023.  Following: Zhang et al., ByteTrack, ECCV 2022.  Learned:"
    " Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017; Ronneberger et al.,"
    " U-Net, MICCAI 2015.  Classical: Buades et al., CVPR 2005; Wiener, 1949; Zuiderveld, 1994; Duchon, 1979."
    "  Back-projection: Irani and Peleg, CVGIP 1991.  Sharpness: Pech-Pacheco et al., ICPR 2000.",
)
_ERRORS = (
    "Measured on people whom training never saw, filmed by a simulated camera: the card of the network in the"
    " folder engines of the program states the gain in fidelity and how often a face becomes less like the person, by"
    " face size and group.  It draws small mouths more smiling than they were: up to 32 pixels of a face's height the"
    " mouth is shown as recorded, up to 48 in part, unless a strength was set.",
)
_LIMITS = (
    "A track may begin late, break, or change from one person to another where they cross; what is nobody's face may be"
    " followed.  A face that was not found is not in this case.",
    "Nothing here says who anybody is.",
)
