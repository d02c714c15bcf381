"""The commands of both networks begin and end alike; the old names still work and say what the new ones are."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

pytest.importorskip("torch")

from stream_enhance.errors import ConfigError, InputError
from train import OLD_COMMANDS
from train.common import recipe as common
from train.common.command import Command, LossNotFinite, Several, finite, refuse_existing, run
from train.common.recipe import CardText, Part
from train.detector.cli import PLACES as DETECTOR
from train.detector.cli import main as detector
from train.detector.cli import with_new_form
from train.enhancer.cli import PLACES as ENHANCER
from train.enhancer.cli import main as enhancer

ROOT = Path(__file__).parents[2]


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(("name", "code"), [("failed", 1), ("input", 2), ("folder", 2), ("usage", 2), ("fine", 0)])
def test_a_command_ends_with_one_line_and_its_exit_code(
    name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command(cls=Command)
    @click.argument("how")
    def act(how: str) -> None:
        match how:
            case "failed":
                finite(float("nan"), 7, "lower the rate")
            case "input":
                raise InputError("x.yaml: cannot be used")
            case "folder":
                Path("/nowhere/at/all").write_text("")
            case "usage":
                raise click.UsageError("name a file")

    assert run(act, [name], "act") == code
    assert capsys.readouterr().err.count("\n") == (code > 0)


@pytest.mark.parametrize(("main", "places"), [(enhancer, ENHANCER), (detector, DETECTOR)], ids=["enhancer", "detector"])
def test_every_command_says_what_it_takes(
    main: Callable[[list[str]], int], places: dict[str, tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"train", "export"} <= set(places)
    for name in places:
        assert main([name, "--help"]) == 0
        assert f"{name} [OPTIONS]" in capsys.readouterr().out
    assert main(["dance"]) == 2
    assert "No such command 'dance'" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_the_same_error_for_both_networks() -> None:
    finite(0.5, 1, "")
    for loss in (float("nan"), float("inf")):
        with pytest.raises(
            LossNotFinite, match=f"the loss is {loss} at step 3; lower it; the last good checkpoint is kept"
        ):
            finite(loss, 3, "lower it")


def test_an_option_of_several_values_ends_at_the_next_option() -> None:
    found: dict[str, object] = {}

    @click.command(cls=Command)
    @click.option("--sizes", cls=Several, type=int, default=[8])
    @click.option("--model")
    def act(sizes: tuple[int, ...], model: str | None) -> None:
        found.update(sizes=sizes, model=model)

    for words, sizes, model in [
        (["--sizes", "24", "-5", "--model", "a"], (24, -5), "a"),
        (["--model", "a", "--sizes", "1", "--sizes", "2"], (1, 2), "a"),
        ([], (8,), None),
    ]:
        assert run(act, words, "act") == 0
        assert found == {"sizes": sizes, "model": model}


@pytest.mark.parametrize("form", ["train.{}", "train.enhancer.{}"])
def test_a_module_that_was_a_command_runs_the_new_one_with_a_warning(form: str) -> None:
    done = python("-W", "error", "-m", form.format("shards"), "--faces", "nowhere", "--out", "nowhere")
    warning, error = done.stderr.splitlines()
    assert warning == (
        f"warning: `python -m {form.format('shards')}` is now `python -m train.enhancer shards`; "
        "the old name goes in the next release"
    )
    assert error.startswith("error: nowhere")
    assert done.returncode == 2


@pytest.mark.parametrize("name", OLD_COMMANDS)
def test_every_old_name_is_found(name: str) -> None:
    assert name in ENHANCER
    assert importlib.util.find_spec(f"train.{name}") is not None
    with pytest.raises(ImportError, match=f"train.{name} is now train.enhancer.{name}"):
        importlib.import_module(f"train.{name}")


def test_nothing_else_below_train_is_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("train.nothing")


FIRST = "configs/train/detector/01_first.yaml"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([], ["train", FIRST, "--out", "runs/detector"]),
        (["--recipe", "r", "--run", "d", "--resume"], ["train", "r", "--out", "d", "--resume"]),
        (["data", "--recipe", "r", "--workers", "3"], ["data", "r", "--workers", "3"]),
        (
            ["export", "--recipe", "r", "--run", "d", "--out", "o"],
            ["export", "d/last.pt", "--recipe", "r", "--out", "o"],
        ),
        (["eval", "--recipe", "r", "--network", "n"], ["eval", "r", "--model", "n"]),
        (["eval", "--network", "n"], ["eval", FIRST, "--model", "n"]),
    ],
)
def test_the_detectors_old_form_is_read_with_a_warning(
    old: list[str], new: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_new_form(old) == new
    assert capsys.readouterr().err.startswith(f"warning: write `python -m train.detector {' '.join(new)}`")
    assert with_new_form(new) == new
    assert not capsys.readouterr().err


class Inner(Part):
    new: int = 0


class Outer(Part):
    inner: tuple[Inner, ...] = ()
    card: CardText = CardText()


def test_a_renamed_key_works_for_one_release_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="r.yaml: the key `old` is now `new`; the old name goes in the next release"):
        found = common.parse(Outer, {"inner": [{"old": 3}]}, "r.yaml", {"old": "new"})
    assert found.inner[0].new == 3
    with pytest.raises(ConfigError, match=r"r.yaml: old and new are one key; write new only"):
        common.parse(Outer, {"inner": [{"old": 3, "new": 4}]}, "r.yaml", {"old": "new"})


def test_a_command_warns_of_a_renamed_key_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("pictures: 1\n")
    done = python("-m", "train.detector", "data", str(path))
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert warning == f"warning: {path}: the key `pictures` is now `images`; the old name goes in the next release"
    assert error.startswith(f"error: {path}: ")


def test_a_wrong_key_and_a_wrong_change_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("inner: [{new: 1}]\n")
    assert common.load(Outer, path, ["card.data=drawn"]).card.data == "drawn"
    for change, says in [
        ("card.date=1", r"r\.yaml: card\.date: Extra inputs"),
        ("card", "--set card: write key=value"),
        ("card.data=[", "--set card.data=\\[: \\[ is not a YAML value"),
        ("inner.0.new=1", "--set inner.0.new=1: inner holds a value, not keys"),
    ]:
        with pytest.raises(ConfigError, match=says):
            common.load(Outer, path, [change])
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        common.load(Outer, tmp_path / "none.yaml")


def test_an_existing_file_is_not_written_over_unasked(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    refuse_existing(path, overwrite=False)
    path.write_bytes(b"ours")
    with pytest.raises(InputError, match=r"net\.onnx: exists already; name another file or add --overwrite"):
        refuse_existing(path, overwrite=False)
    refuse_existing(path, overwrite=True)


def test_a_network_whose_recipe_says_nothing_carries_nothing_of_ours() -> None:
    assert CardText().data == CardText().weaknesses == "not stated"
