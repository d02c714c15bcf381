"""What is in a source: its streams, as plain data, and what would not reach the enhanced copy."""

from __future__ import annotations

import json
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from ..errors import SourceError, printable
from ..imaging.planes import LAYOUTS
from ..jobs.batch import output_name
from ..sinks.codecs import Encoding, choose_encoder, pixel_format
from ..sinks.passthrough import is_chapter_track, why_not
from ..sinks.target import FORMATS
from ..sources.base import Source
from ..sources.open import open_source
from ..types import StreamInfo

_MATRICES = {1: "BT.709", 2: "unspecified", 5: "BT.601 (PAL)", 6: "BT.601 (NTSC)", 9: "BT.2020", 0: "RGB"}


def inspect_source(spec: str) -> dict[str, Any]:
    """The source that ``spec`` names, as data that can be written as JSON; ``lost`` says what a copy would lose.

    Raises:
        SourceError: it cannot be opened, or holds no video that can be decoded.
    """
    source = open_source(spec)
    try:
        if source.info.live:
            raise SourceError(f"{source.info.name}: a live camera cannot be probed; give a file")
        if source.info.format == "images":
            return {
                "source": source.info.name,
                "container": "images",
                "frames": source.info.frame_count,
                "lost": [],
            }
        return _video(source, Path(spec))
    finally:
        source.close()


def _video(source: Source, path: Path) -> dict[str, Any]:
    with closing(source.frames()) as frames:
        first = next(frames)
    info, image = first.stream, first.image
    found: dict[str, Any] = {
        "source": info.name,
        "container": info.format,
        "duration_s": round(info.duration, 3) if info.duration else None,
        "bit_rate": info.bit_rate or None,
        "bytes": path.stat().st_size if "://" not in str(path) and path.is_file() else None,
        "metadata": dict(info.metadata),
        "streams": [_stream(stream) for stream in info.streams],
    }
    video = found["streams"][info.video_index]
    video |= {
        "enhanced": True,
        "pixel_format": image.format.name,
        "rotation": first.rotation,
        "interlaced": image.interlaced_frame,
        "matrix": _MATRICES.get(int(image.colorspace), _name(Colorspace, image.colorspace)),
        "range": _name(ColorRange, image.color_range),
        "primaries": _name(ColorPrimaries, image.color_primaries),
        "transfer": _name(ColorTrc, image.color_trc),
    }
    name = output_name(path)
    form = FORMATS[name.suffix.lower()]
    found["output"] = name.name
    found["lost"] = [*_lost_frames(image), *info.notes, *_lost_streams(info, form)]
    if info.chapters and form == "mpegts":
        found["lost"].append(f"its {len(info.chapters)} chapter marks")
    return found


def _stream(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    found: dict[str, Any] = {
        "index": stream.index,
        "type": stream.type,
        "codec": context.name if context else getattr(stream, "name", None),
        "language": stream.metadata.get("language"),
        "duration_s": round(float(stream.duration * stream.time_base), 3) if stream.duration else None,
    }
    if stream.type == "video" and context:
        aspect = stream.sample_aspect_ratio
        found |= {
            "width": context.width,
            "height": context.height,
            "rate": str(Fraction(stream.average_rate)) if stream.average_rate else None,
            "frames": stream.frames or None,
            "pixel_aspect": f"{aspect.numerator}:{aspect.denominator}" if aspect else None,
            "time_base": str(Fraction(stream.time_base)) if stream.time_base else None,
            "pixel_format": context.pix_fmt,
        }
    if stream.type == "audio" and context:
        found |= {"sample_rate": context.sample_rate, "channels": context.channels}
    return found


def _lost_frames(first: av.VideoFrame) -> list[str]:
    """What the encoding takes from the frames themselves."""
    encoding = Encoding()
    encoder = choose_encoder(encoding.codec, encoding.hardware)
    form = first.format.name
    kept = pixel_format(av.Codec(encoder, "w"), form)
    lost = []
    if kept != form:
        lost.append(f"the pixel format {form}: {encoder} is given {kept}")
    layout = LAYOUTS.get(kept)
    if layout and (first.width % (1 << layout.sx) or first.height % (1 << layout.sy)):
        lost.append(f"the odd size {first.width}x{first.height}: it is padded by a repeated edge")
    return lost


def _lost_streams(info: StreamInfo, form: str) -> list[str]:
    """Streams other than video that the output cannot hold."""
    streams = [s for s in info.side_streams if not (info.chapters and is_chapter_track(s))]
    return [why for s in streams if (why := why_not(form, s))]


def _name(kind: Any, value: int) -> str:
    try:
        return str(kind(int(value)).name).lower()
    except ValueError:
        return str(int(value))


def format_summary(found: dict[str, Any]) -> str:
    """``inspect_source``'s answer for people."""
    if "streams" not in found:
        return f"{printable(found['source'])}: a folder of {found['frames']} images"
    size = f", {found['bytes'] / 1e6:.1f} MB" if found["bytes"] else ""
    length = f"{found['duration_s']:.2f} s" if found["duration_s"] else "length unknown"
    lines = [f"{found['source']}: {found['container']}, {length}{size}"]
    for stream in found["streams"]:
        facts = [f"  {stream['index']}: {stream['type']}", stream["codec"] or "unknown codec"]
        if "width" in stream:
            facts += [f"{stream['width']}x{stream['height']}", stream["pixel_format"] or "", _rate(stream["rate"])]
        if stream.get("enhanced"):
            facts += [f"matrix {stream['matrix']}", f"range {stream['range']}"]
            facts += [f"turned by {stream['rotation']} degrees"] if stream["rotation"] else []
            facts += ["interlaced"] if stream["interlaced"] else []
            facts += [f"{stream['frames']} frames"] if stream["frames"] else []
        if "sample_rate" in stream:
            facts += [f"{stream['sample_rate']} Hz", f"{stream['channels']} channels"]
        facts += [stream["language"] or ""]
        lines.append(", ".join(fact for fact in facts if fact))
    if found["lost"]:
        lines += [f"An enhanced copy ({found['output']}) would lose:", *(f"  {what}" for what in found["lost"])]
    else:
        lines.append(f"An enhanced copy ({found['output']}) would lose no stream and no tag.")
    return "\n".join(printable(line) for line in lines)


def _rate(rate: str | None) -> str:
    return f"{float(Fraction(rate)):.6g} frames/s" if rate else "rate unknown"


@click.command()
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(source: str, as_json: bool) -> None:
    """Show what is in SOURCE, and what an enhanced copy would lose."""
    found = inspect_source(source)
    click.echo(json.dumps(found, indent=2) if as_json else format_summary(found))
