from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from stream_enhance.config import Config, load, merged
from stream_enhance.errors import ConfigError
from stream_enhance.report import Report

ROOT = Path(__file__).resolve().parent.parent


def test_without_anything_it_is_the_defaults() -> None:
    assert load() == Config()


def test_a_file_and_then_the_overrides(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("detector: {every: 3, score: 0.5}\nsink:\n  crf: 30\n")
    config = load(path, ["detector.every=4", "overlay.watermark=false", "sink.codec=hevc"])
    assert (config.detector.every, config.detector.score, config.sink.crf) == (4, 0.5, 30)
    assert config.overlay.watermark is False
    assert config.sink.codec == "hevc"


def test_enhancer_may_be_a_word(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("enhancer: classical\n")
    assert load(path).enhancer.kind == "classical"
    config = load(path, ["enhancer.min_face=20"])
    assert (config.enhancer.kind, config.enhancer.min_face) == ("classical", 20)
    assert load(path, ["enhancer=none"]).enhancer.kind == "none"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("detector.evry=2", "did you mean detector.every"),
        ("nonsense=1", "unknown key nonsense"),
        ("detector.every=0", "detector.every"),
        ("detector.every=two", "detector.every"),
        ("sink.codec=mpeg2", "sink.codec"),
        ("sink.pixel_format=yuv42p", "sink.pixel_format: FFmpeg knows no 'yuv42p'; take one of its pixel formats"),
        ("detector.every", "section.key=value"),
        ("=3", "section.key=value"),
        ("provider.name=x", "provider"),
        ("detector.every=[1", "not YAML"),
        ("detector.every=2024-13-45", "not YAML"),
    ],
)
def test_a_wrong_override_is_named_with_its_cure(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        load(None, [override])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("detector: {evry: 2}\n", "unknown key detector.evry; did you mean detector.every"),
        ("detector: [1\n", "not YAML at line"),
        ("- a\n- b\n", "must hold keys and values"),
        ("? [a]\n: 1\n", "not YAML at line 1, column 3: found unhashable key"),
        ("detector: !!python/object/apply:os.system ['true']\n", "not YAML"),
        ("source: {rate: 2024-13-45}\n", "not YAML at line 1, column 16: no timestamp; put it in quotes if it is text"),
        ("source:\n  rate: !!bool maybe\n", "not YAML at line 2, column 9: no bool"),
        pytest.param("[" * 5000, "too many brackets", id="deep"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as raised:
        load(path)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="not YAML"):
        load(tmp_path / "image.yaml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert load(path) == Config()


def test_nothing_can_be_changed_after() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config().detector.every = 3  # type: ignore[misc]


RUN_SETTINGS = sorted(p for p in (ROOT / "configs").glob("*.yaml") if p.name.startswith("file_"))


@pytest.mark.parametrize("path", RUN_SETTINGS, ids=lambda p: p.name)
def test_the_settings_that_come_with_it_load(path: Path) -> None:
    assert isinstance(load(path), Config)


def test_the_commented_settings_are_the_defaults() -> None:
    assert load(ROOT / "configs" / "file_cpu.yaml") == Config()


RENAMED = [
    ("enhancer.cache_change", "enhancer.cache_tolerance", 3.0),
    ("enhancer.cache_seconds", "enhancer.cache_ttl", 1.5),
    ("enhancer.likeness", "enhancer.min_consistency", 0.5),
    ("overlay.mark", "overlay.watermark", False),
    ("tracker.keep", "tracker.coast_ttl", 0.5),
    ("tracker.remember", "tracker.lost_ttl", 2.0),
    ("tracker.certain", "tracker.confirm_threshold", 0.7),
    ("tracker.doubt", "tracker.low_score_ttl", 3.0),
]


@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
@pytest.mark.parametrize("way", ["file", "override", "model"])
def test_a_renamed_key_is_read_and_its_new_name_given(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    value: object,
    way: str,
) -> None:
    monkeypatch.setattr("stream_enhance.config._warned", set())
    (section, key), path = old.split("."), tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({section: {key: value}}))
    match way:
        case "file":
            config = load(path)
        case "override":
            config = load(None, [f"{old}={yaml.safe_dump(value).splitlines()[0]}"])
        case _:
            config = Config.model_validate({section: {key: value}})
    assert getattr(getattr(config, section), new.partition(".")[2]) == value
    (warning,) = caplog.messages
    assert f"{old} is called {new} now" in warning


def test_an_override_wins_whichever_name_it_has(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("enhancer: {cache_change: 3}\n")
    assert load(path, ["enhancer.cache_tolerance=4"]).enhancer.cache_tolerance == 4
    path.write_text("enhancer: {cache_tolerance: 3}\n")
    assert load(path, ["enhancer.cache_change=4"]).enhancer.cache_tolerance == 4


def test_both_names_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("overlay: {mark: true, watermark: false}\n")
    with pytest.raises(ConfigError, match=r"overlay\.mark is called overlay\.watermark now, and both are set"):
        load(path)


def test_a_camera_may_have_the_new_name_of_what_all_have_the_old_one_of() -> None:
    data = merged({"overlay": {"mark": True, "scale": 2}, "threads": 1}, {"overlay": {"watermark": False}})
    assert data == {"overlay": {"watermark": False, "scale": 2}, "threads": 1}


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _models(field.annotation)


@pytest.mark.parametrize("model", [*_models(Config), Report], ids=lambda m: m.__name__)
def test_every_key_has_a_description(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert section or field.description, f"{model.__name__}.{name}"
        assert not section or field.annotation.__doc__
