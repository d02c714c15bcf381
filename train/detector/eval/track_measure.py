"""What `python -m train.detector evaluate-tracks` does."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stream_enhance.backends import Session
from stream_enhance.errors import InputError
from train.detector.eval import line_report
from train.detector.eval.labelled import read_all
from train.detector.eval.line import FrameResult, TrackResult, followed, on_frames, on_tracks
from train.detector.eval.on_clips import detections

SCORES = {"ours": 0.4, "public": 0.3, "yunet": 0.6}  # each network's threshold in the tracks' table
FOLLOWED = 5  # labelled times below which nobody can be followed in a clip


def measure_tracks(
    networks: Mapping[str, Callable[[], Session]],
    folders: Sequence[Path],
    labels: Path,
    sizes: Sequence[int],
    out: Path,
) -> str:
    """Tables of every network at every size; writes `tracks.md` and `tracks.png` into `out`, and what was detected.

    Raises InputError where a labelled clip is in none of `folders`.
    """
    clips = read_all(labels)
    paths = {clip.name: find(clip.name, folders) for clip in clips}
    frames: dict[tuple[str, int], dict[str, FrameResult]] = {}
    tracks: dict[tuple[str, int, float], list[TrackResult]] = {}
    for name, opener in networks.items():
        opened: list[Session] = []

        def once(opener: Callable[[], Session] = opener, opened: list[Session] = opened) -> Session:
            if not opened:
                opened.append(opener())
            return opened[0]

        for size in sizes:
            for clip in clips:
                found = detections(out / "detections", paths[clip.name], name, size, once)
                frames.setdefault((name, size), {})[clip.name] = on_frames(clip, found)
                if 0 < len(set(clip.seconds.tolist())) < FOLLOWED:
                    continue
                result = on_tracks(clip, followed(found, SCORES[name]))
                tracks.setdefault((name, size, SCORES[name]), []).append(result)
    text = "\n\n".join(
        [
            line_report.frames_table({key: list(held.values()) for key, held in frames.items()}),
            line_report.tracks_table(tracks),
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "tracks.md").write_text(text + "\n")
    line_report.plot_clips({key: held for key, held in frames.items() if key[1] == max(sizes)}, out / "tracks.png")
    return text


def find(name: str, folders: Sequence[Path]) -> Path:
    """The clip in one of the folders."""
    for folder in folders:
        if (path := folder / f"{name}.mp4").is_file():
            return path
    raise InputError(f"{name}.mp4: in none of the folders given; name its folder with --clips")
