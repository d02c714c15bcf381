"""``stream-enhance engine``: compiled engines built, checked, timed, listed and deleted."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click

_MODELS = {"detector": "face-detection", "enhancer": "face-enhancement"}
_BENCHED = (("face-detection", (384, 640)), ("face-enhancement", (256, 256)))  # heights and widths, pixels
_cache = click.option(
    "--cache", type=click.Path(path_type=Path), help="Folder of the engines; the user's cache without."
)


@click.group(name="engine")
def command() -> None:
    """Build TensorRT for RTX engines ahead of time, and look after them.

    An engine is built on any x86-64 machine; the card that it is for need not be there.  What it needs:
    pip install '.[rtx]'.
    """


@command.command()
@click.option(
    "--target", default="sm86", show_default=True, help="The card's compute capability: sm86 is the RTX 3050."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="ONNX files; the shipped ones without.",
)
@_cache
def build(target: str, models: tuple[Path, ...], cache: Path | None) -> None:
    """Build an engine of each model for cards of one kind."""
    from ..backends import engines, tensorrt_rtx
    from ..backends.half import half_file

    folder = engines.cache_folder(cache)
    for path in models or _shipped():
        key, profile = _key(path, target)
        began = time.monotonic()
        engine = tensorrt_rtx.build(half_file(path, folder), target, profile)
        built = engines.store(folder, key, engine, time.monotonic() - began)
        click.echo(f"{built}: {len(engine) / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")


@command.command(name="list")
@_cache
def list_engines(cache: Path | None) -> None:
    """List the engines, what each was built for, and what is wrong with those that are damaged."""
    from ..backends import engines
    from ..errors import ModelError

    folder = engines.cache_folder(cache)
    found = list(engines.listing(folder))
    for path, card in found:
        if isinstance(card, ModelError):
            click.echo(f"{path.name}: DAMAGED ({card})")
            continue
        key = card.key
        click.echo(
            f"{path.name}: {key.model} {key.precision} for {key.target}, {key.library} {key.library_version},"
            f" {card.size / 1e6:.1f} MB, input {key.profile}"
        )
    if not found:
        click.echo(f"{folder}: holds no engines; build them with `stream-enhance engine build`")


@command.command()
@_cache
def prune(cache: Path | None) -> None:
    """Delete engines that are damaged, of another model or of another version of the library."""
    from ..backends import engines, tensorrt_rtx
    from ..backends.card import file_sha256
    from ..errors import ModelError

    folder = engines.cache_folder(cache)
    try:
        versions = {"tensorrt-rtx": tensorrt_rtx.version()}
    except ModelError:  # not installed: its engines are not out of date
        versions = {}
    deleted = engines.prune(folder, {path.name: file_sha256(path) for path in _shipped()}, versions)
    for path, why in deleted:
        click.echo(f"{path.name}: deleted ({why})")
    click.echo(f"{len(deleted)} deleted")


@command.command()
@click.option("--faces", default=64, show_default=True, help="How many patches are compared.")
@click.option("--device", default="cpu", show_default=True, help="Where torch computes in half: cpu, cuda, cuda:1.")
def check(faces: int, device: str) -> None:
    """Compare half precision with float32 on both shipped networks; exit code 1 where they differ too much.

    The enhancer must keep 60 dB, the detector its count of faces, boxes within a pixel and scores within 0.01.
    """
    from ..backends.parity import compare

    failed = False
    for path, task in zip(_shipped(), _MODELS.values(), strict=True):
        result = compare(path, task, faces, device)
        failed = failed or not result.good
        click.echo(f"{path.name}: {result.text}: {'right' if result.good else 'WRONG'}")
    if failed:
        raise SystemExit(1)


@command.command()
@click.option(
    "--provider", "only", help="One provider; all that are there without. It waits until the provider has compiled."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="How often each batch is run.")
@_cache
def bench(only: str | None, rounds: int, cache: Path | None) -> None:
    """Time both shipped networks on each provider that is there: median milliseconds a batch."""
    from ..backends import open_session
    from ..backends.onnx import available
    from ..errors import ModelError

    there: list[Any] = [only] if only else available()
    if not only and there == ["cpu"]:
        click.echo("no GPU that onnxruntime can use: only the CPU is timed (`stream-enhance doctor` says why)")
    for provider in there:
        for path, (task, shape) in zip(_shipped(), _BENCHED, strict=True):
            try:
                with open_session(path, task, provider, cache=cache) as session:
                    times = ", ".join(f"{n}: {_median_ms(session, (n, 3, *shape), rounds):.2f} ms" for n in (1, 4, 8))
                    precision = f", {session.precision}" if session.provider == "cpu" else ""
                click.echo(f"{provider}{precision}: {path.name} {shape[0]}x{shape[1]}, batch {times}")
            except ModelError as error:
                if only:
                    raise
                click.echo(f"{provider}: {error}")


def _median_ms(session: Any, shape: tuple[int, ...], rounds: int) -> float:
    """Of ``rounds`` runs after one that does not count."""
    import numpy as np

    from ..backends.preprocessing import to_input

    images = list(np.random.default_rng(0).integers(0, 256, (shape[0], *shape[2:], 3), np.uint8))
    batch, times = to_input(images, session.card), []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        session(batch)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:]) * 1e3


def _shipped() -> list[Path]:
    from ..shipped import DETECTOR, UNET, default_model

    return [default_model(DETECTOR), default_model(UNET)]


def _key(path: Path, target: str) -> tuple[Any, Any]:
    """The key of an engine of ``path`` for ``target``, and its profile."""
    from ..backends import engines, tensorrt_rtx
    from ..backends.card import file_sha256, read_card

    card = read_card(path)
    profile = tensorrt_rtx.profile_of(card.task, card.size, card.channels[0])
    key = engines.EngineKey(
        model=path.name,
        model_sha256=file_sha256(path),
        library="tensorrt-rtx",
        library_version=tensorrt_rtx.version(),
        target=target,
        precision="fp16",
        profile=str(profile),
    )
    return key, profile
